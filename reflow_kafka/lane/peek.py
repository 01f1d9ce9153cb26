"""What is committed of a key: read from the store of a stage, beside its worker, for queries."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

import msgspec

from reflow_kafka.definition.operators import Keyed, Operator, Windowed
from reflow_kafka.serde.keys import decode_key, partition_of
from reflow_kafka.serde.typed import state_codec
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.state.store import LaneStores
from reflow_kafka.timed.keyed import place_of, store_at
from reflow_kafka.timed.kinds import windows_program
from reflow_kafka.timed.states import States
from reflow_kafka.timed.windowed import Stock
from reflow_kafka.topology.plan import Node, Plan
from reflow_kafka.windows import Window


class AsOf(msgspec.Struct, frozen=True):
    """Where the lane stood that has answered: after its last commit."""

    lane: int
    offset: int
    """Of the stage's changelog: all records before it are in the answer."""
    positions: Mapping[str, int]
    """Of the topics that the stage reads: all events before them are in the answer."""


class OpenWindow(msgspec.Struct, frozen=True):
    """A window that has not closed; times in epoch ms."""

    start: int
    end: int
    state: msgspec.Raw


# ---- what can be asked for


def asked_for(node: Node, store: str | None) -> bool:
    """Whether the stage keeps something by key: a state, or with `store` a store of that name."""
    operator = node.stage.operator
    if store is not None:
        return isinstance(operator, Keyed) and store in operator.stores
    kept = operator is None or peek.dispatch(type(operator)) is not peek.dispatch(Operator)
    return node.role == "handler" and node.stage.state is not None and kept


def lanes_of(plan: Plan, node: Node, key: bytes, store: str | None) -> tuple[int, ...]:
    """The lanes that may know of a key, the likeliest first: one, where we have placed the key ourselves.

    Who writes a topic that the stage reads directly may place keys differently; and the keys in a named store
    are whatever its handler has chosen.
    """
    inputs = plan.host(node.name).inputs
    likely = partition_of(key, inputs[0].partitions)
    if store is None and all(entry.internal for entry in inputs):
        return (likely,)
    return (likely, *(lane for lane in range(node.lanes) if lane != likely))


# ---- looking


def look(node: Node, stores: LaneStores, key: bytes, store: str | None) -> bytes | None:
    """What is committed of a key, as JSON; None if that is nothing."""
    if store is not None:
        return stores.get(node.name, store_at(store) + key)
    if node.stage.operator is None:
        return stores.get(node.name, key)
    return peek(node.stage.operator, node, stores, key)


@singledispatch
def peek(operator: Operator, node: Node, stores: LaneStores, key: bytes) -> bytes | None:
    """The same of a stage with this operator. One function per kind; a kind without one cannot be asked."""
    raise NotImplementedError(type(operator).__name__)


@peek.register
def _keyed(operator: Keyed, node: Node, stores: LaneStores, key: bytes) -> bytes | None:
    return stores.get(node.name, place_of(key))


@peek.register
def _windowed(operator: Windowed, node: Node, stores: LaneStores, key: bytes) -> bytes | None:
    spec = node.stage.state
    assert spec is not None
    codec = state_codec(spec.type)
    states = States(spec.factory, boxed=spec.boxed, encode=codec.encode, decode=codec.decode)
    # Shelves of its own: those of the worker hold more than what is committed.
    program = windows_program(Stock(functools.partial(Shelf, stores, node.name), states), operator.window)
    found = [
        OpenWindow(start, end, msgspec.Raw(states.encode(state))) for start, end, state in program.open(key)
    ]
    return msgspec.json.encode(found) if found else None


# ---- reading the answer


def decoder(node: Node, key: bytes, store: str | None) -> Callable[[bytes], Any]:
    """From the JSON of an answer to its value: a state as its handler takes it, or those of open windows."""
    operator, state = node.stage.operator, node.stage.state
    if store is not None:
        assert isinstance(operator, Keyed)
        return state_codec(operator.stores[store].type).decode
    assert state is not None
    decode = state_codec(state.type).decode
    if not isinstance(operator, Windowed):
        return decode

    def windows(raw: bytes) -> dict[Window, Any]:
        found = msgspec.json.decode(raw, type=list[OpenWindow])
        return {Window(w.start, w.end, decode_key(key)): decode(bytes(w.state)) for w in found}

    return windows

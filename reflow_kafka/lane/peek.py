"""What is committed of a key: read from the store of a stage, beside its worker, for queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

import msgspec

from reflow_kafka.definition.operators import Keyed
from reflow_kafka.serde.keys import partition_of
from reflow_kafka.serde.typed import state_codec
from reflow_kafka.state.store import LaneStores
from reflow_kafka.timed.keyed import place_of
from reflow_kafka.topology.plan import Node, Plan


class AsOf(msgspec.Struct, frozen=True):
    """Where the lane stood that has answered: after its last commit."""

    lane: int
    offset: int
    """Of the stage's changelog: all records before it are in the answer."""
    positions: Mapping[str, int]
    """Of the topics that the stage reads: all events before them are in the answer."""


@singledispatch
def peek(operator: object, store: str, stores: LaneStores, key: bytes) -> bytes | None:
    """What the stage with this operator (None: with no more than a state) keeps for a key, as JSON; None if
    that is nothing. One function per kind of operator; a kind without one cannot be asked.
    """
    raise NotImplementedError(type(operator).__name__)


@peek.register
def _state(operator: None, store: str, stores: LaneStores, key: bytes) -> bytes | None:
    return stores.get(store, key)


@peek.register
def _keyed(operator: Keyed, store: str, stores: LaneStores, key: bytes) -> bytes | None:
    return stores.get(store, place_of(key))


def can_be_asked(node: Node) -> bool:
    """Whether the stage keeps something by key that `peek` finds."""
    known = peek.dispatch(type(node.stage.operator)) is not peek.dispatch(object)
    return node.role == "handler" and node.stage.state is not None and known


def decoder(node: Node) -> Callable[[bytes], Any]:
    """From the JSON of an answer to the value: a state as its handler takes it, else plain data."""
    state = node.stage.state
    if state is not None and isinstance(node.stage.operator, Keyed | None):
        return state_codec(state.type).decode
    return msgspec.json.decode


def lanes_of(plan: Plan, node: Node, key: bytes) -> tuple[int, ...]:
    """The lanes in which the state of a key may be: one, where we have placed the key ourselves.

    Who writes a topic that the stage reads directly may place keys differently; there all lanes are named,
    the likeliest first.
    """
    inputs = plan.host(node.name).inputs
    likely = partition_of(key, inputs[0].partitions)
    if all(entry.internal for entry in inputs):
        return (likely,)
    return (likely, *(lane for lane in range(node.lanes) if lane != likely))

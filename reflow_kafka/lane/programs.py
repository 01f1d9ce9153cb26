"""Makes the program of a timed stage, with the shelves on which it keeps what it remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, TypeVar

from reflow_kafka.context import Context
from reflow_kafka.definition.operators import (
    Answers,
    AsOfJoin,
    Dedupe,
    Gather,
    Keyed,
    LatestJoin,
    Meetings,
    Operator,
    References,
    StreamJoin,
    TableJoin,
    Windowed,
    Zip,
)
from reflow_kafka.serde.keys import KeyOf, key_getter
from reflow_kafka.serde.typed import Codec, edge_codec, state_codec
from reflow_kafka.state.shelf import Shelf, Shelves, as_is
from reflow_kafka.state.store import LaneStores
from reflow_kafka.stores import KeyValue
from reflow_kafka.timed import keyed
from reflow_kafka.timed.dedupe import Dedupe as DedupeProgram
from reflow_kafka.timed.foreign_key import Answers as AnswersProgram
from reflow_kafka.timed.foreign_key import Meetings as MeetingsProgram
from reflow_kafka.timed.foreign_key import References as ReferencesProgram
from reflow_kafka.timed.gather import GatherProgram
from reflow_kafka.timed.kinds import windows_program
from reflow_kafka.timed.program import Program
from reflow_kafka.timed.states import States
from reflow_kafka.timed.stream_join import AT_HAND, Span, decode_chunk, encode_chunk
from reflow_kafka.timed.stream_join import StreamJoin as StreamJoinProgram
from reflow_kafka.timed.stream_table import AsOf, Latest, decode_history, encode_history
from reflow_kafka.timed.table_table import TableJoin as TableJoinProgram
from reflow_kafka.timed.windowed import Stock
from reflow_kafka.timed.zipped import ZipProgram
from reflow_kafka.topology.plan import Node, Plan

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Materials:
    """What a program is made of."""

    plan: Plan
    node: Node
    stores: LaneStores
    context: Context = field(default_factory=Context)
    """What the stage's codes get as ``ctx``."""
    shelves: Shelves = field(default_factory=Shelves)

    def shelf(
        self, prefix: bytes, encode: Callable[[T], bytes], decode: Callable[[bytes], T], **limits: int
    ) -> Shelf[T]:
        """A shelf in the stage's store, whose keys begin with `prefix` there: one byte, its own."""
        return self.shelves.add(Shelf(self.stores, self.node.name, prefix, encode, decode, **limits))

    def codecs(self, stage: str | None = None) -> list[Codec]:
        """How values of each side are written, as its edge has them; those of another stage by its name.

        Programs keep what they write: a join of dicts took 530 MB in W6 of the benchmarks where one of
        structs took 190, as each value held 4 kB.
        """
        node = self.node if stage is None else self.plan.host(stage)
        sides = {entry.side: edge_codec(entry.type, entry.format).for_keeping() for entry in node.inputs}
        return [sides[side] for side in sorted(sides)]

    def sides(self) -> tuple[Codec, Codec]:
        """The same of a stage with two sides."""
        left, right = self.codecs()
        return left, right


@singledispatch
def make_program(operator: Operator, materials: Materials) -> Program:
    """The program of a stage with this operator."""
    raise NotImplementedError(type(operator).__name__)


@make_program.register
def _keyed(operator: Keyed, materials: Materials) -> Program:
    program = keyed.Keyed(
        materials.shelf,
        states=_states(materials.node),
        ttl=_ms(operator.ttl),
        timers=operator.timers,
        stores={name: _store(kind) for name, kind in operator.stores.items()},
    )
    materials.context._time = program.book
    return program


@make_program.register
def _dedupe(operator: Dedupe, materials: Materials) -> Program:
    id_of = None if operator.by is None else key_getter(operator.by)
    return DedupeProgram(materials.shelf, id_of, operator.within)


@make_program.register
def _windowed(operator: Windowed, materials: Materials) -> Program:
    states = _states(materials.node)
    assert states is not None
    stock = Stock(
        materials.shelf,
        states,
        tells="on_close" in materials.node.stage.codes,
        by_wall=operator.close_on == "wall-clock",
        codecs=materials.codecs(),
        values_only=operator.values_only,
    )
    return windows_program(stock, operator.window)


def _states(node: Node) -> States | None:
    state = node.stage.state
    if state is None:
        return None
    codec = state_codec(state.type)
    return States(state.factory, boxed=state.boxed, encode=codec.encode, decode=codec.decode)


def _store(kind: KeyValue) -> keyed.StoreKind:
    codec = state_codec(kind.type)
    return keyed.StoreKind(codec.encode, codec.decode, _ms(kind.ttl))


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else max(round(seconds * 1000), 1)


@make_program.register
def _gather(operator: Gather, materials: Materials) -> Program:
    handler, expect = materials.node.stage.handler, operator.expect
    return GatherProgram(
        materials.shelf,
        materials.codecs(),
        expect=expect if isinstance(expect, int) else _told(expect),
        within=operator.within,
        clock=operator.close_on,
        id_of=None if operator.id is None else key_getter(operator.id),
        events=handler is not None and handler.takes_event,
    )


def _told(where: KeyOf) -> Callable[[Any], object]:
    """What a value tells somewhere, None if it has no such field."""
    if not isinstance(where, str):
        return where

    def find(value: Any) -> object:
        return value.get(where) if isinstance(value, Mapping) else getattr(value, where, None)

    return find


@make_program.register
def _zip(operator: Zip, materials: Materials) -> Program:
    return ZipProgram(materials.shelf, materials.codecs(), limit=operator.limit)


# ---- joins


@make_program.register
def _stream_join(operator: StreamJoin, materials: Materials) -> Program:
    left = materials.shelf(b"j", encode_chunk, decode_chunk, limit=AT_HAND)
    right = materials.shelf(b"J", encode_chunk, decode_chunk, limit=AT_HAND)
    span = Span(operator.before, operator.after, operator.grace)
    agenda = materials.shelf(b"x", as_is, as_is)
    return StreamJoinProgram((left, right), agenda, materials.sides(), operator.how, span)


@make_program.register
def _latest_join(operator: LatestJoin, materials: Materials) -> Program:
    assert operator.how != "outer"
    return Latest(materials.shelf(b"r", as_is, as_is), materials.sides()[1], operator.how)


@make_program.register
def _as_of_join(operator: AsOfJoin, materials: Materials) -> Program:
    assert operator.how != "outer"
    rows = materials.shelf(b"r", encode_history, decode_history)
    agenda = materials.shelf(b"x", as_is, as_is)
    return AsOf(rows, agenda, materials.sides(), operator.how, operator.grace)


@make_program.register
def _table_join(operator: TableJoin, materials: Materials) -> Program:
    rows = (materials.shelf(b"r", as_is, as_is), materials.shelf(b"R", as_is, as_is))
    return TableJoinProgram(rows, materials.sides(), operator.how)


@make_program.register
def _references(operator: References, materials: Materials) -> Program:
    keys, numbers = materials.shelf(b"r", as_is, as_is), materials.shelf(b"n", as_is, as_is)
    return ReferencesProgram(keys, numbers, materials.codecs()[0], key_getter(operator.on))


@make_program.register
def _meetings(operator: Meetings, materials: Materials) -> Program:
    rows, references = materials.shelf(b"r", as_is, as_is), materials.shelf(b"f", as_is, as_is)
    return MeetingsProgram(rows, references, materials.codecs()[1])


@make_program.register
def _answers(operator: Answers, materials: Materials) -> Program:
    assert operator.how != "outer"
    results, agenda = materials.shelf(b"r", as_is, as_is), materials.shelf(b"x", as_is, as_is)
    rows = (materials.codecs(operator.references)[0], materials.codecs(operator.meetings)[1])
    return AnswersProgram(results, agenda, rows, operator.how)

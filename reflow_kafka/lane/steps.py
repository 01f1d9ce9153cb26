"""Carrying out what a program says: the user's code is called, and what it gives is prepared.

Nothing has an effect yet: the step is accepted, and its results delivered, by whoever has it carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reflow_kafka.context import Context
from reflow_kafka.definition.spec import Shape
from reflow_kafka.event import Event
from reflow_kafka.lane.code import Code
from reflow_kafka.lane.compile import MissingKey
from reflow_kafka.lane.emitter import Emitter, Prepared
from reflow_kafka.lane.given import given
from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.serde.keys import timestamp_getter
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.state.shelf import Shelves
from reflow_kafka.timed.program import NO_HEADERS, Act, Call, Due, Incoming, Program
from reflow_kafka.topology.plan import Input, Node
from reflow_kafka.units import FARTHEST, epoch_ms

LATE: Final = "late"
"""The output for events that came too late."""
_LATEST: Final = (
    FARTHEST + FARTHEST // 2
)  # a record of ours may be later than any event by the size of windows


@dataclass(frozen=True, slots=True)
class Timing:
    """What a timed stage works with besides."""

    program: Program
    shelves: Shelves
    codes: Mapping[str, Code]
    context: Context | None
    """What its codes get as ``ctx``, if one takes it."""
    now: Callable[[], int]
    """The wall clock, in epoch ms."""


class Steps:
    """The codes of one stage in one lane, as its program has them called."""

    def __init__(
        self,
        codes: Mapping[str, Code],
        context: Context | None,
        emitter: Emitter,
        shelves: Shelves,
        name: str,
    ) -> None:
        self.in_code = False
        """Whether what has failed last is the user's code: only then another try may help."""
        self.late = 0
        """Events of the last step that go to the output ``late``."""
        self.suspends = any(code.shape.suspends for code in codes.values())
        self._codes = codes
        self._ctx = context
        self._emitter = emitter
        self._shelves = shelves
        self._name = name

    def carry_out(self, acts: Iterator[Act], cause: Incoming | Due, watermark: int) -> Prepared:
        """The results of a step whose code does not wait; what it changes is encoded."""
        prepared: Prepared = []
        self.in_code, self.late = False, 0
        for act in acts:
            if isinstance(act, Call):
                code = self._enter(act, cause, watermark)
                results = self._leave(act, code.call(act.arguments))
            else:
                results = (act.event,)
                self.late += isinstance(act.event, Event) and act.event.to == LATE
            if results:
                prepared += self._emitter.prepare(results, act, act.timestamp)
        self._shelves.encode()
        return prepared

    async def carry_out_waiting(self, acts: Iterator[Act], cause: Incoming | Due, watermark: int) -> Prepared:
        """The same of any code."""
        prepared: Prepared = []
        self.in_code, self.late = False, 0
        for act in acts:
            if isinstance(act, Call):
                code = self._enter(act, cause, watermark)
                results = self._leave(act, await code.call_waiting(act.arguments))
            else:
                results = (act.event,)
                self.late += isinstance(act.event, Event) and act.event.to == LATE
            prepared += self._emitter.prepare(results, act, act.timestamp)
        self._shelves.encode()
        return prepared

    def _enter(self, act: Call, cause: Incoming | Due, watermark: int) -> Code:
        self.in_code = True
        ctx = self._ctx
        if ctx is not None:
            ctx.key_bytes, ctx.timestamp, ctx._headers = act.key, act.timestamp, act.headers
            ctx._cleared, ctx.watermark, ctx._span = False, watermark, act.span
            if isinstance(cause, Incoming):
                ctx._id, ctx.upstream = cause.id, cause.upstream
            else:
                ctx._id, ctx.upstream = f"{self._name}/{cause.id.hex()}", ""
        return self._codes[act.code]

    def _leave(self, act: Call, results: Sequence[Any]) -> Sequence[Any]:
        self.in_code = False
        act.cleared = self._ctx is not None and self._ctx._cleared
        return () if act.quiet else results

    def alone(self) -> Callable[..., Any] | None:
        """The handler, where it can be called without any of this: it asks for nothing by name, and gives
        one result at once.
        """
        code = self._codes.get("handler")
        if code is None or self.suspends or code.by_name or code.shape is not Shape.PLAIN:
            return None
        return code.function


def entrance(
    node: Node, entry: Input, partition: TopicPartition, *, asks: bool
) -> Callable[[Record], Incoming]:
    """What makes a record of an input the event that the program gets; `asks`: code may ask for its id."""
    read = reading(entry)
    handler, operator = node.stage.handler, node.stage.operator
    takes_event = handler is not None and handler.takes_event
    upstream, side, place = entry.upstream, entry.side, f"{partition.topic}/{partition.partition}/"
    named = asks or operator is None or operator.by_id
    needs_key = operator is None or operator.needs_key(side)

    def enter(r: Record) -> Incoming:
        key = r.key
        if key is None and needs_key:
            raise MissingKey
        value, timestamp = read(r)
        if takes_event:
            value = given(r, value, timestamp=timestamp, origin=partition, upstream=upstream)
        id = f"{place}{r.offset}" if named else ""
        headers = list(r.headers) if r.headers else NO_HEADERS
        return Incoming(key, value, timestamp, upstream, id, headers, side)

    return enter


def reading(entry: Input) -> Callable[[Record], tuple[Any, int]]:
    """What finds value and time of a record."""
    codec = edge_codec(entry.type, entry.format)
    fast, decode = codec.read or codec.decode, codec.decode
    timestamp_of = timestamp_getter(entry.timestamp) if entry.timestamp else None

    def read(r: Record) -> tuple[Any, int]:
        raw = r.value
        if not -_LATEST <= r.timestamp <= _LATEST:
            epoch_ms(r.timestamp)  # raises
        if raw is None:
            return None, r.timestamp
        try:
            value = fast(raw)
        except ValueError:  # what is wrong is said by `decode`, if something is
            value = decode(raw)
        return value, r.timestamp if timestamp_of is None else timestamp_of(value)

    return read

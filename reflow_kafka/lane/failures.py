"""What becomes of an event that failed, as its stage says; its state has been undone already."""

from __future__ import annotations

import logging
from typing import Any, Final

from reflow_kafka.errors import DataLoss, FlowStopped, Reject, StateError
from reflow_kafka.event import Event
from reflow_kafka.lane.dead_letter import DeadLetterPlace, error_headers
from reflow_kafka.lane.emitter import Emitter, Prepared
from reflow_kafka.lane.given import given
from reflow_kafka.lane.outbox import Channel
from reflow_kafka.lane.work import Tally
from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.topology.plan import Node

NO_EVENTS_FAULT: Final = (DataLoss, FlowStopped, StateError)
"""Errors that end the lane, wherever they come up."""
TOLD: Final = 3
"""Dead letters that are logged; the topic has them all."""


def event_at(origin: TopicPartition, offset: int) -> str:
    """What an event is called."""
    return f"event {origin.topic}[{origin.partition}]@{offset}"


class Failures:
    """The `on_error` of one stage in one worker. What it gives is delivered and committed like results."""

    def __init__(
        self,
        node: Node,
        flow: str,
        emitter: Emitter,
        dead_letters: Channel,
        tally: Tally,
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._node = node
        self._inputs = {i.topic: i for i in node.inputs}
        self._flow = flow
        self._emitter = emitter
        self._dead_letters = dead_letters
        self._tally = tally
        self._log = log
        self.letters = 0
        """Dead letters that have not been held against the stage yet."""

    def take_letters(self) -> int:
        """Dead letters since the last call."""
        letters, self.letters = self.letters, 0
        return letters

    def outcome(
        self,
        record: Record,
        origin: TopicPartition,
        error: Exception,
        tries: int = 1,
        what: str | None = None,
        side: int | None = 0,
    ) -> Prepared:
        """What is to be delivered in its place: nothing, what goes to "error", what the stage's function
        gives, or its dead letter. `what` it is called where it is told of: as an event unless given.
        `side`: where it has come from, if `origin` is no input; None: its value is JSON of no type.

        Raises:
            FlowStopped: the stage says that a failure stops the flow.
        """
        policy = self._node.stage.on_error
        rejected = isinstance(error, Reject)
        if policy == "skip" and not rejected:
            self._tally.skipped += 1
            return []
        if policy == "stop" and not rejected:
            raise FlowStopped(
                f"stage {self._node.name!r} stopped the flow (on_error='stop'): {type(error).__name__}: "
                f"{error}; {what or event_at(origin, record.offset)}"
            ) from error
        try:
            if self._emitter.follows("error"):
                return self._to_error(record, origin, error, tries, side)
            if callable(policy) and not rejected:
                result = policy(error, self._event(record, origin, side))
                return self._emitter.prepare((result,), record, record.timestamp)
        except Exception as second:
            second.__context__ = error
            error = second
        return self.dead_letter(record, origin, error, tries, what)

    def dead_letter(
        self,
        record: Record,
        origin: TopicPartition,
        error: Exception,
        tries: int = 1,
        what: str | None = None,
    ) -> Prepared:
        """The event, as it came, for the dead letters."""
        self._tally.dead_letters += 1
        self.letters += 1
        if self._tally.dead_letters <= TOLD:
            cause = f"{type(error).__name__}: {error}"
            what = what or event_at(origin, record.offset)
            self._log.warning("%s dead-lettered after %d tries: %s", what, tries, cause)
        written = self._written(record)
        headers = error_headers(written, origin, self._flow, self._node.name, error, tries)
        place = DeadLetterPlace(self._dead_letters, written.key)
        return [(place, written.timestamp, written.key, written.value, headers)]

    def _written(self, record: Record) -> Record:
        """The event as a dead letter holds it."""
        return record

    def _event(self, record: Record, origin: TopicPartition, side: int | None) -> Event[Any]:
        inputs = self._node.inputs
        entry = self._inputs.get(origin.topic) or next((i for i in inputs if i.side == side), inputs[0])
        decode = (edge_codec(Any) if side is None else edge_codec(entry.type, entry.format)).decode
        value = None if record.value is None else decode(record.value)
        return given(record, value, timestamp=record.timestamp, origin=origin, upstream=entry.upstream)

    def _to_error(
        self, record: Record, origin: TopicPartition, error: Exception, tries: int, side: int | None
    ) -> Prepared:
        cause = error_headers(record, origin, self._flow, self._node.name, error, tries)
        event = self._event(record, origin, side)
        event = event.replace(event.value, headers={n: data or b"" for n, data in cause}, to="error")
        return self._emitter.prepare((event,), record, record.timestamp)

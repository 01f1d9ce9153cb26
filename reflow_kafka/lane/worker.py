"""A worker: one stage in one lane, running the user's handler over what the lane reads.

What all workers share stands here: how results, state and positions come into a commit, and what becomes of
an event that failed. In which order events are begun is decided by `serial` (one after the other) and
`overlap` (many at once).
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from reflow_kafka.clock import monotonic
from reflow_kafka.definition.spec import Shape, StateBy, emitted_by
from reflow_kafka.errors import ReflowError
from reflow_kafka.lane.backlog import Backlog
from reflow_kafka.lane.calm import Calm
from reflow_kafka.lane.chain import Chain
from reflow_kafka.lane.clock import WorkClock
from reflow_kafka.lane.compile import Compilation, compile_stage
from reflow_kafka.lane.emitter import Emitter, Lead
from reflow_kafka.lane.env import place_logger
from reflow_kafka.lane.failures import Failures, event_at
from reflow_kafka.lane.gate import MAX_BYTES, MAX_DIRTY, Gate
from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.lane.lifecycle import Lifecycle
from reflow_kafka.lane.line import Item, Unit
from reflow_kafka.lane.lines import Lines
from reflow_kafka.lane.outbox import Channel, Outbox
from reflow_kafka.lane.parking import Parking
from reflow_kafka.lane.processes.pool import Processes
from reflow_kafka.lane.rate import Throttle
from reflow_kafka.lane.refusals import Refusals
from reflow_kafka.lane.retries import Retries
from reflow_kafka.lane.share import DeadLetterShare, Watch
from reflow_kafka.lane.work import Queue, Share, Tally
from reflow_kafka.log.api import BatchBuilder, Record, TopicPartition
from reflow_kafka.serde.keys import timestamp_getter
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.state.cache import StateCache
from reflow_kafka.timed.watermark import LaneTime
from reflow_kafka.topology.plan import Node
from reflow_kafka.topology.topics import PARKED
from reflow_kafka.units import NEVER

log = logging.getLogger(__name__)

T = TypeVar("T")

JUDGE_EVERY: Final = 1_000
"""Events after which the share of dead letters is looked at, if there were none."""


class RefusedByLog(ReflowError):
    """The log refused what this event led to; the message is the log's."""


@dataclass(slots=True)
class Setting:
    """What a worker is given to work with."""

    flow: str
    lane: int
    leads: Sequence[Lead]
    outbox: Outbox
    dead_letters: Channel
    gate: Gate
    calm: Calm
    refusals: Refusals
    marks: Mapping[TopicPartition, Mark]
    seek: Callable[[TopicPartition, int], None]
    learn: Callable[[str], Awaitable[None]]
    processes: Processes
    share: DeadLetterShare
    handler: Callable[..., Any] | None = None
    by_name: Mapping[str, Any] = field(default_factory=dict)
    cache: StateCache | None = None
    lifecycle: Lifecycle | None = None
    throttle: Throttle | None = None
    parking: Parking | None = None
    """Where events go that wait long; None: they wait in memory."""
    chain: Chain | None = None
    """The stages that are chained to its own."""
    clock: WorkClock | None = None
    """The time of its events, if anybody wants to know."""


class Worker(ABC):
    """What all workers share."""

    def __init__(self, node: Node, setting: Setting) -> None:
        lane = setting.lane
        inputs = [i for i in node.inputs if lane < i.partitions]
        self.node = node
        self.tally = Tally()
        self.inputs = tuple(TopicPartition(i.topic, lane) for i in inputs)
        self.inbox = Inbox({tp: setting.marks[tp] for tp in self.inputs})
        self.clock = setting.clock
        self._setting = setting
        self._log = place_logger(log, flow=setting.flow, stage=node.name, lane=lane)
        self._gate = setting.gate
        self._refusals = setting.refusals
        self._outbox = setting.outbox
        self._cache = setting.cache
        self._chain = setting.chain
        links = () if self._chain is None else self._chain.links
        self._caches = [
            cache for cache in (self._cache, *(link.cache for link in links)) if cache is not None
        ]
        self._lifecycles = [
            each for each in (setting.lifecycle, *(link.lifecycle for link in links)) if each is not None
        ]
        self._emitter = Emitter(setting.leads, emitted_by(node.stage))
        self._failures = Failures(
            node, setting.flow, self._emitter, setting.dead_letters, self.tally, self._log
        )
        self._inputs = dict(zip(self.inputs, inputs, strict=True))
        self._lines = Lines(node.stage.batch)
        self._backlog = Backlog(self._lines, self.inbox, self._gate, setting.parking, self._adopt)
        self._throttle = setting.throttle
        self._joined = False
        self._watch = Watch(setting.flow, node.name, setting.share)
        self._unjudged = 0
        self._events = 0
        self._last: tuple[TopicPartition, int] | None = None
        # In processes the time-out counts from when a call runs: they see to it.
        self._timeout = None if node.stage.run_in == "process" else node.stage.timeout
        self._retries = Retries(node.stage.retry, self.tally, self._log)

    def _compilation(
        self, tp: TopicPartition, *, names: Mapping[str, Any] | None = None, **more: Any
    ) -> Callable[..., Any]:
        """The compiled loop for one input."""
        spec = self.node.stage.handler
        entry = self._inputs[tp]
        setting = self._setting
        codec = edge_codec(entry.type, entry.format)
        return compile_stage(
            Compilation(
                name=self.node.name,
                topic=tp.topic,
                upstream=entry.upstream,
                lane=setting.lane,
                decode=codec.decode,
                read=codec.read,
                emitter=self._emitter,
                leads=setting.leads,
                handler=setting.handler,
                shape=spec.shape if spec else Shape.PLAIN,
                takes_event=spec.takes_event if spec else False,
                state_by=spec.state_by if spec else StateBy.NONE,
                cache=self._cache,
                by_name=setting.by_name,
                waits=self._chain is not None and self._chain.suspends,
                names={} if self._chain is None else {**self._chain.names(tp), **(names or {})},
                timestamp=self._timestamp_of(tp),
                timeout=self._timeout,
                **more,
            )
        )

    def _timestamp_of(self, tp: TopicPartition) -> Callable[[Any], int] | None:
        """What finds the time of an event in its value; None if its record has it."""
        field = self._inputs[tp].timestamp
        if field is None:
            return None
        getter = timestamp_getter(field)
        return getter if self.clock is None else self.clock.hearing(tp, getter)

    def _heard(self, tp: TopicPartition, records: Sequence[Record]) -> None:
        """Records have been taken in hand: their timestamps tell the time, if that of the values does not."""
        if self.clock is not None and self._inputs[tp].timestamp is None:
            self.clock.saw(tp, records)

    # ---- what the lane asks

    def keep_time(self) -> None:
        if self.clock is not None and self._update(self.clock):
            self.inbox.wake.set()

    def _update(self, clock: WorkClock) -> bool:
        """Whether the watermark has changed."""
        return clock.update(self.inbox, standing=self._stands())

    def _stands(self) -> bool:
        """Whether events wait of which the inbox knows nothing any more."""
        return self._lines.parked_lines > 0

    def _holds(self) -> int:
        """The oldest timestamp that something may still be emitted with, beside what follows from events."""
        return NEVER

    async def open(self) -> None:
        for lifecycle in self._lifecycles:
            await lifecycle.open()
        if self._throttle is not None:
            self._throttle.joined()
            self._joined = True
        self._backlog.restore()

    async def close(self) -> None:
        if self._throttle is not None and self._joined:
            self._throttle.left()
        for lifecycle in reversed(self._lifecycles):
            await lifecycle.close()

    @abstractmethod
    async def run(self) -> None:
        """Work until the inbox is stopped."""

    @abstractmethod
    def in_hand(self) -> bool:
        """Whether anything is being worked on that will soon be finished without waiting."""

    def queue(self) -> Queue:
        lines = self._lines
        return Queue(self._in_progress(), lines.retrying, lines.next_try, lines.stored)

    @abstractmethod
    def _in_progress(self) -> int:
        """Calls of the handler that have begun and not ended."""

    def ended(self) -> bool:
        return self._backlog.ended

    def nothing_more(self) -> None:
        return  # each input is taken as it comes

    def flushed(self) -> bool:
        return True

    def results(self) -> dict[TopicPartition, list[BatchBuilder]]:
        return self._outbox.take()

    def tallies(self) -> Mapping[str, Tally]:
        links = () if self._chain is None else self._chain.links
        return {self.node.name: self.tally, **{link.name: link.tally for link in links}}

    def counted(self) -> Share:
        return Share(marks=self.inbox.marks(), events=self._events, last=self._last)

    def take(self) -> Share:
        for cache in self._caches:
            cache.encode()  # all that can fail, before any of them hands anything over
        changes = {cache.name: cache.snapshot() for cache in self._caches}
        changes[PARKED] = self._backlog.snapshot()
        share = Share(self._outbox.take(), changes, self.inbox.share(), self._events, self._last)
        share.times = self._times()
        self._events = 0
        return share

    def _times(self) -> dict[str, LaneTime]:
        """What is told of time with what is finished."""
        if self.clock is None:
            return {}
        self.keep_time()
        self.clock.share()
        return {self.node.name: self.clock.told(self._holds())}

    def settled(self) -> None:
        for cache in self._caches:
            cache.settled()
        self._backlog.settled()
        if self.clock is not None:
            self.clock.settled()

    async def committed(self) -> None:
        return  # nothing to acknowledge: the positions are the acknowledgement

    # ---- what becomes of events

    def _is_full(self) -> bool:
        return self._outbox.size() > MAX_BYTES or sum(map(len, self._caches)) > MAX_DIRTY

    def _count(self, partition: TopicPartition, events: int, last: int) -> None:
        self._events += events
        self._last = (partition, last)
        self.tally.events += events
        self._unjudged += events
        if self._unjudged >= JUDGE_EVERY or self._failures.letters:
            events, self._unjudged = self._unjudged, 0
            self._watch.judge(monotonic(), events, self._failures.take_letters())

    async def _admitted_by_rate(self, wanted: int) -> int:
        """How many of `wanted` events may begin now; waits while none may; 0 = stopping."""
        if self._throttle is None:
            return wanted
        if granted := self._throttle.grab(wanted):
            return granted
        return await self._unless_stopped(self._throttle.admit(wanted)) or 0

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Wait for `work`; None if the worker is to stop before."""
        stop = asyncio.ensure_future(self.inbox.until_stopped())
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((stop, task), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            stop.cancel()
            task.cancel()

    def _culprit(self, partition: TopicPartition, record: Record) -> bool:
        """Dead-letter an event if the log is known to refuse what it leads to."""
        reason = self._refusals.reason(partition, record.offset)
        if reason is None:
            return False
        self._emitter.deliver(self._failures.dead_letter(record, partition, RefusedByLog(reason)))
        return True

    def _pause_before_retry(self, item: Item, error: Exception, tries: int) -> float | None:
        """Seconds until an event that has failed so often is tried again; None: not at all."""
        return self._retries.pause(
            event_at(item.partition, item.record.offset), error, tries, self._lines.retrying
        )

    def _closed(self, unit: Unit, items: Sequence[Item]) -> None:
        """Some events of a unit are finished, all at once: what is counted may stop the flow."""
        self._backlog.close(unit, items)
        for item in items:
            self._count(item.partition, 1, item.record.offset)

    def _adopt(self, partition: TopicPartition) -> None:
        """Events were parked that came from a topic which the stage does not read any more.

        They are read as those of its first input; what cannot be read so is a dead letter.
        """
        if partition not in self._inputs:
            self._log.warning(
                "events are parked that came from %s, which is no input any more", partition.topic
            )
            self._inputs[partition] = self._inputs[self.inputs[0]]

    def __str__(self) -> str:
        return f"{self._setting.flow}.{self.node.name}[{self._setting.lane}]"

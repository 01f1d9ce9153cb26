"""A worker: one stage in one lane, running the user's handler over what the lane reads.

What all workers share stands here: how results, state and positions come into a commit, and what becomes of
an event that failed. In which order events are begun is decided by `serial` (one after the other) and
`overlap` (many at once).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reflow_kafka.definition.spec import Shape, StateBy
from reflow_kafka.errors import FlowStopped, ReflowError, RetryLater
from reflow_kafka.lane.calm import Calm
from reflow_kafka.lane.compile import Compilation, compile_stage
from reflow_kafka.lane.emitter import Emitter, Lead
from reflow_kafka.lane.env import place_logger
from reflow_kafka.lane.failures import Failures
from reflow_kafka.lane.gate import MAX_BYTES, MAX_DIRTY, Gate
from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.lane.lifecycle import Lifecycle
from reflow_kafka.lane.lines import Item, Lines, Stay, Unit
from reflow_kafka.lane.outbox import Channel, Outbox
from reflow_kafka.lane.parking import Parking
from reflow_kafka.lane.processes.pool import Processes
from reflow_kafka.lane.rate import Throttle
from reflow_kafka.lane.refusals import Refusals
from reflow_kafka.lane.share import DeadLetterShare
from reflow_kafka.lane.work import Queue, Share, Tally
from reflow_kafka.log.api import BatchBuilder, Record, TopicPartition
from reflow_kafka.serde.keys import timestamp_getter
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.state.cache import StateCache
from reflow_kafka.topology.plan import Node

log = logging.getLogger(__name__)

TOLD_RETRIES: Final = 3
"""Failed tries that are logged at once; after that one in `TOLD_EVERY` seconds."""
TOLD_EVERY: Final = 10.0


JUDGE_EVERY: Final = 1_000
"""Events after which the share of dead letters is looked at, if there were none."""
MAX_LINED_UP: Final = 16 * 1024 * 1024
"""Bytes of events that may be in line in memory."""
MAX_PARKED: Final = 1_000_000
"""Events of one stage in one lane that may be parked; with more nothing is taken in."""
MAX_PARKED_LINES: Final = 20_000
"""Keys that may be parked: the first event of each is in memory."""
REFILL: Final = 100
"""Events of a parked line that are read at once."""


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


class Worker(ABC):
    """What all workers share."""

    def __init__(self, node: Node, setting: Setting) -> None:
        lane = setting.lane
        inputs = [i for i in node.inputs if lane < i.partitions]
        self.node = node
        self.tally = Tally()
        self.inputs = tuple(TopicPartition(i.topic, lane) for i in inputs)
        self.inbox = Inbox({tp: setting.marks[tp] for tp in self.inputs})
        self._setting = setting
        self._log = place_logger(log, flow=setting.flow, stage=node.name, lane=lane)
        self._gate = setting.gate
        self._refusals = setting.refusals
        self._outbox = setting.outbox
        self._cache = setting.cache
        self._emitter = Emitter(setting.leads, (*node.stage.outputs, "error"))
        self._failures = Failures(
            node, setting.flow, self._emitter, setting.dead_letters, self.tally, self._log
        )
        self._inputs = dict(zip(self.inputs, inputs, strict=True))
        self._lines = Lines(node.stage.batch)
        self._parking = setting.parking
        self._throttle = setting.throttle
        self._joined = False
        self._share_of_letters = setting.share
        self._unjudged = 0
        self._numbers = itertools.count(1)
        """Tell parked events without key from each other."""
        self._events = 0
        self._last: tuple[TopicPartition, int] | None = None
        self._told = float("-inf")

    def _compilation(self, tp: TopicPartition, **more: Any) -> Callable[..., Any]:
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
                timestamp=timestamp_getter(entry.timestamp) if entry.timestamp else None,
                # In processes the time-out counts from when a call runs.
                timeout=None if self.node.stage.run_in == "process" else self.node.stage.timeout,
                **more,
            )
        )

    # ---- what the lane asks

    async def open(self) -> None:
        if self._setting.lifecycle is not None:
            await self._setting.lifecycle.open()
        if self._throttle is not None:
            self._throttle.joined()
            self._joined = True
        self._restore_parked()

    async def close(self) -> None:
        if self._throttle is not None and self._joined:
            self._throttle.left()
        if self._setting.lifecycle is not None:
            await self._setting.lifecycle.close()

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
        """Whether nothing is parked, or was a moment ago: the positions do not tell of that."""
        return not self._lines.parked_lines and (self._parking is None or self._parking.settled_down)

    def results(self) -> dict[TopicPartition, list[BatchBuilder]]:
        return self._outbox.take()

    def take(self) -> Share:
        return self._share({} if self._cache is None else self._cache.snapshot())

    def _share(self, changes: dict[bytes, bytes | None]) -> Share:
        parked = {} if self._parking is None else self._parking.snapshot()
        share = Share(self._outbox.take(), changes, parked, self.inbox.share(), self._events, self._last)
        self._events = 0
        return share

    def settled(self) -> None:
        if self._cache is not None:
            self._cache.settled()
        if self._parking is not None:
            self._parking.settled()

    async def committed(self) -> None:
        return  # nothing to acknowledge: the positions are the acknowledgement

    # ---- what becomes of events

    def _is_full(self) -> bool:
        return self._outbox.size() > MAX_BYTES or (self._cache is not None and len(self._cache) > MAX_DIRTY)

    def _count(self, partition: TopicPartition, events: int, last: int) -> None:
        self._events += events
        self._last = (partition, last)
        self.tally.events += events
        self._unjudged += events
        if self._unjudged >= JUDGE_EVERY or self._failures.letters:
            self._judge()

    def _judge(self) -> None:
        """Stop before the backlog ends up in the dead letters.

        Raises:
            FlowStopped: too many of the stage's events became dead letters.
        """
        share, now = self._share_of_letters, time.monotonic()
        share.event(now, self._unjudged)
        self._unjudged = 0
        while self._failures.letters:
            self._failures.letters -= 1
            share.dead_letter(now)
        if share.exceeded(now):
            found = f"{share.dead_letters} of {share.events} events of the last minute became dead letters"
            raise FlowStopped(
                f"stage {self.node.name!r} stopped the flow: {found}, more than dead_letter_limit="
                f"{share.limit:g} allows; mend what they have in common (the newest stand in "
                f"{self._setting.flow}.dead-letters), or raise the limit in Flow(dead_letter_limit=...)"
            )

    async def _admitted_by_rate(self, wanted: int) -> int:
        """How many of `wanted` events may begin now; waits while none may; 0 = stopping."""
        if self._throttle is None:
            return wanted
        if granted := self._throttle.grab(wanted):
            return granted
        stop = asyncio.ensure_future(self.inbox.until_stopped())
        admission = asyncio.ensure_future(self._throttle.admit(wanted))
        try:
            await asyncio.wait((stop, admission), return_when=asyncio.FIRST_COMPLETED)
            return admission.result() if admission.done() else 0
        finally:
            stop.cancel()
            admission.cancel()

    def _culprit(self, partition: TopicPartition, record: Record) -> bool:
        """Dead-letter an event if the log is known to refuse what it leads to."""
        reason = self._refusals.reason(partition, record.offset)
        if reason is None:
            return False
        self._failures.dead_letter(record, partition, RefusedByLog(reason))
        return True

    def _pause_before_retry(self, item: Item, error: Exception, tries: int) -> float | None:
        """Seconds until an event that has failed so often is tried again; None: not at all."""
        retry = self.node.stage.retry
        if not retry.again(error, tries):
            return None
        delay = error.delay if isinstance(error, RetryLater) else retry.delay(tries, random.random())
        self.tally.retries += 1
        now = time.monotonic()
        if self.tally.retries <= TOLD_RETRIES or now - self._told > TOLD_EVERY:
            self._told = now
            self._log.warning(
                "event %s[%d]@%d failed (%s: %s), try %d; again in %.1f s, until then only its key waits "
                "(%d events wait for a retry)",
                *item.partition, item.record.offset, type(error).__name__, error, tries, delay,
                self._lines.retrying + 1,
            )  # fmt: skip
        return delay

    def _closed(self, unit: Unit) -> None:
        """The events of a unit are finished."""
        for item in unit.items:
            self._settled_item(item)
        self._lines.finished(unit, time.monotonic())
        self._refill()

    def _settled_item(self, item: Item) -> None:
        """An event in line is finished."""
        if item.stay is None:
            self.inbox.close(item.partition, item.record.offset)
        elif self._parking is not None:
            self._parking.remove(item)
        self._count(item.partition, 1, item.record.offset)

    # ---- what waits

    def _line_up(self, partition: TopicPartition, record: Record, now: float) -> None:
        """An event goes into its line, or behind the parked events of its key."""
        item = Item(partition, record)
        stay = self._lines.parked(record.key)
        if stay is None:
            self.inbox.open(partition, record.offset)
            self._lines.add(item, now)
        else:
            assert self._parking is not None
            self._lines.push(stay, item)
            self._parking.put(item)
            self.inbox.reach(partition, record.offset + 1)  # both in the same commit

    def _wait_again(self, unit: Unit, delay: float) -> None:
        """A unit waits for its next try."""
        self._lines.wait(unit, time.monotonic() + delay)
        if self._parking is not None and unit.items[0].stay is not None:
            self._parking.put(unit.items[0], tries=unit.tries, delay=delay)

    def _crowded(self, limit: int) -> bool:
        """Whether so many events are in line, or parked, that nothing more may be taken in."""
        lines = self._lines
        return lines.unparked >= limit or lines.unparked_size >= MAX_LINED_UP or lines.stored >= MAX_PARKED

    def _relieve(self, limit: int) -> bool:
        """Park lines, the longest first, so that other keys may come in; whether that was possible."""
        lines, parking = self._lines, self._parking
        if parking is None or lines.stored >= MAX_PARKED or lines.parked_lines >= MAX_PARKED_LINES:
            return False
        now = time.monotonic()
        for line in lines.longest():
            if lines.unparked <= limit // 2 and lines.unparked_size <= MAX_LINED_UP // 2:
                break
            for item, unit, due in lines.park(line, next(self._numbers)):
                self.inbox.close(item.partition, item.record.offset)
                if unit is None:
                    parking.put(item)
                else:
                    parking.put(item, tries=unit.tries, delay=max(due - now, 0.0))
        self._gate.worked()
        return True

    def _refill(self) -> None:
        """Fetch the next events of parked lines that have none in memory."""
        for stay in self._lines.hungry():
            self._fetch(stay, REFILL)

    def _restore_parked(self) -> None:
        """Line up what is parked, as it was when the lane was taken over, or went back."""
        if self._parking is not None:
            for stay in self._parking.stays():
                self._fetch(stay, 1)
                self._numbers = itertools.count(max(next(self._numbers), stay.number + 1))

    def _fetch(self, stay: Stay, count: int) -> None:
        assert self._parking is not None
        while stay.stored:
            found = list(self._parking.load(stay, count))
            if found:
                _, tries, delay = found[0]
                items = [item for item, _, _ in found]
                self._lines.restore(stay, items, time.monotonic(), tries=tries, delay=delay)
                return
            stay.first = min(stay.first + count, stay.next)
        self._lines.gone(stay)

    def __str__(self) -> str:
        return f"{self._setting.flow}.{self.node.name}[{self._setting.lane}]"

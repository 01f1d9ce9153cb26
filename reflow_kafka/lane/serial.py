"""A worker that handles one event after the other.

It is the unit of going back: if an event fails and the state before it is not at hand, the worker (alone)
returns to its last share in a commit and works careful for a while. Going back has no await in it. An event
that is to be tried again is put aside, and with it those of its key that come after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from reflow_kafka.clock import monotonic
from reflow_kafka.context import Context
from reflow_kafka.errors import RetryLater
from reflow_kafka.lane.calm import LONG
from reflow_kafka.lane.careful import CarefulPeriod
from reflow_kafka.lane.chain import Passage, Pause
from reflow_kafka.lane.emitter import UnknownTopic
from reflow_kafka.lane.failures import NO_EVENTS_FAULT
from reflow_kafka.lane.line import Item, Unit
from reflow_kafka.lane.link import Broken
from reflow_kafka.lane.work import Share
from reflow_kafka.lane.worker import Setting, Worker
from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.topology.plan import Node

SLICE: Final = 0.005
"""Seconds after which a worker lets others have the loop."""
MAX_HELD: Final = 10_000
"""Events that may be put aside; then nothing more is taken in until some of them are finished."""

Run = Callable[[Iterable[Record]], Any]


class _GoBack(Exception):
    """The state before a failed event is not known: return to the last commit."""


class _Held(Exception):
    """An event was put aside: from now on those of its key have to be kept back."""


class SerialWorker(Worker):
    """Runs a handler (or nothing, for a source that forwards) over records, one after the other."""

    def __init__(self, node: Node, setting: Setting) -> None:
        super().__init__(node, setting)
        spec = node.stage.handler
        self._suspends = spec is not None and spec.shape.suspends
        if self._chain is not None:
            self._suspends |= self._chain.suspends
        self._passages: dict[Unit, Passage] = {}
        """What is in a chain and waits there."""
        self._suspended = False
        self._held_up = False
        self._blocks = False
        self._unknown: str | None = None
        self._current = self.inputs[0]
        self._unit: Unit | None = None
        """What is being tried again."""
        self._sieving = False
        self._held: set[int] = set()
        """Offsets of this slice that were put aside."""
        self._failed_before = (0, 0)
        self._size = 1  # grows while events are fast
        self._careful = CarefulPeriod()
        self._is_careful = self._suspends
        self._context = next((v for v in setting.by_name.values() if isinstance(v, Context)), None)
        self._runs: dict[tuple[TopicPartition, bool], Run] = {}

    def in_hand(self) -> bool:
        return bool(self.inbox) and not self._suspended and not self._held_up

    def _in_progress(self) -> int:
        return int(self._suspended)

    def take(self) -> Share:
        try:
            share = super().take()
        except Exception as error:  # some state cannot be encoded: find out which event did it
            self._log.warning("state cannot be encoded (%s); going back to find the event", error)
            self._go_back()
            return Share(marks=self.inbox.share(), times=self._times())
        self._failed_before = (self.tally.dead_letters, self.tally.skipped)
        if self._chain is not None:
            self._chain.shared()
        return share

    # ---- working

    async def run(self) -> None:
        """Work until the inbox is stopped: what is due again first, then what is new."""
        while not self.inbox.stopped:
            self.inbox.wake.clear()
            now = monotonic()
            self._held_up = self._backlog.crowded(MAX_HELD) and not self._backlog.relieve(MAX_HELD)
            timely = await self._on_time()  # in turn with events: neither waits for the end of the other
            if unit := self._next_unit(now):
                await self._again(unit)
            elif (not self._held_up and await self._more()) or timely:
                continue
            elif (at := self._next_wake()) is None:
                await self.inbox.wake.wait()
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(at - now, 0)):
                        await self.inbox.wake.wait()

    async def _more(self) -> bool:
        """Work on something new; whether there was anything."""
        if batch := self._poll():
            await self._batch(*batch)
        return batch is not None

    def _next_unit(self, now: float) -> Unit | None:
        """What is to be tried again now, or had to wait behind others."""
        return self._lines.due(now) or self._lines.next(now)

    def _poll(self) -> tuple[TopicPartition, Sequence[Record]] | None:
        """The next batch to be worked on."""
        return self.inbox.poll()

    def _takes(self, partition: TopicPartition, records: Sequence[Record]) -> int:
        """How many of these events may be begun now, in this order; none: the rest of the batch waits."""
        return len(records)

    def _next_wake(self) -> float | None:
        """`clock.monotonic()` when there is something to do without anything new."""
        return self._lines.wake_at()

    async def _on_time(self) -> bool:
        """Do what time has brought, for as long as a slice may take; whether there was anything."""
        return False

    async def _again(self, unit: Unit | None) -> None:
        """Try events again, or those that had to wait behind others, for as long as a slice may take."""
        until = time.perf_counter() + SLICE
        while unit is not None and await self._once_more(unit):
            now = monotonic()
            more = time.perf_counter() < until and not self.inbox.stopped
            unit = self._next_unit(now) if more else None
        await self._learn_topic()
        await asyncio.sleep(0)

    async def _once_more(self, unit: Unit) -> bool:
        """Try an event, unless it is gone; False: it is not to be begun any more."""
        (item,) = unit.items
        generation = self.inbox.generation
        if not await self._admitted_by_rate(1) or not await self._gate.admit(1, self._is_full):
            return False
        if self.inbox.generation == generation:
            self._unit = unit
            if self._context is not None:
                self._context.attempt = unit.tries + 1
            try:
                await self._slice(((item.partition, (item.record,)),))
            finally:
                self._unit = None
                if self._context is not None:
                    self._context.attempt = 1
        self._gate.worked()
        return True

    async def _batch(self, partition: TopicPartition, records: Sequence[Record]) -> None:
        at = 0
        generation = self.inbox.generation
        while at < len(records):
            takes = self._takes(partition, records[at : at + self._size])
            if not takes:
                self.inbox.put_back(partition, records[at:])
                return
            wanted = await self._admitted_by_rate(takes)
            admitted = await self._gate.admit(wanted, self._is_full) if wanted else 0
            if not admitted:
                return  # stopping
            if self.inbox.generation == generation:  # else a commit has sent it back while it waited
                await self._slice(((partition, records[at : at + admitted]),))
            if self.inbox.generation != generation:
                self._gate.worked()  # a commit makes room again for what was counted as begun
                await self._learn_topic()
            if self.inbox.generation != generation or self.inbox.stopped:  # perhaps amid the slice
                return
            at += admitted
            if at == len(records):
                self.inbox.finished(partition)
            self._gate.worked()
            await self._between_slices()
            if self.inbox.generation != generation:
                return

    async def _between_slices(self) -> None:
        """Let others have the loop; what is due again does not wait for the rest of a batch."""
        now = monotonic()
        if unit := self._next_unit(now):
            await self._again(unit)
        elif not await self._on_time():
            await asyncio.sleep(0)

    async def _learn_topic(self) -> None:
        topic, self._unknown = self._unknown, None
        if topic is not None:
            await self._setting.learn(topic)

    async def _slice(self, pieces: Sequence[tuple[TopicPartition, Sequence[Record]]]) -> None:
        """Handle events of one input after the other."""
        generation = self.inbox.generation
        async with self._setting.calm.blocking() if self._blocks else contextlib.nullcontext():
            if self.inbox.generation != generation:
                return  # a commit has sent it back while it waited
            if self._is_careful and not self._suspends and self._careful.over(monotonic()):
                self._is_careful = False
            began = time.perf_counter()
            try:
                self._suspended = self._suspends
                for partition, records in pieces:
                    self._current = partition
                    self._held.clear()
                    run = self._runs.get((partition, self._is_careful)) or self._compiled(partition)
                    if self._unit is not None and self._unit in self._passages:
                        await self._resume(self._unit)
                    elif self._suspends:
                        await run(self._sieve(partition, iter(records)))
                    else:
                        self._run(run, partition, records)
                    self._heard(partition, records)
            except _GoBack:
                self._go_back()
            except Exception:  # this is the end; positions do not tell yet of what the slice has written
                self._go_back()
                raise
            finally:
                self._suspended = False
            took = time.perf_counter() - began
        self._blocks = not self._suspends and took > LONG * sum(len(records) for _, records in pieces)
        self._size = max(1, min(2000, int(self._size * min(2.0, SLICE / max(took, 1e-6)))))

    def _compiled(self, partition: TopicPartition) -> Run:
        careful, names = self._is_careful, {"went": self._went}
        run = self._compilation(
            partition, careful=careful, failed=self._failed, finished=self._finished, names=names
        )
        self._runs[(partition, careful)] = run
        return run

    def _run(self, run: Run, partition: TopicPartition, records: Sequence[Record]) -> None:
        """Handle a slice without waiting."""
        rest = iter(records)
        self._sieving = bool(self._lines.keys) or self._refusals.limit is not None
        try:
            run(self._sieve(partition, rest) if self._sieving else rest)
        except _Held:  # from here on one look at each key is needed
            self._sieving = True
            run(self._sieve(partition, rest))
        if self._unit is not None:
            if not self._held:
                self._closed(self._unit, self._unit.items)
            return
        if finished := len(records) - len(self._held):
            last = next(r.offset for r in reversed(records) if r.offset not in self._held)
            self._count(partition, finished, last)
        self.inbox.reach(partition, records[-1].offset + 1)

    def _sieve(self, partition: TopicPartition, records: Iterator[Record]) -> Iterator[Record]:
        """Keeps back events behind one of their key, and those that the log is known to refuse."""
        # What was parked may be below the positions by which the search for culprits ends.
        suspected = self._refusals.limit is not None or self._unit is not None
        in_line = self._lines.keys if self._unit is None else ()
        for record in records:
            if suspected and self._culprit(partition, record):
                if self._suspends:
                    self._finished(record.offset)
            elif record.key in in_line:
                self._held.add(record.offset)
                self._backlog.line_up(partition, record, monotonic())
            else:
                yield record

    def _finished(self, offset: int) -> None:
        """An event of a handler that suspends is finished: it may be committed from now on."""
        if self._unit is not None:
            self._closed(self._unit, self._unit.items)
        else:
            self._count(self._current, 1, offset)
            self.inbox.reach(self._current, offset + 1)
        self._gate.worked()

    # ---- chained stages

    def _went(self, record: Record, passage: Passage, pause: Pause | None) -> bool:
        """What has failed in the chain, or waits there; whether it waits, so is not finished."""
        if passage.failures:
            self._careful.failed(monotonic())
        if pause is None:
            return False
        item = Item(self._current, record) if self._unit is None else self._unit.items[0]
        self._unknown = self._unknown or pause.unknown
        return self._wait_in_chain(item, passage, pause.delay)

    def _wait_in_chain(self, item: Item, passage: Passage, delay: float) -> bool:
        unit = self._put_aside(item, delay, counts=False)
        self._passages[unit] = passage
        return self._put_by()

    async def _resume(self, unit: Unit) -> None:
        """An event goes on where it waited in the chain."""
        passage = self._passages[unit]
        passage.failures = 0
        pause = await passage.go()
        if passage.failures:
            self._careful.failed(monotonic())
        if pause is None:
            del self._passages[unit]
            self._closed(unit, unit.items)
        else:
            self._unknown = pause.unknown
            self._backlog.wait(unit, pause.delay)

    # ---- failing

    def _failed(self, record: Record, error: Exception, in_handler: bool) -> bool:
        """An event has failed: undo its state, then try it again later, or do what the stage says.

        Returns:
            Whether it is to be tried again, so is not finished.

        Raises:
            _GoBack: its state cannot be undone here.
            FlowStopped: the stage, or its handler, says that a failure stops the flow.
            StateError: the local disk is full or broken.
        """
        if isinstance(error, NO_EVENTS_FAULT):
            raise error
        if isinstance(error, Broken):
            assert self._chain is not None
            self._chain.undo(record.key)
            if isinstance(error.__cause__, UnknownTopic):
                self._unknown = error.__cause__.topic
            raise _GoBack from error
        if self._cache is not None and record.key is not None and not self._cache.undo(record.key):
            raise _GoBack from error
        self._careful.failed(monotonic())
        if isinstance(error, UnknownTopic):
            self._unknown = error.topic
            raise _GoBack from error
        tries = (self._unit.tries if self._unit is not None else 0) + 1
        item = Item(self._current, record) if self._unit is None else self._unit.items[0]
        delay = self._pause_before_retry(item, error, tries) if in_handler else None
        if delay is None:
            prepared = self._failures.outcome(record, self._current, error, tries)
            if self._chain is None or not self._chain.concerns(prepared):
                self._emitter.deliver(prepared)
                return False
            if not self._is_careful:
                raise _GoBack from error
            return self._wait_in_chain(item, self._chain.begin(record, self._current, prepared), 0.0)
        self._put_aside(item, delay, counts=not isinstance(error, RetryLater))
        return self._put_by()

    def _put_by(self) -> bool:
        """An event was put aside, so those of its key have to be kept back from now on."""
        if self._suspends or self._sieving:
            return True
        raise _Held

    def _put_aside(self, item: Item, delay: float, *, counts: bool) -> Unit:
        self._held.add(item.record.offset)
        if self._unit is not None:
            self._unit.tries += counts
            self._backlog.wait(self._unit, delay)
            return self._unit
        unit = self._backlog.hold(item, delay)
        unit.tries += counts
        return unit

    def _go_back(self) -> None:
        """Return to the last share, as if nothing had been done since; no await in here."""
        self._outbox.discard()
        if self._cache is not None:
            self._cache.rewind()
        if self._chain is not None:
            self._chain.rewind()
            for unit in self._passages:
                self._chain.undo(unit.items[0].record.key)
            self._passages.clear()
        self._backlog.rewind()
        self.tally.events -= self._events  # they will be processed again
        self.tally.dead_letters, self.tally.skipped = self._failed_before
        self._events = 0
        self.tally.rewinds += 1
        self._careful.went_back(monotonic())
        self._is_careful = True
        self.inbox.go_back(self._setting.seek)
        if self.clock is not None:
            self.clock.rewind()
        self.inbox.wake.set()  # what is parked is in line again, and perhaps nothing new comes
        self._gate.moved.set()  # there is room now, and if nothing is in hand nobody else will say so

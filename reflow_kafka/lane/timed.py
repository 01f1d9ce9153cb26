"""A worker whose stage does more than call its handler once for each event: windows, timers, joins.

What is done with an event, and when its time has come, a *program* says (`timed.program`); here its acts are
carried out: the user's code is called, results are prepared, and then, with no way to fail any more, the
step is accepted and its results are delivered. So a failure leaves no trace, without going back.

While an event waits for another try, time stands still for this worker: nothing is closed that it may still
belong to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from reflow_kafka.clock import monotonic
from reflow_kafka.errors import RetryLater
from reflow_kafka.lane.calls import from_within
from reflow_kafka.lane.clock import WorkClock
from reflow_kafka.lane.emitter import Prepared, UnknownTopic
from reflow_kafka.lane.failures import NO_EVENTS_FAULT
from reflow_kafka.lane.gate import MAX_DIRTY
from reflow_kafka.lane.line import Item, Unit
from reflow_kafka.lane.link import Written
from reflow_kafka.lane.putoff import MAX_PUT_OFF, PutOff
from reflow_kafka.lane.serial import SLICE, Run, SerialWorker
from reflow_kafka.lane.steps import Steps, Timing, entrance, reading
from reflow_kafka.lane.taking import Taking
from reflow_kafka.lane.work import Queue, Share
from reflow_kafka.lane.worker import RefusedByLog, Setting
from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.serde.json import encode_any
from reflow_kafka.timed.program import LONG_AGO, NEVER, Direct, Due, Incoming
from reflow_kafka.topology.plan import Node


class TimedWorker(SerialWorker):
    """Drives the program of a stage in one lane."""

    clock: WorkClock

    def __init__(self, node: Node, setting: Setting, timing: Timing) -> None:
        super().__init__(node, setting)
        assert self.clock is not None
        self._program = timing.program
        self._shelves = timing.shelves
        self._context = timing.context
        self._now = timing.now
        self._steps = Steps(
            timing.codes, timing.context, self._emitter, timing.shelves, node.changelog or node.name
        )
        operator = node.stage.operator
        self._prompt = operator is not None and operator.prompt
        self._suspends = self._steps.suspends or self._prompt
        self._is_careful = self._suspends
        self._held_before: int | None = None
        """What `Program.holds` told before a step that is perhaps still being carried out."""
        self._ending = False
        """Whether no event comes any more in this run."""
        self._put_off = PutOff()
        self._dues = 0
        """How many of the events in the next share are none: what time has brought may be refused, too."""
        self._late_before = 0
        self._taking = Taking(timing.program, {tp: i.side for tp, i in self._inputs.items()})
        self._stirred = True
        """Whether anything has happened since it was looked for what is due."""
        self._looked_at = self._wake = LONG_AGO
        """The watermark of that time, and when by the wall clock something will be due."""
        self._origin = TopicPartition(node.changelog or node.name, setting.lane)

    # ---- what is taken next

    async def _more(self) -> bool:
        if self._ending:  # events that come after the end of a run are not late: they belong to the next one
            if self.clock.watermark != NEVER:
                self.clock.end()
                self.inbox.wake.set()
            return False
        return await super()._more()

    def _poll(self) -> tuple[TopicPartition, Sequence[Record]] | None:
        left = self._taking.left()
        batch = self.inbox.poll(left)
        self._held_up = batch is None and bool(left)
        return batch

    def _next_unit(self, now: float) -> Unit | None:
        # What still waits at the end of a run came after it, or it would not have ended.
        return None if self._ending else super()._next_unit(now)

    def _takes(self, partition: TopicPartition, records: Sequence[Record]) -> int:
        return self._taking.takes(partition, records)

    async def _slice(self, pieces: Sequence[tuple[TopicPartition, Sequence[Record]]]) -> None:
        await super()._slice(pieces)
        self._taking.taken()

    def nothing_more(self) -> None:
        if self._taking.nothing_more():
            self.inbox.wake.set()

    def queue(self) -> Queue:
        queue = super().queue()
        queue.add(Queue(retrying=len(self._put_off), next_try=self._put_off.next_try()))
        return queue

    # ---- commits

    def take(self) -> Share:
        share = super().take()
        self._dues = 0
        self._late_before = self.tally.late
        share.changes.update(self._shelves.snapshot())
        return share

    def settled(self) -> None:
        super().settled()
        self._shelves.settled()

    def _go_back(self) -> None:
        self._events, self._dues = self._events - self._dues, 0
        super()._go_back()
        self.tally.late = self._late_before
        self._shelves.rewind()
        self._program.rewound()
        self._put_off.clear()
        self._taking.taken()
        self._stirred = True

    def _is_full(self) -> bool:
        return super()._is_full() or len(self._shelves) > MAX_DIRTY

    def _holds(self, watermark: int) -> int:
        """The oldest timestamp that something may still be emitted with."""
        holds = self._program.holds(watermark) if self._held_before is None else self._held_before
        oldest = self._put_off.oldest()
        return holds if oldest is None else min(holds, oldest)

    def flushed(self) -> bool:
        if not self._ending:
            self._ending = True
            self.inbox.wake.set()
        return self.clock.watermark == NEVER and not self._put_off and self._is_idle()

    # ---- events

    def _compiled(self, partition: TopicPartition) -> Run:
        entry = self._inputs[partition]
        enter = entrance(self.node, entry, partition, asks=self._context is not None)
        if self._suspends:
            run = self._waiting(partition, enter)
        else:
            run = self._in_short(partition, enter) or self._straight(partition, enter)
        self._runs[(partition, self._is_careful)] = run
        return run

    def _straight(self, partition: TopicPartition, enter: Callable[[Record], Incoming]) -> Run:
        """Events of code that does not wait."""
        clock, event, accept = self.clock, self._program.event, self._shelves.accept
        carry_out, passed, deliver = self._steps.carry_out, clock.passing(partition), self._emitter.deliver

        def run(records: Iterable[Record]) -> None:
            now = self._now()
            for r in records:
                try:
                    incoming = enter(r)
                    watermark = clock.watermark
                    prepared = carry_out(event(incoming, watermark, now), incoming, watermark)
                except Exception as error:
                    self._shelves.drop()
                    self._failed(r, error, self._steps.in_code)
                    continue
                accept()
                self._stirred = True
                if prepared:
                    deliver(prepared)
                if self._steps.late:
                    self.tally.late += self._steps.late
                passed(incoming.timestamp)

        return run

    def _in_short(self, partition: TopicPartition, enter: Callable[[Record], Incoming]) -> Run | None:
        """Events most of which lead to no more than one call; None: of this stage they may lead to more."""
        program, handler, stage = self._program, self._steps.alone(), self.node.stage.handler
        if not isinstance(program, Direct) or handler is None or stage is None or stage.takes_event:
            return None
        one_by_one, read = self._straight(partition, enter), reading(self._inputs[partition])
        clock, prepare, deliver = self.clock, self._emitter.prepare, self._emitter.deliver
        passed, find, keep, lose = clock.passing(partition), program.find, program.keep, program.lose

        def run(records: Iterable[Record]) -> None:
            for r in records:
                in_code, state, prepared = False, None, None
                try:
                    value, timestamp = read(r)
                    watermark = clock.watermark
                    state = None if r.key is None else find(r.key, timestamp, watermark)
                    if state is not None:
                        in_code = True
                        out = handler(state, value)
                        in_code = False
                        prepared = None if out is None else prepare((out,), r, timestamp)
                        keep(state)
                except Exception as error:
                    if state is not None:
                        lose()
                    self._failed(r, error, in_code)
                    continue
                if state is None:
                    one_by_one((r,))
                    continue
                self._stirred = True
                if prepared:
                    deliver(prepared)
                passed(timestamp)

        return run

    def _waiting(self, partition: TopicPartition, enter: Callable[[Record], Incoming]) -> Run:
        """Events of code that may wait: a commit meanwhile sees nothing of the step."""
        clock, event, deliver = self.clock, self._program.event, self._emitter.deliver
        passed = clock.passing(partition)

        async def run(records: Iterable[Record]) -> None:
            for r in records:
                if self._prompt and not await self._caught_up():
                    return
                try:
                    incoming = enter(r)
                    watermark = clock.watermark
                    self._note_holds()
                    acts = event(incoming, watermark, self._now())
                    prepared = await self._steps.carry_out_waiting(acts, incoming, watermark)
                except Exception as error:
                    self._shelves.drop()
                    if self._failed(r, error, self._steps.in_code):
                        continue
                except asyncio.CancelledError as error:
                    self._shelves.drop()
                    if self._failed(r, from_within(error), self._steps.in_code):
                        continue
                else:
                    self._shelves.accept()
                    self._stirred = True
                    deliver(prepared)
                    self.tally.late += self._steps.late
                    passed(incoming.timestamp)
                self._finished(r.offset)

        return run

    # ---- events that wait: time stands still

    def _put_aside(self, item: Item, delay: float, *, counts: bool) -> Unit:
        unit = super()._put_aside(item, delay, counts=counts)
        self.clock.stand()
        return unit

    def _stands(self) -> bool:
        return bool(self._lines.keys)

    def _heard(self, tp: TopicPartition, records: Sequence[Record]) -> None:
        """Each of them was, when it was finished."""

    # ---- what time brings

    def _next_wake(self) -> float | None:
        """`clock.monotonic()` when there is something to do without anything new."""
        now, wall = monotonic(), self._now()
        times = [at for at in (super()._next_wake(), self._put_off.next_try()) if at is not None]
        due = self._program.wake(wall)
        times += [] if due is None else [now + max(due - wall, 0) / 1000]
        return min(times, default=None)

    async def _on_time(self) -> bool:
        """Do what is due by now, for as long as a slice may take; whether anything was."""
        self.clock.update(self.inbox, standing=self._stands())
        if self._is_idle():
            return False
        until = time.perf_counter() + SLICE
        worked = False
        while not self.inbox.stopped:
            wall = self._now()
            due = self._next_due(wall)
            if due is None:
                self._rest(wall)
                break
            if not await self._gate.admit(1, self._is_full):
                break
            worked = True
            await self._do(due)
            self._gate.worked()  # each time: it may have to wait for a commit of what there is now
            if time.perf_counter() >= until:
                break  # whether there is more is not known
        if worked:
            await asyncio.sleep(0)
        return worked

    async def _caught_up(self) -> bool:
        """Do what is due by now before the next event is begun; False: no more is to be begun."""
        until = time.perf_counter() + SLICE
        while not self._is_idle():
            wall = self._now()
            due = self._next_due(wall)
            if due is None:
                self._rest(wall)
            elif not await self._gate.admit(1, self._is_full):
                return False
            else:
                await self._do(due)
                self._gate.worked()
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE
        return True

    def _next_due(self, wall: int) -> Due | None:
        again = self._put_off.next_try()
        if again is not None and len(self._put_off) >= MAX_PUT_OFF and monotonic() < again:
            return None  # what fails now fails because of something else: begin no more of it
        self._note_holds()
        return self._program.due(self.clock.watermark, wall, self._put_off.later(monotonic()))

    def _note_holds(self) -> None:
        """A step begins: what it changes does not count for a commit before it has ended."""
        if self._suspends:
            self._held_before = self._program.holds(self.clock.watermark)

    def _is_idle(self) -> bool:
        """Whether nothing can have become due since it was looked for last."""
        if self._stirred or self.clock.watermark != self._looked_at or self._now() >= self._wake:
            return False
        again = self._put_off.next_try()
        return again is None or monotonic() < again

    def _rest(self, wall: int) -> None:
        """Nothing is due any more at this watermark, but for what is put off."""
        wake = self._program.wake(wall)
        self._shelves.unchanged()
        self._stirred, self._looked_at = False, self.clock.watermark
        self._wake, self._held_before = NEVER if wake is None else wake, None

    async def _do(self, due: Due) -> None:
        self._stirred = True
        place = int.from_bytes(due.id, "big")
        if reason := self._refusals.reason(self._origin, place):
            self._give_up(due, RefusedByLog(reason), 1)
            return
        try:
            prepared = await self._carried_out(due)
        except NO_EVENTS_FAULT:
            self._shelves.drop()
            raise
        except UnknownTopic as error:
            self._shelves.drop()
            self._unknown = error.topic
            await self._learn_topic()
        except Exception as error:
            self._fail(due, error)
        except asyncio.CancelledError as error:
            self._fail(due, from_within(error))
        else:
            self._put_off.done(due.id)
            self._shelves.accept()
            self._emitter.deliver(prepared)
            self._events, self._dues, self._last = self._events + 1, self._dues + 1, (self._origin, place)

    async def _carried_out(self, due: Due) -> Prepared:
        if not self._suspends:
            return self._steps.carry_out(due.acts, due, self.clock.watermark)
        before, self._suspended = self._suspended, True
        try:
            return await self._steps.carry_out_waiting(due.acts, due, self.clock.watermark)
        finally:
            self._suspended = before

    def _fail(self, due: Due, error: Exception) -> None:
        """What time has brought could not be done: put it off, or do what the stage says."""
        self._shelves.drop()
        tries = self._put_off.tries(due.id) + 1
        delay = None
        if self._steps.in_code:
            delay = self._retries.pause(self._origin, due.at, error, tries, len(self._put_off))
        if delay is None:
            self._give_up(due, error, tries)
            return
        counted = tries - isinstance(error, RetryLater)
        self._put_off.put(due.id, due.at, monotonic() + delay, counted)

    def _give_up(self, due: Due, error: Exception, tries: int) -> None:
        key, value = self._program.give_up(due.id)
        data = value if value is None or isinstance(value, bytes) else encode_any(value)
        self._shelves.encode()
        prepared = self._failures.outcome(Written(-1, due.at, key, data, []), self._origin, error, tries)
        self._put_off.done(due.id)
        self._shelves.accept()
        self._emitter.deliver(prepared)

"""A worker that does what is due when its time has come, beside events: windows close, timers fire.

What could not be done is put off and tried again, as `retry` says. While an event waits for another try, time
stands still for this worker: nothing is closed that it may still belong to.
"""

from __future__ import annotations

import asyncio
import time

from reflow_kafka.clock import monotonic
from reflow_kafka.errors import RetryLater
from reflow_kafka.lane.calls import from_within
from reflow_kafka.lane.clock import WorkClock
from reflow_kafka.lane.emitter import Prepared, UnknownTopic
from reflow_kafka.lane.failures import NO_EVENTS_FAULT
from reflow_kafka.lane.line import Item, Unit
from reflow_kafka.lane.link import Written
from reflow_kafka.lane.putoff import MAX_PUT_OFF, PutOff
from reflow_kafka.lane.serial import SLICE, SerialWorker
from reflow_kafka.lane.steps import Steps, Timing
from reflow_kafka.lane.stored import Stored
from reflow_kafka.lane.worker import RefusedByLog, Setting
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.serde.json import encode_any
from reflow_kafka.serde.keys import decode_key
from reflow_kafka.state.cache import UNREADABLE, UnreadableState
from reflow_kafka.timed.program import LONG_AGO, NEVER, Apart, Due
from reflow_kafka.topology.plan import Node


class DueWorker(SerialWorker):
    """Carries out what the program of its stage says is due."""

    clock: WorkClock

    def __init__(self, node: Node, setting: Setting, timing: Timing) -> None:
        super().__init__(node, setting)
        assert self.clock is not None
        self._program = timing.program
        self._shelves = timing.shelves
        self._now = timing.now
        self._steps = Steps(
            timing.codes, timing.context, self._emitter, timing.shelves, node.changelog or node.name
        )
        operator = node.stage.operator
        self._prompt = operator is not None and operator.prompt
        self._suspends = self._steps.suspends or self._prompt
        self._is_careful = self._suspends
        self._held_before: int | None = None
        """In a step that waits: what `Program.holds` told before, as a commit does not see the step."""
        self._stored = Stored(node, setting.lane)
        self._put_off = PutOff()
        self._dues = 0
        """How many of the events in the next share are none: what time has brought may be refused, too."""
        self._stirred = True
        """Whether anything has happened since it was looked for what is due."""
        self._looked_at = self._wake = LONG_AGO
        """The watermark of that time, and when by the wall clock something will be due."""
        program = timing.program
        self._apart = program if isinstance(program, Apart) else None
        self._apart_inputs = {tp for tp, i in self._inputs.items() if i.side == getattr(program, "apart", -1)}
        self._origin = TopicPartition(node.changelog or node.name, setting.lane)

    # ---- its time

    def _put_aside(self, item: Item, delay: float, *, counts: bool) -> Unit:
        unit = super()._put_aside(item, delay, counts=counts)
        self.clock.stand()
        return unit

    def _stands(self) -> bool:
        return bool(self._lines.keys)

    def _update(self, clock: WorkClock) -> bool:
        standing = self._stands()
        changed = clock.update(self.inbox, standing=standing, pending=self._is_pending, left=self._left())
        if self._apart is not None:
            until = LONG_AGO if standing else clock.of(self.inbox, self._apart_inputs)
            if self._apart.heard(until):
                self._stirred = changed = True
        return changed

    def _left(self) -> frozenset[TopicPartition]:
        """The inputs that nothing is taken from before others have more."""
        return frozenset()

    def _is_pending(self) -> bool:
        """Whether something will still be emitted, if only time goes on."""
        if self._held_before is not None or self._put_off:
            return True
        if self.clock.watermark == NEVER:
            return not self._is_idle()
        with self._stored:
            return self._program.pending()

    def _holds(self) -> int:
        """The oldest timestamp that something may still be emitted with."""
        with self._stored:
            holds = (
                self._program.holds(self.clock.watermark) if self._held_before is None else self._held_before
            )
        oldest = self._put_off.oldest()
        return holds if oldest is None else min(holds, oldest)

    # ---- what time brings

    def _next_wake(self) -> float | None:
        """`clock.monotonic()` when there is something to do without anything new."""
        now, wall = monotonic(), self._now()
        times = [at for at in (super()._next_wake(), self._put_off.next_try()) if at is not None]
        due = self._wakes(wall)
        times += [] if due is None else [now + max(due - wall, 0) / 1000]
        return min(times, default=None)

    def _wakes(self, wall: int) -> int | None:
        """When by the wall clock something will be due that may be begun then."""
        with self._stored:
            return None if self._fails_all_over() else self._program.wake(wall)

    async def _on_time(self) -> bool:
        """Do what is due by now, for as long as a slice may take; whether anything was."""
        self._update(self.clock)
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
        if self._fails_all_over():
            return None
        now = monotonic()
        with self._stored:
            due = self._program.due(self.clock.watermark, wall, self._put_off.later(now))
        if due is None and self._put_off:
            self._put_off.forget(now)
        return due

    def _fails_all_over(self) -> bool:
        """Whether so much has failed that it is because of something else: no more is begun for now."""
        again = self._put_off.next_try()
        return again is not None and len(self._put_off) >= MAX_PUT_OFF and monotonic() < again

    def _note_holds(self) -> None:
        """A step that waits begins: what it changes does not count for a commit before it has ended."""
        with self._stored:
            self._held_before = self._program.holds(self.clock.watermark)

    def _is_idle(self) -> bool:
        """Whether nothing can have become due since it was looked for last."""
        if self._stirred or self.clock.watermark != self._looked_at or self._now() >= self._wake:
            return False
        again = self._put_off.next_try()
        return again is None or monotonic() < again

    def _rest(self, wall: int) -> None:
        """Nothing is due any more at this watermark, but for what is put off."""
        wake = self._wakes(wall)
        self._shelves.unchanged()
        self._stirred, self._looked_at = False, self.clock.watermark
        self._wake = NEVER if wake is None else wake

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
        self._note_holds()
        try:
            return await self._steps.carry_out_waiting(due.acts, due, self.clock.watermark)
        finally:
            self._suspended, self._held_before = before, None

    def _fail(self, due: Due, error: Exception) -> None:
        """What time has brought could not be done: put it off, or do what the stage says."""
        self._shelves.drop()
        tries = self._put_off.tries(due.id) + 1
        delay = None
        if self._steps.in_code:
            delay = self._retries.pause(self._named(due), error, tries, len(self._put_off))
        if delay is None:
            self._give_up(due, error, tries)
            return
        counted = tries - isinstance(error, RetryLater)
        self._put_off.put(due.id, due.at, monotonic() + delay, counted)

    def _named(self, due: Due) -> str:
        """What it is called where it is told of."""
        key = "" if due.key is None else f" of key {decode_key(due.key)!r}"
        with self._stored:
            return f"{self._program.tell(due.id)}{key} (stage {self.node.name!r}, lane {self._setting.lane})"

    def _give_up(self, due: Due, error: Exception, tries: int) -> None:
        what = self._named(due)
        try:
            key, value = self._program.give_up(due.id)
        except UNREADABLE as second:
            raise self._stored.lost(error if isinstance(error, UnreadableState) else second) from error
        plain = value is not None and not isinstance(value, bytes)
        data = encode_any(value) if plain else value
        self._shelves.encode()
        written = Written(-1, due.at, key, data, [])
        prepared = self._failures.outcome(
            written, self._origin, error, tries, what, None if plain else due.side
        )
        self._put_off.done(due.id)
        self._shelves.accept()
        self._emitter.deliver(prepared)

"""A worker whose stage does more than call its handler once for each event: windows, timers, joins.

What is done with an event, and when its time has come, a *program* says (`timed.program`); here its acts are
carried out: the user's code is called, results are prepared, and then, with no way to fail any more, the
step is accepted and its results are delivered. So a failure leaves no trace, without going back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from reflow_kafka.lane.calls import from_within
from reflow_kafka.lane.due import DueWorker
from reflow_kafka.lane.gate import MAX_DIRTY, MAX_WEIGHT
from reflow_kafka.lane.line import Unit
from reflow_kafka.lane.serial import Run
from reflow_kafka.lane.steps import Timing, entrance, reading
from reflow_kafka.lane.taking import Taking
from reflow_kafka.lane.work import Queue, Share
from reflow_kafka.lane.worker import Setting
from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.timed.program import NEVER, Direct, Incoming
from reflow_kafka.topology.plan import Node


class TimedWorker(DueWorker):
    """Drives the program of a stage in one lane."""

    def __init__(self, node: Node, setting: Setting, timing: Timing) -> None:
        super().__init__(node, setting, timing)
        self._context = timing.context
        self._ending = False
        """Whether no event comes any more in this run."""
        self._late_before = 0
        self._taking = Taking(timing.program, {tp: i.side for tp, i in self._inputs.items()})

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
        with self._stored:
            return self._taking.takes(partition, records)

    def _left(self) -> frozenset[TopicPartition]:
        return self._taking.waiting()

    async def _slice(self, pieces: Sequence[tuple[TopicPartition, Sequence[Record]]]) -> None:
        await super()._slice(pieces)
        self._taking.taken()

    def nothing_more(self) -> None:
        if self._taking.nothing_more():
            self.inbox.wake.set()

    def queue(self) -> Queue:
        queue = super().queue()
        failed = self._put_off
        queue.add(Queue(retrying=len(failed), next_try=failed.next_try(), left=self._taking.waiting()))
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
        return super()._is_full() or len(self._shelves) > MAX_DIRTY or self._shelves.weight > MAX_WEIGHT

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
                    # Without value it may be no event of a window: let the program decide.
                    state = None if r.key is None or value is None else find(r.key, timestamp, watermark)
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
                finally:
                    self._held_before = None
                self._finished(r.offset)

        return run

    def _heard(self, tp: TopicPartition, records: Sequence[Record]) -> None:
        """Each of them was, when it was finished."""

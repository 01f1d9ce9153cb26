"""A worker that has many events in progress at once, each key's in order.

Events that finish are committed although earlier ones have not, so a slow one holds nobody up but its key.
Such a worker never goes back: the state of each key is kept encoded after each event, and a handler that
is still waiting has changed nothing that a commit could see.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from reflow_kafka.clock import monotonic
from reflow_kafka.definition.spec import Shape, StateBy
from reflow_kafka.errors import RetryLater
from reflow_kafka.lane.batches import BadItem, BatchCall, Entry
from reflow_kafka.lane.calm import LONG
from reflow_kafka.lane.chain import Passage, Pause
from reflow_kafka.lane.compile import Failure
from reflow_kafka.lane.concurrency import Concurrency
from reflow_kafka.lane.emitter import UnknownTopic
from reflow_kafka.lane.failures import NO_EVENTS_FAULT
from reflow_kafka.lane.line import Item, Unit
from reflow_kafka.lane.processes.job import Job
from reflow_kafka.lane.processes.pool import Processes
from reflow_kafka.lane.threads import Threads
from reflow_kafka.lane.worker import Setting, Worker
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.topology.plan import Node

T = TypeVar("T")

MIN_IN_HAND: Final = 1_000
"""Events that are taken in even if only a few may be in progress: so that there are different keys."""
IN_PROCESSES: Final = 256
"""Events that a worker has on their way to processes unless `concurrency` says more: they go in bundles."""
CLOSE_THREADS: Final = 1.0
"""Seconds for which the end of a worker waits for its threads; what hangs in them is left to itself."""

Call = Callable[[Sequence[Item], int], Awaitable[Failure | Passage | None]]
"""Handles some events, all or none of them; told which try it is. What follows in a chain is still to do."""


class OverlapWorker(Worker):
    """Runs a handler over many events at once."""

    def __init__(self, node: Node, setting: Setting) -> None:
        super().__init__(node, setting)
        stage, spec = node.stage, node.stage.handler
        assert spec is not None
        self._slots = stage.concurrency
        if stage.run_in == "process" and self._slots == 1:
            self._slots = 2 * (os.cpu_count() or 1) if stage.batch is not None else IN_PROCESSES
        batch_size = stage.batch.max_events if stage.batch is not None else 1
        keys = 10 if stage.batch is not None and stage.batch.per_key else 1  # each fills a batch of its own
        self._in_hand_limit = max(keys * MIN_IN_HAND, 2 * self._slots * batch_size)
        self._concurrency = Concurrency(self._slots)
        self._running = 0
        self._ended = 0
        """Tries of units that have ended so far."""
        self._passages: dict[Unit, tuple[Passage, Sequence[Item]]] = {}
        """What is in a chain and waits there."""
        self._blocking = stage.run_in == "loop" and not spec.shape.suspends
        self._blocks = False
        self._threads: Threads | None = None
        if stage.run_in == "thread":
            self._threads = Threads(f"{setting.flow}.{node.name}[{setting.lane}]", self._slots)
        elsewhere, returns_state = self._elsewhere()
        if stage.batch is not None:
            self._call: Call = self._batch_call(elsewhere, returns_state)
        else:
            more: dict[str, Any] = {"single": True, "elsewhere": elsewhere, "returns_state": returns_state}
            runs = _ByInput(functools.partial(self._compilation, careful=True, **more))
            self._call = functools.partial(_call_one, runs)

    def _elsewhere(self) -> tuple[Callable[..., Awaitable[Any]] | None, bool]:
        """What calls the handler in a thread or process, and whether that works on a copy of the state."""
        stage, spec, setting = self.node.stage, self.node.stage.handler, self._setting
        assert spec is not None
        assert setting.handler is not None
        collects = spec.shape is Shape.GENERATOR
        if self._threads is not None:
            call = self._threads.collect if collects else self._threads.call
            return functools.partial(call, setting.handler), False
        if stage.run_in == "loop":
            return None, False
        stateful = spec.state_by is not StateBy.NONE
        job = Job.of(stage.name, spec.target, collects=collects, returns_state=stateful)
        return functools.partial(_in_process, setting.processes, job, stage.timeout), stateful

    def _batch_call(self, elsewhere: Callable[..., Awaitable[Any]] | None, returns_state: bool) -> BatchCall:
        spec = self.node.stage.handler
        assert spec is not None
        assert self._setting.handler is not None
        return BatchCall(
            entries=_ByInput(self._entry),
            emitter=self._emitter,
            handler=self._setting.handler,
            shape=spec.shape,
            takes_event=spec.takes_event,
            state_by=spec.state_by,
            cache=self._cache,
            chain=self._chain,
            by_name=self._setting.by_name,
            timeout=self._timeout,
            elsewhere=elsewhere,
            returns_state=returns_state,
        )

    def _entry(self, tp: TopicPartition) -> Entry:
        entry = self._inputs[tp]
        return Entry(edge_codec(entry.type, entry.format).decode, entry.upstream, self._timestamp_of(tp))

    async def close(self) -> None:
        if self._threads is not None:
            await self._threads.close(CLOSE_THREADS)
        await super().close()

    def _in_progress(self) -> int:
        return self._running

    def in_hand(self) -> bool:
        return False  # whatever is in progress may take long: commits do not wait for it

    # ---- which events are begun

    async def run(self) -> None:
        """Take events in, begin what may begin, until the inbox is stopped; then wait for what is begun."""
        async with asyncio.TaskGroup() as tasks:
            while not self.inbox.stopped:
                self.inbox.wake.clear()
                self._take_in()
                if await self._begin(tasks) or await self._may_begin_more():
                    continue
                # Slots are free, but all that could be begun stands behind a few keys.
                free = self._running < self._allowed()
                crowded = free and not self._lines.ready and self._backlog.crowded(self._in_hand_limit)
                if crowded and self._backlog.relieve(self._in_hand_limit):
                    continue
                at = self._lines.wake_at() if free else None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if at is None else max(at - monotonic(), 0)):
                        await self.inbox.wake.wait()

    def _take_in(self) -> None:
        now = monotonic()
        while not self._backlog.crowded(self._in_hand_limit) and (batch := self.inbox.poll()):
            partition, records = batch
            self._heard(partition, records)
            for record in records:
                self._backlog.line_up(partition, record, now)
            self.inbox.finished(partition)
            self._gate.moved.set()

    async def _begin(self, tasks: asyncio.TaskGroup) -> bool:
        """Begin what may begin; whether it had to wait, so that there may be more."""
        waited = False
        # While events that the log refuses are looked for, a commit must show whose they are.
        searching = self._refusals.limit is not None
        crowded = self._backlog.crowded(self._in_hand_limit)
        while self._running < self._allowed() and not self.inbox.stopped:
            now = monotonic()
            unit = self._lines.due(now) or self._lines.next(now, alone=searching, crowded=crowded)
            if unit is None:
                break
            if not await self._all_admitted_by_rate(len(unit.items)):
                break  # stopping
            if self._refusals.limit is not None or self._is_full():
                waited = True
                if not await self._gate.admit(len(unit.items), self._is_full):
                    break  # stopping
            self._running += 1
            tasks.create_task(self._run_unit(unit))
        return waited

    def _allowed(self) -> int:
        """Calls that may be in progress: one while events that the log refuses are looked for."""
        return 1 if self._refusals.limit is not None else self._concurrency.limit

    async def _may_begin_more(self) -> bool:
        """Let the loop turn, if as much is in progress as may be; whether it may be more now."""
        running, ended, began = self._running, self._ended, monotonic()
        if running < self._concurrency.limit:
            return False
        await asyncio.sleep(0)
        self._concurrency.turned(monotonic() - began, self._ended - ended, running)
        return self._running < self._concurrency.limit

    async def _all_admitted_by_rate(self, wanted: int) -> bool:
        """Wait until so many events that belong together may begin; False = stopping."""
        if self._throttle is None:
            return True
        missing = wanted - self._throttle.grab(wanted)
        return not missing or await self._unless_stopped(self._throttle.admit_all(missing)) is not None

    # ---- what becomes of them

    async def _run_unit(self, unit: Unit) -> None:
        try:
            await self._handle(unit)
        finally:
            self._running -= 1
            self._ended += 1
            self.inbox.wake.set()
            self._gate.worked()  # even if it waits for a retry: it was counted as begun

    async def _handle(self, unit: Unit) -> None:
        """One try of a unit: it finishes, waits for another try, or each of its events is tried alone."""
        waiting = self._passages.pop(unit, None)
        if waiting is None:
            for item in list(unit.items):
                if self._culprit(item.partition, item.record):
                    self._finish(unit, [item])
            failure = await self._try(unit, unit.items, unit.tries + 1)
        else:
            failure = await self._pass(unit, *waiting)
        if failure is None:
            return
        if isinstance(failure, Pause):
            self._backlog.wait(unit, failure.delay)
            return
        error, in_handler = failure
        tries = unit.tries + 1
        delay = self._pause_before_retry(unit.items[0], error, tries) if in_handler else None
        if delay is not None:
            unit.tries += not isinstance(error, RetryLater)
            self._backlog.wait(unit, delay)
        elif len(unit.items) == 1:
            await self._dispose(unit, unit.items[0], error, tries)
        else:  # some may be good, and each has the tries that the batch has not used
            self._backlog.take_apart(unit)

    async def _try(self, unit: Unit, items: Sequence[Item], attempt: int) -> Failure | Pause | None:
        """Handle some events of a unit once; those that succeed, or can never, are finished."""
        while items:
            failure = await self._called(items, attempt)
            if failure is None:
                self._finish(unit, items)
                return None
            if isinstance(failure, Passage):
                return await self._pass(unit, failure, items)
            error, _ = failure
            if isinstance(error, NO_EVENTS_FAULT):
                raise error
            self._undo(items)
            if isinstance(error, UnknownTopic):
                await self._setting.learn(error.topic)
            elif isinstance(error, BadItem):
                await self._dispose(unit, error.item, error.error, attempt)
                items = [item for item in items if item is not error.item]
            else:
                return failure
        return None

    async def _called(self, items: Sequence[Item], attempt: int) -> Failure | Passage | None:
        if not self._blocking:
            return await self._call(items, attempt)
        async with self._setting.calm.blocking() if self._blocks else contextlib.nullcontext():
            began = time.perf_counter()
            failure = await self._call(items, attempt)
            self._blocks = time.perf_counter() - began > LONG
        return failure

    def _undo(self, items: Sequence[Item]) -> None:
        if self._cache is not None:
            for item in items:
                if item.record.key is not None:
                    self._cache.undo(item.record.key)

    async def _dispose(self, unit: Unit, item: Item, error: Exception, tries: int) -> None:
        """An event has failed for good: do with it what the stage says."""
        prepared = self._failures.outcome(item.record, item.partition, error, tries)
        if self._chain is None or not self._chain.concerns(prepared):
            self._emitter.deliver(prepared)
            self._finish(unit, [item])
        else:
            passage = self._chain.begin(item.record, item.partition, prepared)
            await self._through(unit, await self._pass(unit, passage, [item]))

    # ---- chained stages

    async def _pass(self, unit: Unit, passage: Passage, items: Sequence[Item]) -> Pause | None:
        """What follows from some events of a unit goes through the chain; then they are finished."""
        while (pause := await passage.go()) is not None and pause.unknown is not None:
            await self._setting.learn(pause.unknown)
        if pause is None:
            self._finish(unit, items)
        else:
            self._passages[unit] = passage, items
        return pause

    async def _through(self, unit: Unit, pause: Pause | None) -> None:
        """Wait until what is in the chain of a unit has come through, or the worker is to stop."""
        while pause is not None:
            await self.inbox.pause(pause.delay)
            if self.inbox.stopped:
                return
            pause = await self._pass(unit, *self._passages.pop(unit))

    def _finish(self, unit: Unit, items: Sequence[Item]) -> None:
        """No await stands between the results of events and this: both are in the same commit."""
        self._closed(unit, items)
        self._gate.worked()


class _ByInput(dict[TopicPartition, T]):
    """Something for each input, made when its first event comes: those of parked events show only then."""

    def __init__(self, make: Callable[[TopicPartition], T]) -> None:
        self._make = make

    def __missing__(self, tp: TopicPartition) -> T:
        self[tp] = made = self._make(tp)
        return made


async def _call_one(
    runs: dict[TopicPartition, Callable[..., Awaitable[Failure | Passage | None]]],
    items: Sequence[Item],
    attempt: int,
) -> Failure | Passage | None:
    item = items[0]
    return await runs[item.partition](item.record, attempt)


async def _in_process(
    processes: Processes, job: Job, timeout: float | None, /, *arguments: Any, **named: Any
) -> Any:
    return await processes.call(job, arguments, named, timeout=timeout)

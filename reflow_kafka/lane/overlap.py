"""A worker that has many events in progress at once, each key's in order.

Events that finish are committed although earlier ones have not, so a slow one holds nobody up but its key.
Such a worker never goes back: the state of each key is kept encoded after each event, and a handler that
is still waiting has changed nothing that a commit could see.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from reflow_kafka.definition.spec import StageSpec
from reflow_kafka.errors import RetryLater
from reflow_kafka.lane.emitter import UnknownTopic
from reflow_kafka.lane.lines import Item, Unit
from reflow_kafka.lane.worker import Setting, Worker
from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.topology.plan import Node

MIN_IN_HAND: Final = 1_000
"""Events that are taken in even if only a few may be in progress: so that there are different keys."""

Failure = tuple[Exception, bool]
"""How an event failed, and whether in its handler."""
Run = Callable[[Record, int], Awaitable[Failure | None]]


def overlaps(stage: StageSpec) -> bool:
    """Whether a stage's handler is called for events that need not finish in the order in which they came."""
    return stage.concurrency > 1 or stage.run_in != "loop" or stage.batch is not None


class OverlapWorker(Worker):
    """Runs a handler over many events at once."""

    def __init__(self, node: Node, setting: Setting) -> None:
        super().__init__(node, setting)
        self._slots = node.stage.concurrency
        self._in_hand_limit = max(MIN_IN_HAND, 2 * self._slots)
        self._running = 0
        self._runs: dict[TopicPartition, Run] = {
            tp: self._compilation(tp, careful=True, single=True) for tp in self.inputs
        }

    def in_hand(self) -> bool:
        return False  # whatever is in progress may take long: commits do not wait for it

    # ---- working

    async def run(self) -> None:
        """Take events in, begin what may begin, until the inbox is stopped; then wait for what is begun."""
        async with asyncio.TaskGroup() as tasks:
            while not self.inbox.stopped:
                self.inbox.wake.clear()
                self._take_in()
                if await self._begin(tasks):
                    continue
                at = self._lines.wake_at()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if at is None else max(at - time.monotonic(), 0)):
                        await self.inbox.wake.wait()

    def _take_in(self) -> None:
        now = time.monotonic()
        while len(self._lines) < self._in_hand_limit and (batch := self.inbox.poll()):
            partition, records = batch
            for record in records:
                self.inbox.open(partition, record.offset)
                self._lines.add(Item(partition, record), now)
            self.inbox.finished(partition)
            self._gate.moved.set()

    async def _begin(self, tasks: asyncio.TaskGroup) -> bool:
        """Begin what may begin; whether it had to wait, so that there may be more."""
        waited = False
        # While events that the log refuses are looked for, a commit must show whose they are.
        slots = self._slots if self._refusals.limit is None else 1
        while self._running < slots and not self.inbox.stopped:
            now = time.monotonic()
            unit = self._lines.due(now) or self._lines.next(now)
            if unit is None:
                break
            if self._refusals.limit is not None or self._is_full():
                waited = True
                if not await self._gate.admit(len(unit.items), self._is_full):
                    break  # stopping
            self._running += 1
            tasks.create_task(self._run_unit(unit))
        return waited

    async def _run_unit(self, unit: Unit) -> None:
        try:
            await self._one(unit)
        finally:
            self._running -= 1
            self.inbox.wake.set()
            self._gate.worked()  # even if it waits for a retry: it was counted as begun

    async def _one(self, unit: Unit) -> None:
        (item,) = unit.items
        if self._culprit(item.partition, item.record):
            self._finish(unit)
            return
        while True:
            failure = await self._runs[item.partition](item.record, unit.tries + 1)
            if failure is None:
                self._finish(unit)
                return
            error, in_handler = failure
            self._undo(item)
            if not isinstance(error, UnknownTopic):
                break
            await self._setting.learn(error.topic)
        tries = unit.tries + 1
        delay = self._pause_before_retry(item, error, tries) if in_handler else None
        if delay is None:
            self._failures.handle(item.record, item.partition, error, tries)
            self._finish(unit)
        else:
            unit.tries += not isinstance(error, RetryLater)
            self._lines.wait(unit, time.monotonic() + delay)

    def _undo(self, item: Item) -> None:
        if self._cache is not None and item.record.key is not None:
            self._cache.undo(item.record.key)

    def _finish(self, unit: Unit) -> None:
        """No await stands between the results of an event and this: both are in the same commit."""
        self._closed(unit)

"""Writing events in order, many at a time: what comes while a write is under way goes with the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple

from reflow_kafka.errors import RecordRefused, UsageError
from reflow_kafka.log.access import Access
from reflow_kafka.log.api import OutRecord, TopicPartition

BATCH_BYTES: Final = 12_000
"""Bytes per write: they make one batch even of a client's default size, so that a write that is refused has
left nothing, and the one record that is to blame can be found."""
_OVERHEAD: Final = 64


class Queued(NamedTuple):
    """A record, and who waits for it."""

    record: OutRecord
    written: asyncio.Future[None]


Queue = deque[Queued]


class Sender:
    """Keeps a queue, and a task that empties it, for each partition that is being written to."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._queues: dict[TopicPartition, Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, partition: TopicPartition, record: OutRecord) -> asyncio.Future[None]:
        """Queue a record; the future is done when it is durable, or has what went wrong.

        Cancelled, it is not written, unless that has begun.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.add_done_callback(_seen)
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = deque()
            task = asyncio.create_task(self._empty(partition, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        queue.append(Queued(record, written))
        return written

    async def close(self) -> None:
        """Write no more; whoever still waits is told so."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        queues, self._queues = self._queues, {}
        for queue in queues.values():
            _fail(queue, UsageError("the client was closed before this was written"))

    async def _empty(self, partition: TopicPartition, queue: Queue) -> None:
        while batch := _next(queue):
            await self._write(partition, batch)
        del self._queues[partition]

    async def _write(self, partition: TopicPartition, batch: Queue) -> None:
        """Write a batch and tell those who wait."""
        try:
            await self._publish(partition, batch)
        except Exception as error:
            _fail(batch, error)
        except BaseException:
            _fail(batch, UsageError("the client was closed while this was being written: it may be written"))
            raise

    async def _publish(self, partition: TopicPartition, batch: Queue) -> None:
        try:
            await self._access.publish(*partition, [each.record for each in batch])
        except RecordRefused:
            if len(batch) == 1:
                raise
            for each in batch:  # nothing of it was written: all but the one that is to blame will be
                await self._write(partition, deque([each]))
        for each in batch:
            if not each.written.done():
                each.written.set_result(None)


def _next(queue: Queue) -> Queue:
    """What is written at a time; nothing of what nobody waits for any more."""
    batch: Queue = deque()
    size = 0
    while queue:
        if queue[0].written.cancelled():
            queue.popleft()
            continue
        record = queue[0].record
        size += _OVERHEAD + len(record.key or b"") + len(record.value or b"")
        size += sum(len(name) + len(value or b"") for name, value in record.headers)
        if batch and size > BATCH_BYTES:
            break
        batch.append(queue.popleft())
    return batch


def _fail(batch: Queue, error: Exception) -> None:
    for each in batch:
        if not each.written.done():
            each.written.set_exception(error)


def _seen(written: asyncio.Future[None]) -> None:
    """Whoever waited may have left: then its error is nobody's."""
    if not written.cancelled():
        written.exception()

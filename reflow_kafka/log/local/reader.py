"""Reading chosen partitions of a local log."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from reflow_kafka.errors import LogError, OffsetOutOfRange
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local.partition import Partition
from reflow_kafka.log.local.records import LocalBatch, LocalRecord

if TYPE_CHECKING:
    from reflow_kafka.log.local.log import LocalLog

MAX_FETCH_BYTES = 4 * 1024 * 1024

Fetched = dict[TopicPartition, Sequence[LocalRecord]]


class _Cursor:
    """How far one partition was read, and the batch that is being read."""

    __slots__ = ("batch", "partition", "position")

    def __init__(self, partition: Partition, position: int) -> None:
        self.partition = partition
        self.position = position
        self.batch: LocalBatch | None = None

    def take(self, limit: int, *, committed: bool) -> tuple[Sequence[LocalRecord], int]:
        """At most `limit` of the next records, from one batch, and the bytes of that batch."""
        batch = self.batch
        if batch is None or not batch.base <= self.position < batch.end:
            batch = self.batch = self.partition.next_batch(self.position, committed=committed)
        if batch is None:
            # Nothing but gaps up to here: aborted records, compaction, offsets lost in a crash.
            partition = self.partition
            self.position = max(self.position, partition.stable if committed else partition.end)
            return (), 0
        first = batch.index(self.position)
        last = min(len(batch.records), first + limit)
        if last == len(batch.records):
            self.batch, self.position = None, batch.end
        else:
            self.position = batch.records[last].offset
        whole = first == 0 and last == len(batch.records)
        return (batch.records if whole else batch.records[first:last]), batch.size


class LocalReader:
    """A `Reader` of a local log."""

    def __init__(self, log: LocalLog, *, committed: bool) -> None:
        self._log = log
        self._committed = committed
        self._cursors: dict[TopicPartition, _Cursor] = {}
        self._turn = 0
        self._news = asyncio.Event()

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions from now on, starting at these offsets."""
        partitions = {tp: self._log.partition(tp) for tp in positions}
        self._forget()
        for tp, offset in positions.items():
            self._cursors[tp] = _Cursor(partitions[tp], offset)
            partitions[tp].readers.add(self)
        self.wake()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue one assigned partition at `offset`."""
        cursor = self._cursors[partition]
        cursor.position = offset
        cursor.batch = None
        self.wake()

    def position(self, partition: TopicPartition) -> int:
        """Offset of the next record to be returned; moves past gaps."""
        return self._cursors[partition].position

    def behind(self, partition: TopicPartition) -> bool:
        """Whether there is more than was returned."""
        cursor = self._cursors[partition]
        return cursor.position < (cursor.partition.stable if self._committed else cursor.partition.end)

    def wake(self) -> None:
        """Let a waiting `fetch` look again."""
        self._news.set()

    async def fetch(
        self,
        partitions: Collection[TopicPartition] | None = None,
        *,
        max_records: int = 2000,
        timeout: float = 0.5,
    ) -> Fetched:
        """The next records; see `Reader.fetch`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            self._news.clear()
            self._log.fault("fetch")
            self._log.check_open()
            cursors = self._chosen(partitions)
            before = [cursor.position for cursor in cursors]
            fetched = self._collect(cursors, max_records)
            # Passing a gap at the end is news, too: who waits for a position need not wait any longer.
            moved = before != [cursor.position for cursor in cursors]
            if moved or (left := deadline - loop.time()) <= 0:
                return fetched
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                pass  # one last look, then the deadline ends it

    def _collect(self, cursors: list[_Cursor], limit: int) -> Fetched:
        self._check_range(cursors)
        fetched: Fetched = {}
        budget = MAX_FETCH_BYTES
        # A busy partition must not starve the others: each fetch begins with the next one.
        self._turn += 1
        for at in range(len(cursors)):
            if limit <= 0 or budget <= 0:
                break
            cursor = cursors[(at + self._turn) % len(cursors)]
            records, size = self._drain(cursor, limit, budget)
            if records:
                fetched[cursor.partition.name] = records
                limit -= len(records)
                budget -= size
        return fetched

    def _drain(self, cursor: _Cursor, limit: int, budget: int) -> tuple[Sequence[LocalRecord], int]:
        records, used = cursor.take(limit, committed=self._committed)
        if not records or len(records) == limit or used >= budget:
            return records, used  # as they are kept: no copy
        joined = list(records)
        while len(joined) < limit and used < budget:
            records, size = cursor.take(limit - len(joined), committed=self._committed)
            if not records:
                break
            joined += records
            used += size
        return joined, used

    def _chosen(self, partitions: Collection[TopicPartition] | None) -> list[_Cursor]:
        if partitions is None:
            return list(self._cursors.values())
        try:
            return [self._cursors[tp] for tp in partitions]
        except KeyError as error:
            raise LogError(f"{error.args[0]} is not assigned to this reader") from None

    @staticmethod
    def _check_range(cursors: Sequence[_Cursor]) -> None:
        outside = {
            cursor.partition.name: cursor.position
            for cursor in cursors
            if not cursor.partition.start <= cursor.position <= cursor.partition.end
        }
        if outside:
            raise OffsetOutOfRange(outside)

    def _forget(self) -> None:
        for cursor in self._cursors.values():
            cursor.partition.readers.discard(self)
        self._cursors = {}

    async def close(self) -> None:
        """Let go of the partitions."""
        self._forget()
        self.wake()

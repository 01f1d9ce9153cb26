"""The memory log: the embedded log without a disk, for tests."""

from __future__ import annotations

from bisect import bisect_right

from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local import Change, Contents, Faults, LocalBatch, LocalLog
from reflow_kafka.log.local.records import MAX_BATCH_BYTES, MAX_RECORD_BYTES


class MemoryStorage:
    """Batches in lists. Nothing is written anywhere, and closing forgets nothing."""

    def __init__(self) -> None:
        self._contents = Contents()
        self._batches: dict[TopicPartition, tuple[list[int], list[LocalBatch]]] = {}  # bases, batches

    def open(self) -> Contents:
        """What is there."""
        return self._contents

    def close(self) -> None:
        """Nothing to close."""

    def write(self, change: Change) -> None:
        """Keep a change."""
        self._contents.topics.update({spec.name: spec for spec in change.topics})
        self._contents.starts.update(change.starts)
        self._contents.ends.update(change.ends)
        self._contents.positions.setdefault(change.flow, {}).update(change.positions)
        for tp, batch in change.batches:
            bases, batches = self._batches.setdefault(tp, ([], []))
            at = bisect_right(bases, batch.base)  # a transaction that took long comes in between
            bases.insert(at, batch.base)
            batches.insert(at, batch)
        for tp, start in change.starts.items():
            self._drop_below(tp, start)

    def _drop_below(self, tp: TopicPartition, start: int) -> None:
        bases, batches = self._batches.get(tp, ([], []))
        gone = max(0, bisect_right(bases, start) - 1)
        while gone < len(batches) and batches[gone].end <= start:
            gone += 1
        del bases[:gone], batches[:gone]

    def next_batch(self, partition: TopicPartition, offset: int, limit: int) -> LocalBatch | None:
        """The first batch with an end above `offset` and a base below `limit`."""
        bases, batches = self._batches.get(partition, ([], []))
        at = max(0, bisect_right(bases, offset) - 1)
        while at < len(batches) and bases[at] < limit:
            if batches[at].end > offset:
                return batches[at]
            at += 1
        return None

    async def maintain(self, stable: dict[TopicPartition, int]) -> None:
        """Nothing is compacted: tests read what was written."""


class MemoryLog(LocalLog):
    """A log in memory. Stopping it loses nothing, so several engines of a test can share one."""

    name = "memory"

    def __init__(
        self,
        *,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_record_bytes: int = MAX_RECORD_BYTES,
        faults: Faults | None = None,
    ) -> None:
        super().__init__(
            MemoryStorage(), max_batch_bytes=max_batch_bytes, max_record_bytes=max_record_bytes, faults=faults
        )

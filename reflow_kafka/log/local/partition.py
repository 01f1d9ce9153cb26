"""One partition of a local log, as far as it is held in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local.records import LocalBatch
from reflow_kafka.log.local.storage import Storage

if TYPE_CHECKING:
    from reflow_kafka.log.local.reader import LocalReader


class Partition:
    """Start, end, the batches of open transactions, and who wants to know about news."""

    __slots__ = ("_storage", "end", "name", "open", "readers", "start")

    def __init__(self, name: TopicPartition, storage: Storage, start: int, end: int) -> None:
        self.name = name
        self.start = start
        self.end = end  # the offset after the last one given away, to open transactions too
        self.open: list[LocalBatch] = []  # in offset order
        self.readers: set[LocalReader] = set()
        self._storage = storage

    @property
    def stable(self) -> int:
        """The offset up to which every transaction is settled: as far as a committed reader may look."""
        return self.open[0].base if self.open else self.end

    def next_batch(self, offset: int, *, committed: bool) -> LocalBatch | None:
        """The first batch that such a reader may see and that ends above `offset`."""
        if committed:
            return self._next_settled(offset)
        pending = next((batch for batch in self.open if batch.end > offset), None)
        limit = pending.base if pending else self.end
        return self._storage.next_batch(self.name, offset, limit) or pending

    def _next_settled(self, offset: int) -> LocalBatch | None:
        limit = self.stable
        while offset < limit:
            batch = self._storage.next_batch(self.name, offset, limit)
            if batch is None or not batch.aborted:
                return batch
            offset = batch.end
        return None

    def wake(self) -> None:
        """Tell the readers that there may be something to read."""
        for reader in self.readers:
            reader.wake()

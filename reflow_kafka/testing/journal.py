"""A log in memory that remembers what was written to some of its topics, in the order of commits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from reflow_kafka.log.api import Reader, Record, TopicPartition
from reflow_kafka.log.local import Change
from reflow_kafka.log.local.reader import Fetched, LocalReader
from reflow_kafka.log.memory import MemoryLog

WAIT = 86_400.0
"""Seconds that a reader waits for news: they wake it, and to look now and then would only pass the time."""
SHORT = 0.1
"""A wait up to this long is for something else."""


class JournalLog(MemoryLog):
    """The memory log, with a journal."""

    def __init__(self) -> None:
        super().__init__()
        self._journal: dict[str, list[tuple[TopicPartition, list[Record]]]] = {}

    def keep(self, topic: str) -> None:
        """Remember what is written there from now on."""
        self._journal.setdefault(topic, [])

    def kept(self, topic: str) -> Iterator[tuple[TopicPartition, Record]]:
        """What was written there, and where."""
        for partition, records in self._journal[topic]:
            for record in records:
                yield partition, record

    def end(self, partition: TopicPartition) -> int:
        """The offset after the last record."""
        return self.partition(partition).end

    def write(self, change: Change) -> None:
        """Keep a change."""
        super().write(change)
        for partition, batch in change.batches:
            if partition.topic in self._journal and not batch.aborted:
                self._journal[partition.topic].append((partition, list(batch.records)))

    async def trim(self, positions: Mapping[TopicPartition, int]) -> None:
        """A test needs no room."""

    def reader(self, *, committed: bool = True) -> Reader:
        """A new reader; it waits for as long as there is nothing new."""
        return _Patient(self, committed=committed)


class _Patient(LocalReader):
    async def fetch(
        self,
        partitions: Collection[TopicPartition] | None = None,
        *,
        max_records: int = 2000,
        timeout: float = 0.5,
    ) -> Fetched:
        timeout = WAIT if timeout > SHORT else timeout
        return await super().fetch(partitions, max_records=max_records, timeout=timeout)

"""What other programs may do with a log: look, publish, read. The same calls here and through the socket."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from reflow_kafka.errors import UsageError
from reflow_kafka.log.api import Log, OutRecord, Record, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.local.records import LocalRecord, record_size

MAX_READ_BYTES = 4 * 1024 * 1024
MAX_READ_RECORDS = 10_000
MAX_READ_TIMEOUT = 30.0


class Page(NamedTuple):
    """Some records, and where to read on."""

    records: Sequence[Record]
    next_offset: int


class LogClient(Protocol):
    """Access to an embedded log, which may be open in this process or in another."""

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int | None]:
        """How many partitions each topic has; None if it does not exist."""

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create external topics that are missing."""

    async def publish(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        """Append records."""

    async def start_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset of the first record still kept."""

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the last committed record."""

    async def read(
        self, topic: str, partition: int, offset: int, max_records: int = 2000, timeout: float = 0.5
    ) -> Page:
        """Committed records from `offset` on: at least one if there is one within `timeout` s."""


class LogService:
    """A `LogClient` for a log that is open in this process."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int | None]:
        """How many partitions each topic has; None if it does not exist."""
        return await self._log.partition_counts(topics)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create topics that are missing: external ones, and those of replies."""
        open_to_all = (TopicKind.EXTERNAL, TopicKind.REPLIES)
        if internal := [spec.name for spec in topics if spec.kind not in open_to_all]:
            raise UsageError(f"internal topics are made by their flow only: {', '.join(internal)}")
        return await self._log.ensure_topics(topics)

    async def publish(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        """Append records."""
        await self._log.publish(topic, partition, records)

    async def start_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset of the first record still kept."""
        return await self._log.start_offsets(partitions)

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the last committed record."""
        return await self._log.end_offsets(partitions)

    async def read(
        self, topic: str, partition: int, offset: int, max_records: int = 2000, timeout: float = 0.5
    ) -> Page:
        """Committed records from `offset` on; see `LogClient.read`."""
        tp = TopicPartition(topic, partition)
        reader = self._log.reader()
        try:
            reader.assign({tp: offset})
            fetched = await reader.fetch(
                max_records=min(max_records, MAX_READ_RECORDS), timeout=min(timeout, MAX_READ_TIMEOUT)
            )
            records = fetched.get(tp, ())
            fitting = _fitting(records)
            if fitting < len(records):
                return Page(records[:fitting], records[fitting].offset)
            return Page(records, reader.position(tp))
        finally:
            await reader.close()


def _fitting(records: Sequence[Record]) -> int:
    """How many of the records make an answer of reasonable size; at least one."""
    size = 0
    for count, record in enumerate(records):
        assert isinstance(record, LocalRecord)
        size += record_size(record)
        if size > MAX_READ_BYTES and count:
            return count
    return len(records)

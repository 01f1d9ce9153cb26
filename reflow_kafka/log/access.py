"""A log as programs see it that run no lanes: they look, publish and read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from reflow_kafka.errors import UsageError
from reflow_kafka.log.api import OutRecord, Reader, Record, TopicPartition, TopicSpec

if TYPE_CHECKING:
    from reflow_kafka.log.embedded import LogClient
    from reflow_kafka.security import Security


class Access(Protocol):
    """What such a program needs of a log; every `Log` is one."""

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int | None]:
        """How many partitions each topic has; None if it does not exist."""

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create what is missing."""

    async def publish(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        """Append records."""

    async def start_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset of the first record still kept."""

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the last committed record."""

    def reader(self) -> Reader:
        """A reader of committed records."""


@asynccontextmanager
async def open_access(
    bootstrap: str | None, data_dir: Path, *, security: Security | None = None, lasting: bool = False
) -> AsyncIterator[Access]:
    """Access to Kafka, or to the embedded log, through the worker that has it open if one has.

    Without a worker the embedded log is open here until the end of this access, or if it is `lasting` only
    as long as each call takes: workers may then come and go.

    Raises:
        BrokerUnavailable: nobody answers at `bootstrap`, or not with this `security`.
        UsageError: the embedded log is in use by a process that does not answer.
    """
    if bootstrap is not None:
        from reflow_kafka.log.kafka.log import KafkaLog

        log = KafkaLog(bootstrap, security=security)
        await log.start()
        try:
            yield log
        finally:
            await log.stop()
    elif lasting:
        from reflow_kafka.log.embedded import RoamingLog

        calls, reads = RoamingLog(data_dir), RoamingLog(data_dir)
        try:
            yield EmbeddedAccess(calls, reads)
        finally:
            await calls.close()
            await reads.close()
    else:
        from reflow_kafka.log.embedded import open_client

        async with open_client(data_dir) as client:
            yield EmbeddedAccess(client)


async def count_of(access: Access, topic: str) -> int:
    """How many partitions a topic has.

    Raises:
        UsageError: there is no such topic.
    """
    count = (await access.partition_counts([topic]))[topic]
    if count is None:
        raise UsageError(f"there is no topic {topic!r}")
    return count


class EmbeddedAccess:
    """Access through a `LogClient`, or two: one call waits for the other, and reading waits for records."""

    def __init__(self, client: LogClient, reads: LogClient | None = None) -> None:
        self._reads = reads or client
        self.partition_counts = client.partition_counts
        self.ensure_topics = client.ensure_topics
        self.publish = client.publish
        self.start_offsets = client.start_offsets
        self.end_offsets = client.end_offsets

    def reader(self) -> Reader:
        """A reader that asks for one page after the other."""
        return PageReader(self._reads)


class PageReader:
    """A `Reader` over the pages of a `LogClient`."""

    PAUSE = 0.05  # between two looks at partitions without news

    def __init__(self, client: LogClient) -> None:
        self._client = client
        self._positions: dict[TopicPartition, int] = {}
        self._turn = 0

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions from now on, starting at these offsets."""
        self._positions = dict(positions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue one assigned partition at `offset`."""
        self._positions[partition] = offset

    def position(self, partition: TopicPartition) -> int:
        """Offset of the next record to be returned."""
        return self._positions[partition]

    def behind(self, partition: TopicPartition) -> bool:
        """Nothing is known of the end."""
        return True

    async def fetch(
        self,
        partitions: Collection[TopicPartition] | None = None,
        *,
        max_records: int = 2000,
        timeout: float = 0.5,
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """The next records of those partitions that have some."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        asked = list(self._positions if partitions is None else partitions)
        wait = timeout if len(asked) == 1 else 0  # several have to be looked at in turns
        while True:
            found: dict[TopicPartition, Sequence[Record]] = {}
            # A busy partition must not starve the others: each look begins with the next one.
            self._turn += 1
            for at in range(len(asked)):
                tp = asked[(at + self._turn) % len(asked)]
                page = await self._client.read(
                    tp.topic, tp.partition, self._positions[tp], max_records=max_records, timeout=wait
                )
                self._positions[tp] = page.next_offset
                if page.records:
                    found[tp] = page.records
                    max_records -= len(page.records)
                if max_records <= 0:
                    break
            if found or loop.time() >= deadline:
                return found
            if not wait:
                await asyncio.sleep(self.PAUSE)

    async def close(self) -> None:
        """Nothing is held."""

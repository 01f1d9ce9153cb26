"""Topics of an embedded log, through the worker that has it open or directly."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reflow_kafka.log.api import OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.embedded import open_client
from reflow_kafka.serde.keys import partition_of
from tests.support.kafka import Input


def produce(data_dir: Path, topic: str, events: Sequence[Input], partitions: int = 8) -> None:
    """Write events in order."""
    asyncio.run(_produce(data_dir, topic, events, partitions))


async def _produce(data_dir: Path, topic: str, events: Sequence[Input], partitions: int) -> None:
    batches: dict[int, list[OutRecord]] = defaultdict(list)
    for event in events:
        key, value = event.key.encode(), json.dumps(event.value).encode()
        batches[partition_of(key, partitions)].append(OutRecord(key, value, event.timestamp))
    async with open_client(data_dir) as client:
        await client.ensure_topics([TopicSpec(topic, partitions, TopicKind.EXTERNAL)])
        for partition, records in batches.items():
            await client.publish(topic, partition, records)


class Topic:
    """A topic of an embedded log; every look reads on where the last one ended."""

    def __init__(self, data_dir: Path, name: str, partitions: int = 8) -> None:
        self.name = name
        self._data_dir = data_dir
        self._at = [0] * partitions
        self.values: dict[str, list[Any]] = {}
        """Per key, in order."""
        self.count = 0

    def wait(self, count: int, seconds: float) -> dict[str, list[Any]]:
        """Read until there are `count` events, and to the end then."""
        deadline = time.monotonic() + seconds
        while asyncio.run(self._look()) < count:
            assert time.monotonic() < deadline, f"{self.name} has {self.count} of {count} after {seconds:g} s"
            time.sleep(0.2)
        return self.values

    async def _look(self) -> int:
        async with open_client(self._data_dir) as client:
            partitions = [TopicPartition(self.name, number) for number in range(len(self._at))]
            for (_, number), end in (await client.end_offsets(partitions)).items():
                while self._at[number] < end:
                    page = await client.read(self.name, number, self._at[number], timeout=0)
                    for record in page.records:
                        assert record.key is not None
                        assert record.value is not None
                        self.values.setdefault(record.key.decode(), []).append(json.loads(record.value))
                        self.count += 1
                    self._at[number] = page.next_offset
        return self.count

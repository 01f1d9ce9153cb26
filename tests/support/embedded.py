"""Topics of an embedded log, through the worker that has it open or directly."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from reflow_kafka.log.api import OutRecord, Record, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.embedded import open_client
from reflow_kafka.serde.keys import partition_of
from tests.support.kafka import Input, Output


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


def read(data_dir: Path, topic: str, partitions: int = 8) -> list[Output]:
    """Everything in a topic; each key's events in order."""
    return asyncio.run(_read(data_dir, topic, partitions))


async def _read(data_dir: Path, topic: str, partitions: int) -> list[Output]:
    found: list[Output] = []
    async with open_client(data_dir) as client:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        for (_, number), end in (await client.end_offsets(places)).items():
            at = 0
            while at < end:
                page = await client.read(topic, number, at, timeout=0)
                found += map(_output, page.records)
                at = page.next_offset
    return found


def _output(record: Record) -> Output:
    assert record.key is not None
    headers = {name: (value or b"").decode() for name, value in record.headers}
    value = None if record.value is None else json.loads(record.value)
    return Output(record.key.decode(), value, headers)

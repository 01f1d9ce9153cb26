"""What tests of the log on Kafka have in common."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from reflow_kafka.log.api import BatchBuilder, LaneWriter, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.kafka.log import KafkaLog

NOW = int(time.time() * 1000)


async def edge(log: KafkaLog, name: str, partitions: int = 2) -> list[TopicPartition]:
    """The partitions of a new edge topic."""
    await log.ensure_topics([TopicSpec(name, partitions, TopicKind.EDGE)])
    return [TopicPartition(name, partition) for partition in range(partitions)]


def filled(writer: LaneWriter, values: Iterable[str], timestamp: int = NOW) -> BatchBuilder:
    builder = writer.batch()
    for value in values:
        assert builder.append(timestamp=timestamp, key=b"k", value=value.encode()) is not None
    return builder


async def everything(log: KafkaLog, tp: TopicPartition) -> list[str]:
    """What a committed reader finds in a partition once no transaction is open in it."""
    async with asyncio.timeout(20):
        end = (await log.end_offsets([tp], committed=False))[tp]
        while (await log.end_offsets([tp]))[tp] < end:  # noqa: ASYNC110 - the broker has no event for it
            await asyncio.sleep(0.01)
        reader = log.reader()
        reader.assign({tp: 0})
        found: list[str] = []
        while reader.position(tp) < end:
            found += [(r.value or b"").decode() for r in (await reader.fetch()).get(tp, ())]
        await reader.close()
    return found

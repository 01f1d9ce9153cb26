"""Running flows on a memory log, and looking at what they leave there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson

from reflow_kafka import Flow
from reflow_kafka.engine.engine import Engine
from reflow_kafka.log.api import OutRecord, Record, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.serde.keys import encode_key, partition_of
from reflow_kafka.state.memory import MemoryBackend

DEADLINE = 20.0


async def new_log(*topics: str, partitions: int = 2, **options: Any) -> MemoryLog:
    log = MemoryLog(**options)
    await log.start()
    await log.ensure_topics([TopicSpec(topic, partitions, TopicKind.EXTERNAL) for topic in topics])
    return log


async def put(log: MemoryLog, topic: str, *events: tuple[Any, Any], timestamp: int = 1_000) -> None:
    """Publish (key, value) pairs; a value of bytes is taken as it is, None is a tombstone."""
    partitions = (await log.partition_counts([topic]))[topic] or 1
    for key, value in events:
        raw = value if isinstance(value, bytes | None) else orjson.dumps(value)
        encoded = encode_key(key)
        partition = 0 if encoded is None else partition_of(encoded, partitions)
        await log.publish(topic, partition, [OutRecord(encoded, raw, timestamp)])


async def run(log: MemoryLog, *flows: Flow, state: MemoryBackend | None = None, **options: Any) -> Engine:
    """Run flows to the end of their input; returns the engine, which has stopped."""
    async with asyncio.timeout(DEADLINE):
        async with Engine(*flows, log=log, state=state or MemoryBackend(), **options) as engine:
            await engine.wait(until_end=True)
    assert not others(), f"left behind: {others()}"
    return engine


def others() -> set[asyncio.Task[Any]]:
    """Tasks beside the test's own."""
    return asyncio.all_tasks() - {asyncio.current_task()}


async def records(log: MemoryLog, topic: str) -> list[Record]:
    """What a committed reader sees, partition after partition."""
    count = (await log.partition_counts([topic]))[topic] or 0
    found: list[Record] = []
    for partition in range(count):
        tp = TopicPartition(topic, partition)
        reader = log.reader(committed=True)
        reader.assign(await log.start_offsets([tp]))
        while fetched := await reader.fetch(timeout=0):
            found += fetched[tp]
        await reader.close()
    return found


async def values(log: MemoryLog, topic: str) -> list[Any]:
    return [None if r.value is None else orjson.loads(r.value) for r in await records(log, topic)]


async def by_key(log: MemoryLog, topic: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for r in await records(log, topic):
        value = None if r.value is None else orjson.loads(r.value)
        found.setdefault((r.key or b"").decode(), []).append(value)
    return found


def error_of(record: Record, fact: str) -> str:
    return (dict(record.headers)[f"reflow.error.{fact}"] or b"").decode()


async def until_seen(log: MemoryLog, topic: str, count: int) -> None:
    """Wait until so many records are committed in a topic."""
    partitions = range((await log.partition_counts([topic]))[topic] or 0)
    reader = log.reader(committed=True)
    reader.assign(await log.start_offsets([TopicPartition(topic, partition) for partition in partitions]))
    async with asyncio.timeout(DEADLINE):
        while count > 0:
            count -= sum(map(len, (await reader.fetch()).values()))
    await reader.close()


def numbers(count: int, keys: str = "ab") -> Iterable[tuple[str, dict[str, int]]]:
    return ((keys[n % len(keys)], {"n": n}) for n in range(count))

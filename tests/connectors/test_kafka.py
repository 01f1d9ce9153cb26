"""The Kafka connectors, on a real broker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from reflow_connectors.kafka import KafkaSink, KafkaSource
from reflow_kafka.errors import DataLoss, Reject, UsageError
from reflow_kafka.event import Event, received
from reflow_kafka.serde.keys import partition_of

from .contract import check_sink, check_source, context, reading, values

pytestmark = pytest.mark.kafka


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def create(bootstrap: str, topic: str, partitions: int = 1) -> None:
    async with admin(bootstrap) as client:
        await client.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])


async def records(bootstrap: str, topic: str, partitions: int = 1) -> list[Any]:
    """Everything in the topic."""
    parts = [TopicPartition(topic, n) for n in range(partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, fetch_max_wait_ms=50)
    consumer.assign(parts)
    await consumer.start()
    found: list[Any] = []
    try:
        await consumer.seek_to_beginning(*parts)
        ends = await consumer.end_offsets(parts)
        for part in parts:
            while await consumer.position(part) < ends[part]:
                for batch in (await consumer.getmany(part, timeout_ms=1000)).values():
                    found += batch
    finally:
        await consumer.stop()
    return found


async def test_source(kafka_bootstrap: str, unique: str) -> None:
    """In order and resumable from everywhere, although transactions leave gaps in the offsets."""
    await create(kafka_bootstrap, unique)
    expected = []
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=unique) as producer:
        for n in range(6):
            await producer.begin_transaction()
            await producer.send_and_wait(
                unique, orjson.dumps({"n": n}), key=b"k%d" % n, timestamp_ms=1000 + n
            )
            if n % 3 == 2:
                await producer.abort_transaction()
            else:
                await producer.commit_transaction()
                expected.append({"n": n})
    source = KafkaSource(unique, bootstrap=kafka_bootstrap, until_end=True, fetch_max_wait_ms=50)
    await check_source(source, expected, "0")
    async with reading(source, "0") as reader:
        events = await reader.read(1)
        while not events:
            events = await reader.read(1)
    assert (events[0].key, events[0].timestamp) == ("k0", 1000)


async def test_source_options(kafka_bootstrap: str, unique: str) -> None:
    await create(kafka_bootstrap, unique, partitions=3)
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
        for value in (b'{"id": 1, "at": 5}', b"nonsense", None, b'{"id": 2, "at": 6}'):
            await producer.send_and_wait(unique, value, key=b"k", partition=1, headers=[("h", b"v")])
    os.environ["REFLOW_TEST_SERVERS"] = kafka_bootstrap
    try:
        source = KafkaSource(
            unique,
            bootstrap="${env.REFLOW_TEST_SERVERS}",
            key="id",
            timestamp="at",
            until_end=True,
            group=unique,
        )
        assert await source.parts() == ["0", "1", "2"]
        found: list[Event[Any]] = []
        async with reading(source, "1") as reader:
            while (events := await reader.read(10)) is not None:
                found += events
            await reader.committed({"offset": 3})
        assert [(e.value, e.key) for e in found] == [
            ({"id": 1, "at": 5}, "1"),
            (None, "k"),
            ({"id": 2, "at": 6}, "2"),
        ]
        assert [e.timestamp for e in found if e.value] == [5, 6]
        assert found[0].headers == {"h": b"v"}
        # Without a position of its own the flow begins where the group stands.
        assert await values(source, "1") == [{"id": 2, "at": 6}]
        late = KafkaSource(unique, bootstrap=kafka_bootstrap, auto_offset_reset="latest", until_end=True)
        assert await values(late, "1") == []
    finally:
        del os.environ["REFLOW_TEST_SERVERS"]


async def test_source_notices_lost_records(kafka_bootstrap: str, unique: str) -> None:
    await create(kafka_bootstrap, unique)
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
        for n in range(5):
            await producer.send_and_wait(unique, b"%d" % n)
    async with admin(kafka_bootstrap) as client:
        await client.delete_records({TopicPartition(unique, 0): RecordsToDelete(before_offset=4)})
    source = KafkaSource(unique, bootstrap=kafka_bootstrap, until_end=True)
    assert await values(source, "0") == [4]
    with pytest.raises(DataLoss, match="begins at offset 4, but was read up to offset 2"):
        await values(source, "0", {"offset": 2})


async def test_no_such_topic_and_no_such_broker(kafka_bootstrap: str, unique: str) -> None:
    with pytest.raises(UsageError, match="there is no topic"):
        await KafkaSource(unique, bootstrap=kafka_bootstrap).parts()
    with pytest.raises(UsageError, match="there is no topic"):
        await KafkaSink(unique, bootstrap=kafka_bootstrap).open(context())
    async with admin(kafka_bootstrap) as client:
        assert unique not in await client.list_topics(), "asking for the topic has created it"
    for attempt in (
        KafkaSource(unique, bootstrap="127.0.0.1:1").parts(),
        KafkaSource(unique, bootstrap="127.0.0.1:1").open("0", None, context()),
        KafkaSink(unique, bootstrap="127.0.0.1:1").open(context()),
    ):
        with pytest.raises(ConnectionError, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
            await attempt


async def test_sink(kafka_bootstrap: str, unique: str) -> None:
    await create(kafka_bootstrap, unique)

    async def read() -> list[Any]:
        return [orjson.loads(record.value) for record in await records(kafka_bootstrap, unique)]

    await check_sink(KafkaSink(unique, bootstrap=[kafka_bootstrap]), read)


async def test_sink_keys_partitions_headers_and_many_batches(kafka_bootstrap: str, unique: str) -> None:
    await create(kafka_bootstrap, unique, partitions=4)
    writer = await KafkaSink(unique, bootstrap=kafka_bootstrap, max_batch_size=2000).open(context())
    total = 2000
    for start in range(0, total, 500):
        await writer.write(
            [
                received({"n": n}, b"k%d" % (n % 50), 1000 + n, {"h": b"v"}, "up", f"id-{n}")
                for n in range(start, start + 500)
            ]
        )
    await writer.write([Event(None, key="gone", timestamp=1), Event({"n": -1}, timestamp=1)])
    await writer.flush()
    await writer.close()
    found = await records(kafka_bootstrap, unique, 4)
    assert len(found) == total + 2
    per_key: dict[bytes, list[int]] = {}
    for record in found:
        if record.key and record.value:
            assert record.partition == partition_of(record.key, 4)
            n = orjson.loads(record.value)["n"]
            assert dict(record.headers) == {"h": b"v", "reflow-id": f"id-{n}".encode()}
            assert record.timestamp == 1000 + n
            per_key.setdefault(record.key, []).append(n)
    assert per_key == {b"k%d" % k: list(range(k, total, 50)) for k in range(50)}
    assert [record.value for record in found if record.key == b"gone"] == [None]


async def test_sink_rejects_and_fails_loudly(kafka_bootstrap: str, unique: str) -> None:
    async with admin(kafka_bootstrap) as client:
        small = NewTopic(unique, 1, 1, topic_configs={"max.message.bytes": "20000"})
        await client.create_topics([small])
    writer = await KafkaSink(unique, bootstrap=kafka_bootstrap, key="id").open(context())
    with pytest.raises(Reject, match="there is no field 'id'"):
        await writer.write([Event({"id": 1}), Event({})])
    with pytest.raises(Reject, match="bytes, but"):
        await writer.write([Event({"id": "x" * 2_000_000})])
    await writer.flush()
    assert await records(kafka_bootstrap, unique) == []
    await writer.write([Event({"id": "x" * 50_000})])
    with pytest.raises(Exception, match="MessageSizeTooLarge"):
        await writer.flush()
    with pytest.raises(ConnectionError, match="open a new one"):
        await writer.write([Event({"id": 1})])
    await writer.close()
    writer = await KafkaSink(unique, bootstrap=kafka_bootstrap, key="id").open(context())
    await writer.write([Event({"id": 1})])
    await writer.flush()
    await writer.close()
    assert [record.key for record in await records(kafka_bootstrap, unique)] == [b"1"]


async def test_sink_closes_in_time_without_a_broker(kafka_bootstrap: str, unique: str) -> None:
    """The broker goes away with events in flight: flush fails in time, close does not hang."""
    await create(kafka_bootstrap, unique)
    sink = KafkaSink(unique, bootstrap=kafka_bootstrap, timeout=1.0)
    writer = await sink.open(context())
    await writer.write([Event(1)])
    producer = writer._producer

    async def nobody(*args: object, **kwargs: object) -> Any:
        await asyncio.sleep(3600)

    producer.client.send = nobody
    with pytest.raises(TimeoutError):
        await writer.flush()
    async with asyncio.timeout(5):
        await writer.close()
    await writer.close()

"""Reading when things go wrong."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException

from reflow_kafka.errors import LogDoubt
from reflow_kafka.log.api import Commit, OutRecord, TopicPartition
from reflow_kafka.log.kafka import fast
from reflow_kafka.log.kafka.log import KafkaLog
from reflow_kafka.log.kafka.reader import KafkaReader
from tests.log.kafka.helpers import NOW, edge, everything, filled
from tests.log.kafka.proxy import FETCH, METADATA, Proxy

pytestmark = pytest.mark.kafka


async def collect(reader: KafkaReader, tp: TopicPartition, count: int, **options: Any) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += [(r.value or b"").decode() for r in (await reader.fetch(**options)).get(tp, ())]
    return found


async def test_a_corrupt_record_loses_none_of_those_before_it(
    log: KafkaLog, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tp, _ = await edge(log, unique)
    await log.publish(*tp, [OutRecord(None, str(at).encode(), NOW) for at in range(10)])
    real = fast._BatchRecords._unpack
    failures = 0

    def corrupt(self: Any, limit: int | None) -> list[Any]:
        nonlocal failures
        records = real(self, limit)
        if failures < 2:
            failures += 1
            raise CorruptRecordException(f"Invalid CRC - {tp}")
        return records

    monkeypatch.setattr(fast._BatchRecords, "_unpack", corrupt)
    reader = log.reader()
    reader.assign({tp: 0})
    for _ in range(2):
        with pytest.raises(LogDoubt, match="Invalid CRC"):
            await collect(reader, tp, 1)  # type: ignore[arg-type]
        assert reader.position(tp) == 0
    assert await collect(reader, tp, 10) == [str(at) for at in range(10)]  # type: ignore[arg-type]


async def test_a_reader_survives_the_loss_of_its_broker(
    log: KafkaLog, kafka_bootstrap: str, unique: str
) -> None:
    tp, _ = await edge(log, unique)
    async with Proxy(kafka_bootstrap) as proxy:
        reader = KafkaReader({"bootstrap_servers": proxy.bootstrap})
        reader.assign({tp: 0})
        await log.publish(*tp, [OutRecord(None, b"one", NOW)])
        assert await collect(reader, tp, 1) == ["one"]
        await proxy.cut()
        await log.publish(*tp, [OutRecord(None, b"two", NOW)])
        assert not await reader.fetch(timeout=0.5)
        await proxy.heal()
        assert await collect(reader, tp, 1) == ["two"]
        await proxy.freeze()
        assert not await reader.fetch(timeout=0.2)
        started = time.monotonic()
        await reader.close()
        assert time.monotonic() - started < 3


async def test_a_reader_without_a_broker_says_so() -> None:
    reader = KafkaReader({"bootstrap_servers": "127.0.0.1:1"}, deadline=1)
    reader.assign({TopicPartition("t", 0): 0})
    with pytest.raises(LogDoubt, match=r"127\.0\.0\.1:1"):
        await reader.fetch()
    await reader.close()


async def test_a_topic_that_does_not_exist_is_told_and_neither_created_nor_asked_for_all_the_time(
    log: KafkaLog, kafka_bootstrap: str, unique: str
) -> None:
    tp = TopicPartition(unique, 0)
    async with Proxy(kafka_bootstrap) as proxy:
        reader = KafkaReader({"bootstrap_servers": proxy.bootstrap}, deadline=1)
        reader.assign({tp: 0})
        with pytest.raises(LogDoubt, match=rf"no broker leads {unique}\[0\], or it does not exist"):
            await collect(reader, tp, 1, timeout=0.1)
        assert proxy.seen[METADATA] < 50
        assert await log.partition_counts([unique]) == {unique: None}
        # It may still come.
        await edge(log, unique)
        await log.publish(*tp, [OutRecord(None, b"late", NOW)])
        assert await collect(reader, tp, 1, timeout=0.1) == ["late"]
        await reader.close()


async def test_a_fetcher_that_died_is_told(log: KafkaLog, unique: str) -> None:
    tp, _ = await edge(log, unique)
    reader = log.reader()
    assert isinstance(reader, KafkaReader)
    reader.assign({tp: 0})
    await reader.fetch(timeout=0.1)
    reader._consumer._fetcher._fetch_task.cancel()
    with pytest.raises(LogDoubt, match="reading stopped"):
        await collect(reader, tp, 1, timeout=0.1)


async def test_partitions_that_stay_keep_their_position(log: KafkaLog, unique: str) -> None:
    a, b = await edge(log, unique)
    for tp in (a, b):
        await log.publish(*tp, [OutRecord(None, str(at).encode(), NOW) for at in range(4)])
    reader = log.reader()
    assert isinstance(reader, KafkaReader)
    reader.assign({a: 0})
    assert await collect(reader, a, 1, max_records=2) == ["0", "1"]
    reader.assign({a: reader.position(a), b: 3})
    assert await collect(reader, a, 2) == ["2", "3"]
    reader.assign({})
    assert await reader.fetch(timeout=0.05) == {}
    reader.assign({b: 3})
    assert await collect(reader, b, 1) == ["3"]


async def test_no_partition_is_not_all_of_them(log: KafkaLog, unique: str) -> None:
    tp, _ = await edge(log, unique)
    await log.publish(*tp, [OutRecord(None, b"x", NOW)])
    reader = log.reader()
    reader.assign({tp: 0})
    started = time.monotonic()
    assert await reader.fetch([], timeout=5) == {}
    assert time.monotonic() - started < 1
    assert reader.position(tp) == 0


async def test_an_idle_reader_asks_seldom(log: KafkaLog, kafka_bootstrap: str, unique: str) -> None:
    tp, _ = await edge(log, unique)
    async with Proxy(kafka_bootstrap) as proxy:
        reader = KafkaReader({"bootstrap_servers": proxy.bootstrap})
        reader.assign({tp: 0})
        await reader.fetch(timeout=0.2)
        before = proxy.seen[FETCH]
        await reader.fetch(timeout=4)
        assert proxy.seen[FETCH] - before <= 4
        await reader.close()


async def test_only_a_request_for_all_partitions_is_a_long_one(log: KafkaLog, unique: str) -> None:
    """Records that wait to be taken keep their partition out of the requests made meanwhile."""
    full, empty = await edge(log, unique)
    reader = log.reader()
    assert isinstance(reader, KafkaReader)
    reader.assign({full: 0, empty: 0})
    async with asyncio.timeout(30):
        await reader.fetch(timeout=0.1)
        fetcher = reader._consumer._fetcher
        usual = fetcher._usual
        while fetcher._fetch_max_wait_ms != fast.IDLE_WAIT:
            assert await reader.fetch(timeout=0.1) == {}
        await log.publish(*full, [OutRecord(None, b"x", NOW)])
        while not fetcher._records or fetcher._patience <= usual:
            assert await reader.fetch([empty], timeout=0.1) == {}
            assert not fetcher._records or fetcher._fetch_max_wait_ms == usual
    assert [r.value for r in (await reader.fetch())[full]] == [b"x"]


async def test_gaps_left_by_transactions_are_passed(log: KafkaLog, unique: str) -> None:
    """Position meets the end although the last offsets of the partition are markers and aborted records."""
    tp, _ = await edge(log, unique)
    for at in range(3):
        writer = await log.take_over(unique, 0)
        await writer.commit(Commit({tp: [filled(writer, [f"good {at}"])]}))
        await writer.send({tp: [filled(writer, ["bad"] * 10)]})
        await writer.close()
    assert await everything(log, tp) == ["good 0", "good 1", "good 2"]


async def test_committed_records_arrive_within_milliseconds(log: KafkaLog, unique: str) -> None:
    tp, _ = await edge(log, unique)
    writer, reader = await log.take_over(unique, 0), log.reader()
    reader.assign({tp: 0})
    took = []
    for _ in range(40):
        waiting = asyncio.create_task(reader.fetch(timeout=5))
        await asyncio.sleep(0.01)
        started = time.monotonic()
        await writer.commit(Commit({tp: [filled(writer, ["x"])]}))
        assert await waiting
        took.append(time.monotonic() - started)
    assert sorted(took)[10] < 0.05  # other programs run on this machine, too

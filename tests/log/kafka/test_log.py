"""Connecting, publishing and stopping."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from reflow_kafka.errors import BrokerUnavailable, LogDoubt, RecordRefused
from reflow_kafka.log.api import OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.kafka import log as module
from reflow_kafka.log.kafka import topics
from reflow_kafka.log.kafka.log import KafkaLog
from tests.log.kafka.helpers import NOW, edge, everything
from tests.log.kafka.proxy import PRODUCE, Proxy

pytestmark = pytest.mark.kafka


async def test_nobody_at_the_address(unused_tcp_port: int) -> None:
    log = KafkaLog(f"127.0.0.1:{unused_tcp_port}", deadline=1)
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=rf"answered at 127\.0\.0\.1:{unused_tcp_port} within 1 s \("):
        await log.start()
    assert time.monotonic() - started < 3
    await log.stop()


async def test_somebody_who_never_answers(unused_tcp_port: int) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", unused_tcp_port)
    with pytest.raises(BrokerUnavailable, match="within 1 s"):
        await KafkaLog(f"127.0.0.1:{unused_tcp_port}", deadline=1).start()
    server.close()
    await server.wait_closed()


async def test_one_of_several_addresses_is_enough(kafka_bootstrap: str, unused_tcp_port: int) -> None:
    log = KafkaLog(f"127.0.0.1:{unused_tcp_port},{kafka_bootstrap}")
    await log.start()
    assert await log.partition_counts(["none"]) == {"none": None}
    await log.stop()


async def test_a_broker_that_is_about_to_start_is_waited_for(kafka_bootstrap: str) -> None:
    async with Proxy(kafka_bootstrap) as proxy:
        await proxy.cut()
        starting = asyncio.create_task(KafkaLog.start(log := KafkaLog(proxy.bootstrap)))
        await asyncio.sleep(0.5)
        await proxy.heal()
        await starting
        await log.stop()


async def test_an_old_broker_is_warned_about(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_PRODUCE_IN_3_7", 1000)
    log = KafkaLog(kafka_bootstrap)
    with caplog.at_level(logging.WARNING):
        await log.start()
    assert "older than Kafka 3.7" in caplog.text
    await log.stop()


async def test_an_older_name_of_a_setting_is_tried(
    log: KafkaLog, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker refuses a topic with a setting that it does not know."""
    monkeypatch.setattr(topics, "_LIMITS", ("message.timestamp.unheard.of",))
    monkeypatch.setattr(topics, "_OLD_LIMITS", ("message.timestamp.after.max.ms",))
    await log.ensure_topics([TopicSpec(unique, 1, TopicKind.EDGE)])
    assert await log.partition_counts([unique]) == {unique: 1}


async def test_publishing_after_a_failure_starts_anew(
    log: KafkaLog, kafka_bootstrap: str, unique: str
) -> None:
    tp, _ = await edge(log, unique)
    async with Proxy(kafka_bootstrap) as proxy:
        through = KafkaLog(proxy.bootstrap, deadline=1)
        await through.start()
        await through.publish(*tp, [OutRecord(b"k", b"one", NOW)])
        proxy.lose_answer(PRODUCE)  # sent again, written once
        await through.publish(*tp, [OutRecord(b"k", b"two", NOW)])
        await proxy.freeze()
        with pytest.raises(LogDoubt, match="longer than 1 s"):
            await through.publish(*tp, [OutRecord(b"k", b"perhaps", NOW)])
        with pytest.raises(LogDoubt, match="asking for offsets did not finish"):
            await through.end_offsets([tp])
        await proxy.heal()
        await through.publish(*tp, [OutRecord(b"k", b"three", NOW)])
        await through.stop()
    found = await everything(log, tp)
    assert [value for value in found if value != "perhaps"] == ["one", "two", "three"]


async def test_what_is_asked_of_a_broker_that_has_gone_is_doubt(
    log: KafkaLog, kafka_bootstrap: str, unique: str
) -> None:
    tp, _ = await edge(log, unique)
    async with Proxy(kafka_bootstrap) as proxy:
        through = KafkaLog(proxy.bootstrap, deadline=1)
        await through.start()
        assert await through.end_offsets([tp]) == {tp: 0}
        await proxy.cut()
        with pytest.raises(LogDoubt, match="asking for offsets did not finish within 1 s"):
            await through.end_offsets([tp])
        await through.stop()


async def test_a_refused_record_disturbs_nobody_else(log: KafkaLog, unique: str) -> None:
    one, other = await edge(log, unique)

    async def refused() -> None:
        with pytest.raises(RecordRefused, match=r"publishing \[.*\[0\]\] failed: MESSAGE_SIZE"):
            await log.publish(*one, [OutRecord(b"k", b"x" * 1_100_000, NOW)])

    async with asyncio.timeout(10):
        good = [log.publish(*other, [OutRecord(b"k", b"%d" % n, NOW)]) for n in range(20)]
        await asyncio.gather(*good[:10], refused(), *good[10:])
        await log.publish(*one, [OutRecord(b"k", b"again", NOW)])
    assert await everything(log, one) == ["again"]
    assert await everything(log, other) == [str(n) for n in range(20)]


async def test_publishing_ends_with_the_log(kafka_bootstrap: str, unique: str) -> None:
    async with Proxy(kafka_bootstrap) as proxy:
        log = KafkaLog(proxy.bootstrap)
        await log.start()
        tp, _ = await edge(log, unique)
        await log.publish(*tp, [OutRecord(b"k", b"one", NOW)])
        await proxy.freeze()
        waiting = asyncio.create_task(log.publish(*tp, [OutRecord(b"k", b"two", NOW)]))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            await log.stop()
            with pytest.raises(LogDoubt, match="the log was closed"):
                await waiting
        await proxy.heal()


async def test_many_records_are_published_in_order(log: KafkaLog, unique: str) -> None:
    tp, _ = await edge(log, unique)
    await log.publish(*tp, [OutRecord(b"k", str(at).encode() * 100, NOW) for at in range(20_000)])
    assert [value[:5] for value in (await everything(log, tp))[-2:]] == ["19998", "19999"]


async def test_what_was_not_closed_is_closed_with_the_log(log: KafkaLog, unique: str) -> None:
    tp, _ = await edge(log, unique)
    await log.take_over(unique, 0)
    reader = log.reader()
    reader.assign({tp: 0})
    await reader.fetch(timeout=0.1)


async def test_offsets_of_what_does_not_exist(kafka_bootstrap: str, unique: str) -> None:
    log = KafkaLog(kafka_bootstrap, deadline=1)
    await log.start()
    with pytest.raises(LogDoubt, match="asking for offsets"):
        await log.end_offsets([TopicPartition(unique, 0)])
    await log.stop()

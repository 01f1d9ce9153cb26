"""A lane's writer when things go wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka.structs import RecordMetadata

from reflow_kafka.errors import LaneLost, LogDoubt, RecordRefused
from reflow_kafka.log.api import Commit, CommittedPosition, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.kafka.log import KafkaLog
from reflow_kafka.log.kafka.writer import KafkaLaneWriter
from tests.log.kafka.helpers import NOW, edge, everything, filled
from tests.log.kafka.proxy import END_TXN, INIT_PRODUCER_ID, PRODUCE, Proxy
from tests.support.waiting import until

pytestmark = pytest.mark.kafka


@pytest.fixture
async def proxy(kafka_bootstrap: str) -> AsyncIterator[Proxy]:
    async with Proxy(kafka_bootstrap) as proxy:
        yield proxy


async def behind(proxy: Proxy, flow: str, lane: int = 0, deadline: float = 15.0) -> KafkaLaneWriter:
    """A writer that reaches the broker through the proxy."""
    return await KafkaLaneWriter.open(flow, lane, {"bootstrap_servers": proxy.bootstrap}, deadline=deadline)


def content(writer: KafkaLaneWriter, tp: TopicPartition, values: list[str], position: int) -> Commit:
    return Commit({tp: [filled(writer, values)]}, {tp: CommittedPosition(position)})


async def test_an_end_whose_answer_is_lost_is_doubt_and_is_not_repeated(
    log: KafkaLog, proxy: Proxy, unique: str
) -> None:
    tp, _ = await edge(log, unique)
    writer = await behind(proxy, unique)
    await writer.commit(content(writer, tp, ["one"], 1))
    before = proxy.seen[END_TXN]
    proxy.lose_answer(END_TXN)
    with pytest.raises(LogDoubt, match="no answer to the end of the transaction"):
        await writer.commit(content(writer, tp, ["two"], 2))
    with pytest.raises(LogDoubt, match="can no longer be used"):
        await writer.commit(Commit())
    await asyncio.sleep(0.3)
    assert proxy.seen[END_TXN] == before + 1
    await writer.close()
    # It had been carried out.
    again = await log.take_over(unique, 0)
    assert await again.committed([tp]) == {tp: CommittedPosition(2)}
    assert await everything(log, tp) == ["one", "two"]


async def test_an_end_that_never_arrives_is_doubt_and_nothing_is_seen(
    log: KafkaLog, proxy: Proxy, unique: str
) -> None:
    tp, _ = await edge(log, unique)
    writer = await behind(proxy, unique)
    await writer.commit(content(writer, tp, ["one"], 1))
    proxy.lose_request(END_TXN)
    with pytest.raises(LogDoubt):
        await writer.commit(content(writer, tp, ["two"], 2))
    await writer.close()
    again = await log.take_over(unique, 0)
    assert await again.committed([tp]) == {tp: CommittedPosition(1)}
    assert await everything(log, tp) == ["one"]


async def test_a_lost_connection_while_writing_heals_by_itself(
    log: KafkaLog, proxy: Proxy, unique: str
) -> None:
    tp, other = await edge(log, unique)
    writer = await behind(proxy, unique)
    for lose in (proxy.lose_request, proxy.lose_answer):
        lose(PRODUCE)
        await writer.commit(
            Commit({tp: [filled(writer, ["a"]), filled(writer, ["b"])], other: [filled(writer, ["c"])]})
        )
    await writer.close()
    assert await everything(log, tp) == ["a", "b", "a", "b"]
    assert await everything(log, other) == ["c", "c"]


async def test_a_fenced_writer_writes_nothing(log: KafkaLog, unique: str) -> None:
    tp, other = await edge(log, unique)
    first = await log.take_over(unique, 0)
    await first.send({tp: [filled(first, ["open"])]})
    second = await log.take_over(unique, 0)
    with pytest.raises(LaneLost):
        await first.commit(Commit({other: [filled(first, ["zombie"])]}, {tp: CommittedPosition(9)}))
    with pytest.raises(LogDoubt):
        await first.send({tp: [filled(first, ["zombie"])]})
    assert await second.committed([tp]) == {tp: None}
    assert await everything(log, tp) == []
    assert await everything(log, other) == []


async def test_a_writer_fenced_at_the_end_of_its_transaction_is_told(
    log: KafkaLog, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tp, _ = await edge(log, unique)
    first = await log.take_over(unique, 0)
    assert isinstance(first, KafkaLaneWriter)
    end = first._producer.commit_transaction

    async def overtaken() -> None:
        await log.take_over(unique, 0)
        await end()

    monkeypatch.setattr(first._producer, "commit_transaction", overtaken)
    with pytest.raises(LaneLost):
        await first.commit(content(first, tp, ["zombie"], 1))
    assert await everything(log, tp) == []


async def test_refused_records_name_their_partitions(log: KafkaLog, unique: str) -> None:
    (fine, _) = await edge(log, f"{unique}.fine")
    await log.ensure_topics(
        [TopicSpec(unique, 3, TopicKind.EXTERNAL)]
    )  # refuses times more than an hour ahead
    ahead, large = TopicPartition(unique, 0), TopicPartition(unique, 2)
    writer = await log.take_over(unique, 0)
    batches = {
        fine: [filled(writer, ["fine"])],
        # Later batches of the partition fail because the first is missing: still refused, not doubt.
        ahead: [filled(writer, ["ahead"], NOW + 7 * 86_400_000), *(filled(writer, ["x"]) for _ in range(3))],
        large: [filled(writer, ["x" * 2_000_000])],
    }
    with pytest.raises(RecordRefused) as refused:
        await writer.commit(Commit(batches, {fine: CommittedPosition(1)}))
    assert set(refused.value.partitions) == {ahead, large}
    assert "INVALID_TIMESTAMP" in str(refused.value)
    again = await log.take_over(unique, 0)
    assert await again.committed([fine]) == {fine: None}
    assert await everything(log, fine) == []


async def test_metadata_that_is_too_long_names_its_partition(
    log: KafkaLog, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await edge(log, unique)
    writer = await log.take_over(unique, 0)
    longest = {a: CommittedPosition(1, "x" * 4096), b: CommittedPosition(1)}
    await writer.commit(Commit({}, longest))
    assert await writer.committed([a, b]) == longest
    too_long = {a: CommittedPosition(2), b: CommittedPosition(2, "x" * 4097)}
    with pytest.raises(RecordRefused) as refused:
        await writer.commit(Commit({a: [filled(writer, ["a"])]}, too_long))
    assert refused.value.partitions == (b,)
    assert not [record for record in caplog.records if record.exc_info], "no traceback for what is dealt with"


async def test_positions_are_read_only_when_they_are_settled(log: KafkaLog, unique: str) -> None:
    tp, _ = await edge(log, unique)
    writer, other = await log.take_over(unique, 0), await log.take_over(unique, 1)
    assert isinstance(writer, KafkaLaneWriter)
    await writer.commit(Commit({}, {tp: CommittedPosition(1)}))
    await writer._begin()
    await writer._send_positions({tp: CommittedPosition(2)})
    reading = asyncio.create_task(other.committed([tp]))
    await asyncio.sleep(0.3)
    assert not reading.done()
    await writer.commit(Commit())
    assert await reading == {tp: CommittedPosition(2)}


async def test_positions_that_never_settle_are_doubt(
    log: KafkaLog, kafka_bootstrap: str, unique: str
) -> None:
    tp, _ = await edge(log, unique)
    writer = await log.take_over(unique, 0)
    assert isinstance(writer, KafkaLaneWriter)
    await writer._begin()
    await writer._send_positions({tp: CommittedPosition(2)})
    other = await KafkaLaneWriter.open(unique, 1, {"bootstrap_servers": kafka_bootstrap}, deadline=0.5)
    with pytest.raises(LogDoubt, match=r"within 0\.5 s .*UNSTABLE_OFFSET_COMMIT"):
        await other.committed([tp])
    await other.close()


@pytest.mark.parametrize("what", ["commit", "send", "committed"])
async def test_a_broker_that_stands_still_is_doubt_after_the_deadline(
    log: KafkaLog, proxy: Proxy, unique: str, what: str
) -> None:
    tp, _ = await edge(log, unique)
    writer = await behind(proxy, unique, deadline=1.5)
    await writer.commit(content(writer, tp, ["one"], 1))
    await proxy.freeze()
    started = time.monotonic()

    async def call() -> None:
        if what == "commit":
            await writer.commit(content(writer, tp, ["two"], 2))
        elif what == "committed":
            await writer.committed([tp])
        for _ in range(1000):  # bounded: the third batch of a partition waits
            await writer.send({tp: [filled(writer, ["two"])]})

    with pytest.raises(LogDoubt, match=r"did not finish within 1\.5 s"):
        await call()
    assert time.monotonic() - started < 3
    started = time.monotonic()
    await writer.close()
    assert time.monotonic() - started < 3


async def test_a_take_over_that_gets_no_answer_is_doubt(log: KafkaLog, proxy: Proxy, unique: str) -> None:
    await proxy.freeze()
    with pytest.raises(LogDoubt, match=r"the take-over did not finish within 1 s"):
        await behind(proxy, unique, deadline=1)
    await proxy.heal()
    await proxy.cut()
    with pytest.raises(LogDoubt):
        await behind(proxy, unique, deadline=1)
    assert proxy.seen[INIT_PRODUCER_ID] == 0


async def test_a_broker_that_goes_away_for_good_leaves_nothing_behind(
    log: KafkaLog, proxy: Proxy, unique: str
) -> None:
    tp, other = await edge(log, unique)
    writer = await behind(proxy, unique, deadline=1)
    await writer.send({tp: [filled(writer, ["a"])]})
    await proxy.cut()
    with pytest.raises(LogDoubt):
        await writer.send({other: [filled(writer, ["b"])]})
    started = time.monotonic()
    await writer.close()
    assert time.monotonic() - started < 3


async def test_closing_wakes_up_who_waits(log: KafkaLog, proxy: Proxy, unique: str) -> None:
    tp, _ = await edge(log, unique)
    writer = await behind(proxy, unique)
    await proxy.freeze()
    waiting = asyncio.create_task(writer.commit(content(writer, tp, ["a"], 1)))
    await asyncio.sleep(0.1)
    await writer.close()
    with pytest.raises(LogDoubt):
        await asyncio.wait_for(waiting, 1)


async def test_a_cancelled_commit_makes_the_writer_unusable(log: KafkaLog, proxy: Proxy, unique: str) -> None:
    tp, _ = await edge(log, unique)
    writer = await behind(proxy, unique)
    await proxy.freeze()
    task = asyncio.create_task(writer.commit(content(writer, tp, ["a"], 1)))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(LogDoubt, match="the commit was interrupted"):
        await writer.committed([tp])
    await writer.close()


async def test_positions_that_are_refused_when_nobody_waits_any_more_are_no_error_of_the_loop(
    log: KafkaLog, proxy: Proxy, unique: str
) -> None:
    tp, _ = await edge(log, unique)
    writer = await behind(proxy, unique)
    await writer.commit(content(writer, tp, ["a"], 1))
    await proxy.freeze()
    task = asyncio.create_task(writer.commit(content(writer, tp, ["b"], 2)))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task])
    other = await log.take_over(unique, 0)
    await proxy.heal()
    await until(writer._producer._sender.sender_task.done, "the sender has been refused")
    await writer.close()
    await other.close()


async def test_closing_aborts_what_is_open(log: KafkaLog, unique: str) -> None:
    tp, _ = await edge(log, unique)
    writer = await log.take_over(unique, 0)
    await writer.send({tp: [filled(writer, ["open"])]})
    await writer.close()
    started = time.monotonic()
    assert await everything(log, tp) == []
    assert time.monotonic() - started < 3, "the transaction's own time-out is 10 s"


async def test_a_duplicate_that_the_library_calls_written_is_doubt(
    log: KafkaLog, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tp, _ = await edge(log, unique)
    writer = await log.take_over(unique, 0)
    assert isinstance(writer, KafkaLaneWriter)
    real = writer._producer.send_batch

    async def duplicate(*args: Any, **options: Any) -> asyncio.Future[Any]:
        await (await real(*args, **options))
        future = asyncio.get_running_loop().create_future()
        future.set_result(RecordMetadata(*tp, tp, -1, -1, 0, -1))
        return future

    monkeypatch.setattr(writer._producer, "send_batch", duplicate)
    with pytest.raises(LogDoubt, match="taken for a duplicate"):
        await writer.commit(content(writer, tp, ["a"], 1))
    await log.take_over(unique, 0)
    assert await everything(log, tp) == []


async def test_a_topic_that_does_not_exist_is_doubt_and_is_not_created(
    log: KafkaLog, kafka_bootstrap: str, unique: str
) -> None:
    writer = await KafkaLaneWriter.open(unique, 0, {"bootstrap_servers": kafka_bootstrap}, deadline=1)
    with pytest.raises(LogDoubt):
        await writer.commit(content(writer, TopicPartition(unique, 0), ["a"], 1))
    await writer.close()
    assert await log.partition_counts([unique]) == {unique: None}


async def test_small_commits_are_quick(log: KafkaLog, unique: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither back-to-back commits nor batches sent ahead run into the library's back-off of 100 ms."""
    partitions = await edge(log, unique, 4)
    writer = await log.take_over(unique, 0)
    took = []
    for at in range(60):
        started = time.monotonic()
        if at % 2:
            for tp in partitions:
                await writer.send({tp: [filled(writer, ["a"])]})
            await writer.commit(Commit({}, {partitions[0]: CommittedPosition(at)}))
        else:
            await writer.commit(
                Commit(
                    {tp: [filled(writer, ["a"])] for tp in partitions}, {partitions[0]: CommittedPosition(at)}
                )
            )
        took.append(time.monotonic() - started)
    assert sorted(took)[len(took) // 4] < 0.1  # with the back-off none would be so quick
    warned = [
        r for r in caplog.records if r.levelno >= logging.WARNING and "NotEnoughReplicas" in r.getMessage()
    ]
    assert not warned


async def test_a_commit_that_races_with_a_take_over_tells_the_truth(log: KafkaLog, unique: str) -> None:
    """Committed: seen by the new owner at once. Lost: never seen. Doubt: the position tells."""
    tp, _ = await edge(log, unique)
    owner = await log.take_over(unique, 0)
    await owner.commit(Commit({}, {tp: CommittedPosition(0)}))
    position, expected, outcomes = 0, [], set()
    ahead = 0.002  # seconds from the start of a commit to the take-over: always near to what decides
    for at in range(60):
        assert isinstance(owner, KafkaLaneWriter)
        commit = asyncio.create_task(owner.commit(content(owner, tp, [str(at)], at + 1)))
        await asyncio.sleep(ahead)
        successor = await log.take_over(unique, 0)
        (outcome,) = await asyncio.gather(commit, return_exceptions=True)
        found = (await successor.committed([tp]))[tp]
        assert found is not None
        if isinstance(
            outcome, LogDoubt
        ):  # a 4.1 broker sometimes answers the fenced one by an internal error
            assert found.offset in (position, at + 1)
        else:
            assert found.offset == (at + 1 if isinstance(outcome, dict) else position), (at, outcome)
        if found.offset == at + 1:
            expected.append(str(at))
        ahead *= 0.7 if found.offset > position else 1.4
        position = found.offset
        outcomes.add(type(outcome))
        await owner.close()
        owner = successor
    assert {dict, LaneLost} <= outcomes <= {dict, LaneLost, LogDoubt}
    assert await everything(log, tp) == expected

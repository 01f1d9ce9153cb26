"""Writing in order, in batches; what is refused, fails, waits too long or is cut off by closing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from reflow_kafka import UsageError
from reflow_kafka.client.sender import BATCH_BYTES, Sender
from reflow_kafka.errors import LogDoubt, RecordRefused
from reflow_kafka.log.api import OutRecord, TopicPartition

ONE, OTHER = TopicPartition("in", 0), TopicPartition("in", 1)


def record(value: object) -> OutRecord:
    return OutRecord(None, str(value).encode(), 1)


class Written:
    """A log that takes what it is told to take, when it is told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[str]]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.called = asyncio.Event()

    async def publish(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        self.called.set()
        await self.free.wait()
        values = [(each.value or b"").decode() for each in records]
        if any(value.startswith("refused") for value in values):
            raise RecordRefused("too large", [TopicPartition(topic, partition)])
        if "doubt" in values:
            raise LogDoubt("no answer")
        self.batches.append((partition, values))

    def values(self, partition: int) -> list[str]:
        return [value for at, values in self.batches if at == partition for value in values]


@pytest.fixture
def log() -> Written:
    return Written()


@pytest.fixture
async def sender(log: Written) -> AsyncIterator[Sender]:
    access: Any = log
    sender = Sender(access)
    yield sender
    await sender.close()


async def test_each_partition_in_order_and_many_at_a_time(log: Written, sender: Sender) -> None:
    futures = [sender.send((ONE, OTHER)[n % 2], record(n)) for n in range(200)]
    await asyncio.gather(*futures)
    assert log.values(0) == [str(n) for n in range(0, 200, 2)]
    assert log.values(1) == [str(n) for n in range(1, 200, 2)]
    assert len(log.batches) == 2


async def test_what_comes_meanwhile_goes_with_the_next_write(log: Written, sender: Sender) -> None:
    log.free.clear()
    first = sender.send(ONE, record("a"))
    await log.called.wait()
    rest = [sender.send(ONE, record(value)) for value in "bcd"]
    log.free.set()
    await asyncio.gather(first, *rest)
    assert log.batches == [(0, ["a"]), (0, ["b", "c", "d"])]


async def test_a_write_is_not_larger_than_a_batch(log: Written, sender: Sender) -> None:
    large = "x" * (BATCH_BYTES // 3)
    await asyncio.gather(*(sender.send(ONE, record(large)) for _ in range(5)))
    assert [len(values) for _, values in log.batches] == [2, 2, 1]
    await sender.send(ONE, record("y" * 5 * BATCH_BYTES))


async def test_a_record_that_is_refused_concerns_nobody_else(log: Written, sender: Sender) -> None:
    values = ["a", "refused 1", "b", "refused 2", "c"]
    outcomes = await asyncio.gather(
        *(sender.send(ONE, record(value)) for value in values), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [
        type(None), RecordRefused, type(None), RecordRefused, type(None),
    ]  # fmt: skip
    assert log.values(0) == ["a", "b", "c"]


async def test_doubt_is_told_to_all_whose_records_were_in_it_and_to_nobody_else(
    log: Written, sender: Sender
) -> None:
    futures = [sender.send(ONE, record(value)) for value in ("a", "doubt")]
    other = sender.send(OTHER, record("b"))
    outcomes = await asyncio.gather(*futures, other, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LogDoubt, LogDoubt, type(None)]
    await sender.send(ONE, record("c"))
    assert log.values(0) == ["c"]


async def test_what_nobody_waits_for_any_more_is_not_written(log: Written, sender: Sender) -> None:
    futures = [sender.send(ONE, record(value)) for value in "abc"]
    futures[1].cancel()
    await asyncio.gather(*futures, return_exceptions=True)
    assert log.values(0) == ["a", "c"]


@pytest.mark.parametrize("begun", [False, True])
async def test_closing_tells_those_who_wait(log: Written, sender: Sender, begun: bool) -> None:
    log.free.clear()
    first = sender.send(ONE, record("a"))
    if begun:
        await log.called.wait()
    second = sender.send(ONE, record("b"))
    await sender.close()
    with pytest.raises(UsageError, match="it may be written" if begun else "before this was written"):
        await first
    with pytest.raises(UsageError, match="before this was written"):
        await second
    assert log.batches == []

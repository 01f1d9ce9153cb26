"""The reader of answers: what it passes on, what it survives, and that nobody waits when it is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from reflow_kafka.client import replies as module
from reflow_kafka.client.replies import Replies
from reflow_kafka.client.waiting import Waiting
from reflow_kafka.errors import LogDoubt, LogError, NotPermitted
from reflow_kafka.log.api import OutRecord, TopicPartition
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.topology.replies import CORRELATION_ID
from tests.support.waiting import until

TOPIC = "f.replies"


class Faults:
    """Makes fetches fail, as often as it is told."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.seen = 0

    def __call__(self, point: str, flow: str, lane: int) -> None:
        if point == "fetch" and self.errors:
            self.seen += 1
            raise self.errors.pop(0)


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def log(faults: Faults) -> AsyncIterator[MemoryLog]:
    log = MemoryLog(faults=faults)
    await log.start()
    yield log
    await log.stop()


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
async def replies(
    log: MemoryLog, waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Replies]:
    monkeypatch.setattr(module, "BACKOFF", (0.001, 0.01))
    monkeypatch.setattr(module, "FETCH_WAIT", 0.01)
    replies = Replies(log, TOPIC, 4, waiting)
    yield replies
    await replies.close()


async def give(log: MemoryLog, replies: Replies, id: bytes, value: bytes = b"x") -> None:
    topic, partition = replies.address.decode().split("/")
    await log.publish(topic, int(partition), [OutRecord(None, value, 1, [(CORRELATION_ID, id)])])


async def answered(log: MemoryLog, replies: Replies, waiting: Waiting) -> None:
    """An answer that is given arrives."""
    await replies.start()
    with waiting.request() as (id, answer):
        await give(log, replies, id)
        async with asyncio.timeout(10):
            assert (await answer).value == b"x"


async def test_nothing_is_opened_before_the_first_request(log: MemoryLog, replies: Replies) -> None:
    assert await log.partition_counts([TOPIC]) == {TOPIC: None}
    await replies.start()
    assert await log.partition_counts([TOPIC]) == {TOPIC: 4}


async def test_an_answer_that_comes_at_once_is_not_missed(
    log: MemoryLog, replies: Replies, waiting: Waiting
) -> None:
    """The position is fixed when `start` returns, not when the first fetch is sent."""
    await replies.start()
    with waiting.request() as (id, answer):
        await give(log, replies, id)
        assert not answer.done()
        async with asyncio.timeout(10):
            await answer


async def test_answers_from_before_and_to_others_are_passed_over(
    log: MemoryLog, replies: Replies, waiting: Waiting
) -> None:
    await replies.start()
    for id in (b"other", b"", b"\xff"):
        await give(log, replies, id)
    await answered(log, replies, waiting)


@pytest.mark.parametrize("error", [LogDoubt("away"), LogError("something else")])
async def test_a_log_that_is_away_for_a_while_is_waited_for(
    log: MemoryLog, replies: Replies, waiting: Waiting, faults: Faults, error: LogError
) -> None:
    await replies.start()
    with waiting.request() as (id, answer):
        faults.errors = [error] * 5
        await until(lambda: faults.seen == 5, "five failures")
        await give(log, replies, id)
        async with asyncio.timeout(10):
            await answer


@pytest.mark.parametrize("error", [NotPermitted("no right to read"), RuntimeError("a bug")])
async def test_when_reading_ends_nobody_is_left_waiting_and_the_next_request_begins_anew(
    log: MemoryLog, replies: Replies, waiting: Waiting, faults: Faults, error: Exception
) -> None:
    await replies.start()
    with waiting.request() as (_, one), waiting.request() as (_, other):
        faults.errors = [error]
        for answer in (one, other):
            with pytest.raises(LogError, match=rf"answers from {TOPIC} can no longer be read: {error}"):
                async with asyncio.timeout(10):
                    await answer
    await answered(log, replies, waiting)


async def test_a_task_that_is_cancelled_by_others_leaves_nobody_waiting(
    log: MemoryLog, replies: Replies, waiting: Waiting
) -> None:
    await replies.start()
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "replies")
    with waiting.request() as (_, answer):
        task.cancel()
        with pytest.raises(LogError, match="reading was ended"):
            async with asyncio.timeout(10):
                await answer
    await answered(log, replies, waiting)


async def test_who_stood_still_for_too_long_goes_on_with_what_is_left(
    log: MemoryLog, replies: Replies, waiting: Waiting, faults: Faults
) -> None:
    """Its position is no longer in the log; answers that still are, arrive."""
    await replies.start()
    topic, partition = replies.address.decode().split("/")
    tp = TopicPartition(topic, int(partition))
    faults.errors = [LogDoubt("standing still")] * 1_000_000
    await until(lambda: faults.seen, "a failure")
    with waiting.request() as (id, answer):
        await give(log, replies, b"old")
        await log.trim({tp: 1})
        await give(log, replies, id)
        faults.errors.clear()
        async with asyncio.timeout(10):
            await answer


async def test_starting_and_closing_again_changes_nothing(
    log: MemoryLog, replies: Replies, waiting: Waiting
) -> None:
    await replies.start()
    await replies.start()
    assert sum(task.get_name() == "replies" for task in asyncio.all_tasks()) == 1
    await answered(log, replies, waiting)
    await replies.close()
    await replies.close()
    assert not replies.running

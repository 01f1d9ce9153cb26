"""The contract, run on every log; and what the logs of one process promise beyond it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.errors import LaneLost, LogDoubt, LogError
from reflow_kafka.log.api import Commit, CommittedPosition, LaneWriter, Log, TopicPartition
from reflow_kafka.log.embedded import EmbeddedLog
from reflow_kafka.log.kafka.log import KafkaLog
from reflow_kafka.log.local import LocalLog, divide
from reflow_kafka.log.memory import MemoryLog
from tests.log.contract import LogContract, drain, edge, filled, first_of, out, values


@pytest.fixture(params=["memory", "embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def stopped_log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    log: Log
    match request.param:
        case "memory":
            log = MemoryLog()
        case "embedded":
            log = EmbeddedLog(tmp_path / "data")
        case _:
            log = KafkaLog(request.getfixturevalue("kafka_bootstrap"))
    return log


@pytest.fixture
async def log(stopped_log: Log) -> AsyncIterator[Log]:
    await stopped_log.start()
    yield stopped_log
    await stopped_log.stop()


class TestLog(LogContract):
    pass


class Faults:
    """Raises at one point, once."""

    def __init__(self) -> None:
        self.point = ""
        self.seen: list[tuple[str, str, int]] = []

    def __call__(self, point: str, flow: str, lane: int) -> None:
        self.seen.append((point, flow, lane))
        if point == self.point:
            self.point = ""
            raise OSError("injected")


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture(params=["memory", "embedded"])
async def local(request: pytest.FixtureRequest, tmp_path: Path, faults: Faults) -> AsyncIterator[LocalLog]:
    log = (
        MemoryLog(faults=faults)
        if request.param == "memory"
        else EmbeddedLog(tmp_path / "data", faults=faults)
    )
    await log.start()
    yield log
    await log.stop()


async def send_and_commit(writer: LaneWriter, tp: TopicPartition) -> None:
    await writer.send({tp: [filled(writer, ["x"])]})
    await writer.commit(Commit({}, {tp: CommittedPosition(1)}))


class TestFaults:
    async def test_a_commit_whose_answer_is_lost_is_found_after_the_take_over(
        self, local: LocalLog, faults: Faults
    ) -> None:
        tp = TopicPartition(await edge(local, "t"), 0)
        writer = await local.take_over("f", 0)
        faults.point = "after-commit"
        with pytest.raises(LogDoubt):
            await writer.commit(Commit({tp: [filled(writer, ["x"])]}, {tp: CommittedPosition(1)}))
        with pytest.raises(LogError):
            await writer.commit(Commit())
        again = await local.take_over("f", 0)
        assert await again.committed([tp]) == {tp: CommittedPosition(1)}
        assert values(await drain(local, tp)) == ["x"]

    @pytest.mark.parametrize("point", ["before-send", "before-commit"])
    async def test_a_fault_before_leaves_nothing(self, local: LocalLog, faults: Faults, point: str) -> None:
        tp = TopicPartition(await edge(local, "t"), 0)
        writer = await local.take_over("f", 3)
        faults.point = point
        with pytest.raises(OSError, match="injected"):
            await send_and_commit(writer, tp)
        assert (point, "f", 3) in faults.seen
        again = await local.take_over("f", 3)
        assert await again.committed([tp]) == {tp: None}
        assert values(await drain(local, tp)) == []

    async def test_take_over_and_fetch_can_fail(self, local: LocalLog, faults: Faults) -> None:
        tp = TopicPartition(await edge(local, "t"), 0)
        writer = await local.take_over("f", 0)
        faults.point = "take-over"
        with pytest.raises(OSError, match="injected"):
            await local.take_over("f", 0)
        await writer.commit(Commit({tp: [filled(writer, ["x"])]}))
        reader = local.reader()
        reader.assign({tp: 0})
        faults.point = "fetch"
        with pytest.raises(OSError, match="injected"):
            await reader.fetch()
        assert values(await first_of(reader, tp, 1)) == ["x"]


class TestLocal:
    async def test_everything_a_fenced_writer_does_is_refused(self, local: LocalLog) -> None:
        tp = TopicPartition(await edge(local, "t"), 0)
        writer = await local.take_over("f", 0)
        await local.take_over("f", 0)
        for action in (writer.committed([tp]), writer.send({}), writer.commit(Commit())):
            with pytest.raises(LaneLost):
                await action
        await writer.close()

    async def test_taking_over_in_the_middle_of_a_commit(self, local: LocalLog) -> None:
        tp = TopicPartition(await edge(local, "t"), 0)
        writer = await local.take_over("f", 0)
        committing = asyncio.create_task(writer.commit(Commit({tp: [filled(writer, ["x"])]})))
        await asyncio.sleep(0)
        await local.take_over("f", 0)
        with pytest.raises(LaneLost):
            await committing
        assert values(await drain(local, tp)) == []

    async def test_a_builder_is_taken_once(self, local: LocalLog) -> None:
        tp = TopicPartition(await edge(local, "t"), 0)
        writer = await local.take_over("f", 0)
        builder = filled(writer, ["x"])
        await writer.commit(Commit({tp: [builder]}))
        assert builder.append(timestamp=1, key=None, value=b"y") is None
        with pytest.raises(ValueError, match="once"):
            await writer.commit(Commit({tp: [builder]}))

    async def test_closing_aborts_what_is_open(self, local: LocalLog) -> None:
        tp = TopicPartition(await edge(local, "t"), 0)
        writer = await local.take_over("f", 0)
        await writer.send({tp: [filled(writer, ["x"])]})
        await writer.close()
        assert await local.end_offsets([tp]) == {tp: 1}
        assert values(await drain(local, tp)) == []
        assert values(await drain(local, tp, committed=False)) == ["x"]

    async def test_topics_that_are_missing_are_named(self, local: LocalLog) -> None:
        writer = await local.take_over("f", 0)
        with pytest.raises(LogError, match="'none'"):
            await writer.commit(Commit({TopicPartition("none", 0): [filled(writer, ["x"])]}))
        with pytest.raises(LogError, match="'none'"):
            await local.publish("none", 0, [out("x")])

    async def test_closing_the_log_ends_a_waiting_fetch(self, local: LocalLog) -> None:
        tp = TopicPartition(await edge(local, "t"), 0)
        reader = local.reader()
        reader.assign({tp: 0})
        waiting = asyncio.create_task(reader.fetch(timeout=60))
        await asyncio.sleep(0)
        await local.stop()
        with pytest.raises(LogError, match="closed"):
            await waiting

    async def test_the_last_user_closes_the_log(self, local: LocalLog) -> None:
        tp = TopicPartition(await edge(local, "t"), 0)
        await local.start()
        await local.stop()
        await local.publish(*tp, [out("still open")])
        await local.stop()
        with pytest.raises(LogError, match="closed"):
            await local.publish(*tp, [out("no more")])
        await local.start()
        assert values(await drain(local, tp)) == ["still open"]

    async def test_waiting_for_records_costs_no_time(self, local: LocalLog) -> None:
        tp = TopicPartition(await edge(local, "t"), 0)
        readers = [local.reader() for _ in range(50)]
        for reader in readers:
            reader.assign({tp: 0})
        before = time.process_time()
        await asyncio.gather(*(reader.fetch(timeout=0.5) for reader in readers))
        assert time.process_time() - before < 0.25


@given(
    lanes=st.integers(0, 20),
    members=st.lists(st.sampled_from("abcdef"), unique=True, max_size=6),
    owners=st.dictionaries(st.integers(0, 25), st.sampled_from("abcdefg")),
)
def test_lanes_are_divided_evenly_and_stay_where_they_can(
    lanes: int, members: list[str], owners: dict[int, str]
) -> None:
    divided = divide(lanes, members, owners)
    if not members:
        assert divided == {}
        return
    assert sorted(divided) == list(range(lanes))
    counts = [list(divided.values()).count(member) for member in members]
    assert max(counts) - min(counts) <= 1
    for member in members:
        held = [lane for lane in range(lanes) if owners.get(lane) == member]
        kept = [lane for lane in held if divided[lane] == member]
        assert len(kept) >= min(len(held), lanes // len(members))
    assert divide(lanes, members, divided) == divided

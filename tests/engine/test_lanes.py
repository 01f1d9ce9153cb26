"""What lanes do over a long time."""

from __future__ import annotations

import asyncio
import linecache
from collections.abc import Mapping

import pytest

from reflow_kafka import Flow
from reflow_kafka.engine.engine import Engine
from reflow_kafka.lane import calm, session
from reflow_kafka.lane.commits import Committer
from reflow_kafka.lane.tail import last_record
from reflow_kafka.log.api import Commit, OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.local.writer import LocalWriter
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from tests.engine import memory
from tests.support.waiting import until

DEADLINE = 20


class Trimmed(MemoryLog):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.trimmed = asyncio.Event()

    async def trim(self, positions: Mapping[TopicPartition, int]) -> None:
        self.trimmed.set()
        await super().trim(positions)


async def new_log(*topics: str) -> Trimmed:
    log = Trimmed()
    await log.start()
    await log.ensure_topics([TopicSpec(name, 1, TopicKind.EXTERNAL) for name in topics])
    for topic in topics:
        await log.publish(topic, 0, [OutRecord(b"k", b"1", 1000)])
    return log


def counting(*topics: str) -> Flow:
    """A flow without edges, one stage with state for each topic."""
    flow = Flow("counting", partitions=1)
    for topic in topics:

        @flow.stage(name=f"count_{topic}", after=flow.source(f"read_{topic}", topic=topic), state=dict)
        def count(seen: dict[str, int], number: int) -> None:
            seen["n"] = seen.get("n", 0) + number

    return flow


async def run(log: Trimmed, flow: Flow) -> None:
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()) as engine:
        await engine.wait(until_end=True)


async def test_a_log_is_tidied_up_even_where_a_flow_has_no_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TRIM_INTERVAL", 0.01)
    log = await new_log("a")
    async with Engine(counting("a"), log=log, state=MemoryBackend()):
        async with asyncio.timeout(DEADLINE):
            await log.trimmed.wait()


async def test_taking_lanes_over_again_compiles_nothing_again() -> None:
    log = await new_log("a")
    await run(log, counting("a"))
    known = len(linecache.cache)
    for _ in range(5):
        await run(log, counting("a"))
    assert len(linecache.cache) == known


async def test_the_partitions_of_a_topic_that_comes_later_are_noted_too() -> None:
    log = await new_log("a", "b")
    await run(log, counting("a"))
    await run(log, counting("a", "b"))
    record = await last_record(log, TopicPartition("counting.progress", 0))
    assert record is not None
    assert record.inputs == {"a": 1, "b": 1}


class Client:
    """A stage given as an instance."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def open(self) -> None:
        self.calls.append("open")

    async def close(self) -> None:
        self.calls.append("close")

    def __call__(self, number: int) -> None:
        self.calls.append("call")


async def test_an_instance_is_opened_by_the_first_of_its_lanes_and_closed_by_the_last() -> None:
    log, client = await new_log(), Client()
    await log.ensure_topics([TopicSpec("wide", 4, TopicKind.EXTERNAL)])
    for lane in range(4):
        await log.publish("wide", lane, [OutRecord(b"k", b"1", 1000)])
    flow = Flow("sharing", partitions=4)
    flow.stage(client, name="client", after=flow.source("readings", topic="wide"))
    await run(log, flow)
    assert client.calls == ["open", "call", "call", "call", "call", "close"]


class Commits:
    """Commits that write to `out`: each waits until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[int] = []
        """Lanes, in the order in which their commits began."""
        self.go = asyncio.Event()
        self.finishing = asyncio.Event()
        """A lane is to commit for the last time."""
        real, finish = LocalWriter.commit, Committer.finish

        async def commit(writer: LocalWriter, content: Commit) -> dict[TopicPartition, int]:
            if any(tp.topic == "out" for tp in content.batches):
                self.begun.append(writer._lane)
                await self.go.wait()
            return await real(writer, content)

        def last(committer: Committer) -> None:
            finish(committer)
            self.finishing.set()

        monkeypatch.setattr(LocalWriter, "commit", commit)
        monkeypatch.setattr(Committer, "finish", last)


def passing(lanes: int) -> Flow:
    flow = Flow("passing", partitions=lanes)

    @flow.stage(after=flow.source("read", topic="in"))
    def passed(n: int) -> int:
        return n

    flow.sink("out", after=passed, topic="out")
    return flow


async def test_a_stop_commits_what_was_done_during_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = Commits(monkeypatch)
    log = await memory.new_log("in", "out", partitions=1)
    engine = Engine(passing(1), log=log, state=MemoryBackend())
    async with asyncio.timeout(DEADLINE), engine:
        await memory.put(log, "in", ("k", 1))
        await until(lambda: commits.begun, "a commit is under way")
        await memory.put(log, "in", ("k", 2))
        await until(lambda: events(engine) == 2, "more has been done")
        engine.stop()
        await commits.finishing.wait()
        commits.go.set()
        await engine.wait()
    assert await memory.values(log, "out") == [1, 2]


async def test_commits_take_turns_and_hold_what_is_done_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calm, "COMMITS", 1)
    commits = Commits(monkeypatch)
    log = await memory.new_log("in", "out", partitions=2)
    engine = Engine(passing(2), log=log, state=MemoryBackend())
    async with asyncio.timeout(DEADLINE), engine:
        await log.publish("in", 0, [OutRecord(b"k", b"1", 1000)])
        await until(lambda: commits.begun, "a commit is under way")
        for number in range(1, 4):
            await log.publish("in", 1, [OutRecord(b"k", b"2", 1000)])
            await until(lambda number=number: events(engine) == 1 + number, "more has been done")  # type: ignore[misc]
        assert commits.begun == [0]
        commits.go.set()
        await memory.until_seen(log, "out", 4)
    assert commits.begun == [0, 1]


def events(engine: Engine) -> int:
    return engine.statistics().flows["passing"].stages["passed"].events

"""Generators, connector sources and sinks on the memory log; and stopping in the middle of things."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from reflow_kafka import ConnectorContext, Event, Flow, Reject, Retry, State
from reflow_kafka.engine.engine import Engine
from reflow_kafka.engine.runner import Runner
from reflow_kafka.lane import feed, session
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import (
    DEADLINE,
    error_of,
    new_log,
    numbers,
    others,
    put,
    records,
    run,
    until_seen,
    values,
)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BACKOFF", (0.01, 0.1))
    monkeypatch.setattr(Retry, "delay", lambda retry, tries, random: 0.01 * tries)


def ticking(shape: str, upto: int) -> Flow:
    """A source that counts, its position exactly what it has emitted."""
    flow = Flow("f", partitions=2)

    def ticks(at: State[int]) -> Iterator[dict[str, int]]:
        while at.value < upto:
            at.value += 1
            yield {"tick": at.value}

    async def ticks_async(at: State[int]) -> AsyncIterator[dict[str, int]]:
        for tick in ticks(at):
            await asyncio.sleep(0)
            yield tick

    source = ticks if shape == "generator" else ticks_async
    flow.sink("out", after=flow.source(source, name="ticks", state=lambda: 0), topic="out", key=lambda _: "t")
    return flow


@pytest.mark.parametrize("shape", ["generator", "async generator"])
async def test_a_generator_goes_on_exactly_where_its_events_end(shape: str) -> None:
    log, disk = await new_log(), MemoryBackend()
    for crash in (True, False):
        engine = Engine(ticking(shape, 1_000_000), log=log, state=disk)
        async with asyncio.timeout(DEADLINE), engine:
            seen = len(await records(log, "out"))
            await until_seen(log, "out", seen + 100)
            if crash:
                engine.abort()
    await run(log, ticking(shape, seen + 10_000), state=disk)
    found = [value["tick"] for value in await values(log, "out")]
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= 10_000


async def test_a_generator_without_position_begins_anew() -> None:
    log = await new_log()
    flow = Flow("f", partitions=1)

    @flow.source()
    def three() -> Iterator[int]:
        yield from (1, 2, 3)

    flow.sink("out", after=three, topic="out")
    await run(log, flow)
    await run(log, flow)
    assert await values(log, "out") == [1, 2, 3, 1, 2, 3]


@dataclass
class Numbers:
    """A source of two parts that fails now and then and notes what was acknowledged."""

    count: int
    failures: list[str]
    acknowledged: dict[str, int] = field(default_factory=dict)

    async def parts(self) -> Sequence[str]:
        self.fail("parts")
        return ["left", "right"]

    async def open(self, part: str, position: Any, ctx: ConnectorContext) -> NumbersReader:
        self.fail("open")
        return NumbersReader(self, part, position or 0)

    def fail(self, where: str) -> None:
        if where in self.failures:
            self.failures.remove(where)
            raise OSError(f"{where} fails")


@dataclass
class NumbersReader:
    source: Numbers
    part: str
    at: int

    async def read(self, max_events: int) -> Sequence[Event[Any]] | None:
        if self.at == self.source.count:
            return None
        self.at += 1
        self.source.fail("read")
        return [Event({"part": self.part, "n": self.at}, key=self.part)]

    def position(self) -> int:
        return self.at

    async def committed(self, position: int) -> None:
        self.source.acknowledged[self.part] = position

    async def close(self) -> None: ...


async def test_a_connector_that_fails_loses_and_doubles_nothing() -> None:
    log = await new_log()
    source = Numbers(50, ["parts", "open", "open", "read", "read", "read"])
    flow = Flow("f", partitions=2)
    flow.sink("out", after=flow.source("numbers", source), topic="out")
    await run(log, flow)
    found = await values(log, "out")
    for part in ("left", "right"):
        assert [value["n"] for value in found if value["part"] == part] == list(range(1, 51))
    assert source.acknowledged == {"left": 50, "right": 50}
    assert source.failures == []


@dataclass
class Table:
    """A sink that may keep a lane's position with its rows."""

    keeps_position: bool
    failures: int = 0
    rows: list[int] = field(default_factory=list)
    position: Any = None
    gate: asyncio.Event | None = None

    async def open(self, ctx: ConnectorContext) -> Any:
        return ExactWriter(self) if self.keeps_position else TableWriter(self)


@dataclass
class TableWriter:
    table: Table
    waiting: list[int] = field(default_factory=list)

    async def write(self, events: Sequence[Event[Any]]) -> None:
        if any(event.value["n"] == 13 for event in events):
            raise Reject("unlucky")
        self.waiting += [event.value["n"] for event in events]

    async def flush(self, position: Any = None) -> None:
        if self.table.gate is not None:
            await self.table.gate.wait()
        if self.table.failures:
            self.table.failures -= 1
            raise OSError("the table is away")
        self.table.rows += self.waiting
        self.waiting = []
        self.table.position = position

    async def close(self) -> None:
        self.waiting = []


class ExactWriter(TableWriter):
    async def position(self) -> Any:
        return self.table.position


@pytest.mark.parametrize("exact", [False, True])
async def test_a_sink_that_was_away_starves_nobody(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_RECORDS", 5)  # all batches that may be in hand, and more
    log, table = await new_log("in", partitions=1), Table(exact, failures=3)
    flow = Flow("f", partitions=1)
    flow.sink("table", table, after=flow.source("read", topic="in"))
    await put(log, "in", *numbers(40, "a"))
    await run(log, flow)
    assert table.rows == [n for n in range(40) if n != 13]
    (letter,) = await records(log, "f.dead-letters")
    assert (letter.value, error_of(letter, "message")) == (b'{"n":13}', "unlucky")


async def test_the_position_in_the_sink_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash between the sink's flush and the lane's commit nothing is written twice."""
    log, disk, table = await new_log("in", partitions=1), MemoryBackend(), Table(keeps_position=True)
    flow = Flow("f", partitions=1)
    flow.sink("table", table, after=flow.source("read", topic="in"))
    await put(log, "in", *numbers(4, "a"))
    await run(log, flow, state=disk)
    await put(log, "in", *numbers(4, "a"))
    engine = Engine(flow, log=log, state=disk)
    async with engine:
        flush = TableWriter.flush

        async def flush_and_die(self: TableWriter, position: Any = None) -> None:
            await flush(self, position)
            engine.abort()
            await asyncio.Event().wait()

        monkeypatch.setattr(TableWriter, "flush", flush_and_die)
        with pytest.raises(asyncio.CancelledError):
            await engine.wait()
    monkeypatch.setattr(TableWriter, "flush", flush)
    await run(log, flow, state=disk)
    assert table.rows == [0, 1, 2, 3, 0, 1, 2, 3]


async def test_a_stop_finishes_what_is_in_progress() -> None:
    log, entered, go_on = await new_log("in", partitions=1), asyncio.Event(), asyncio.Event()
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"))
    async def slow(value: dict[str, int]) -> dict[str, int]:
        entered.set()
        await go_on.wait()
        return value

    flow.sink("out", after=slow, topic="out")
    await put(log, "in", *numbers(1))
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()) as engine:
        await entered.wait()
        engine.stop()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert await values(log, "out") == [{"n": 0}]
    assert not others()


async def test_a_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    log, entered = await new_log("in", partitions=1), asyncio.Event()
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), state=list)
    async def stuck(seen: list[int], value: dict[str, int]) -> dict[str, list[int]]:
        seen.append(value["n"])
        if value["n"] == 1:
            entered.set()
            await asyncio.Event().wait()
        return {"seen": [*seen]}

    flow.sink("out", after=stuck, topic="out")
    await put(log, "in", *numbers(2, "a"))
    original = Runner.__init__

    def impatient(self: Runner, env: Any) -> None:
        env.release_timeout = 0.2
        original(self, env)

    monkeypatch.setattr(Runner, "__init__", impatient)
    async with asyncio.timeout(5), Engine(flow, log=log, state=MemoryBackend()):
        await entered.wait()
    assert await values(log, "out") == [{"seen": [0]}]
    assert await values(log, "f.stuck.changelog") == [[0]]
    assert not others()


async def test_a_stop_during_a_take_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log = await new_log("in")
    for turns in range(12):
        async with asyncio.timeout(DEADLINE), Engine(ticking("async generator", 1), log=log,
                                                     state=MemoryBackend()):  # fmt: skip
            for _ in range(turns):
                await asyncio.sleep(0)
        assert not others()
    assert not caplog.records

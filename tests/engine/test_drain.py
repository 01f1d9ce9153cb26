"""Sinks that keep a position with their data, and bad events among those they are given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from reflow_kafka import Batch, Event, Flow, Reject, Retry
from reflow_kafka.connector import ConnectorContext
from reflow_kafka.engine.engine import Engine
from reflow_kafka.errors import FlowStopped
from reflow_kafka.log.api import OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import error_of, new_log, put, records, run

DEADLINE = 20
BAD = {3, 4, 7}


class Table:
    """A sink that takes all numbers but the bad ones."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.position: Any = None

    async def open(self, ctx: ConnectorContext) -> TableWriter:
        return TableWriter(self)


class TableWriter:
    def __init__(self, table: Table) -> None:
        self._table = table
        self._waiting: list[int] = []

    async def position(self) -> Any:
        return self._table.position

    async def write(self, events: Sequence[Event[Any]]) -> None:
        if found := BAD & {event.value for event in events}:
            raise Reject(f"not {found}")
        self._waiting += [event.value for event in events]

    async def flush(self, position: Any = None) -> None:
        self._table.rows += self._waiting
        self._table.position = position
        self._waiting = []

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("fatal", range(1, 8))
async def test_a_crash_between_the_sink_and_the_commit_loses_no_dead_letter(fatal: int) -> None:
    """The sink's position decides where to go on: it must not be beyond a dead letter that got lost."""
    commits = 0

    def faults(point: str, flow: str, lane: int) -> None:
        nonlocal commits
        commits += point == "before-commit"
        if point == "before-commit" and commits == fatal:
            raise OSError("killed")

    log = MemoryLog(faults=faults)
    await log.start()
    await log.ensure_topics([TopicSpec("in", 1, TopicKind.EXTERNAL)])
    values = [b"%d" % n for n in range(10)]
    values[5] = b"{"  # cannot be decoded
    await log.publish("in", 0, [OutRecord(b"k", value, 1000) for value in values])
    table, flow = Table(), Flow("drained", partitions=1)
    flow.sink("results", table, after=flow.source("readings", topic="in"))
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()) as engine:
        await engine.wait(until_end=True)
    assert table.rows == [0, 1, 2, 6, 8, 9]
    reader = log.reader()
    reader.assign({TopicPartition("drained.dead-letters", 0): 0})
    letters = [r.value for records in (await reader.fetch(timeout=0)).values() for r in records]
    assert letters == [b"3", b"4", b"{", b"7"]


class Flaky(Table):
    """A sink that loses its connection whenever it is given a bad number."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[list[int]] = []

    async def open(self, ctx: ConnectorContext) -> TableWriter:
        return FlakyWriter(self)


class FlakyWriter(TableWriter):
    _table: Flaky

    async def write(self, events: Sequence[Event[Any]]) -> None:
        self._table.writes.append([event.value for event in events])
        if found := BAD & {event.value for event in events}:
            raise ConnectionError(f"lost because of {found}")
        self._waiting += [event.value for event in events]


async def drained(sink: Flaky, count: int, **options: Any) -> list[Any]:
    """Write so many numbers into a sink; returns the dead letters."""
    log = await new_log("in", partitions=1)
    await put(log, "in", *[("k", n) for n in range(count)])
    flow = Flow("drained", partitions=1)
    flow.sink("results", sink, after=flow.source("readings", topic="in"), **options)
    await run(log, flow)
    return await records(log, "drained.dead-letters")


async def test_of_a_write_that_fails_too_often_only_the_bad_events_are_given_up() -> None:
    sink = Flaky()
    letters = await drained(sink, 10, retry=Retry(2, backoff=0.001))
    assert sink.rows == [0, 1, 2, 5, 6, 8, 9]
    assert [letter.value for letter in letters] == [b"3", b"4", b"7"]
    assert {error_of(letter, "type") for letter in letters} == {"ConnectionError"}


async def test_a_sink_may_skip_what_fails() -> None:
    sink = Flaky()
    assert await drained(sink, 10, retry=Retry(1), on_error="skip") == []
    assert sink.rows == [0, 1, 2, 5, 6, 8, 9]


async def test_a_sink_may_stop_the_flow() -> None:
    with pytest.raises(FlowStopped, match="lost because of"):
        await drained(Flaky(), 10, retry=Retry(1), on_error="stop")


async def test_a_sink_is_given_batches_of_the_size_it_wants() -> None:
    sink = Flaky()
    await drained(sink, 3, batch=Batch(2, within=0.01))
    assert [len(write) for write in sink.writes] == [2, 1]
    sink = Flaky()
    await drained(sink, 3, batch=Batch(100, within=0.01))
    assert sink.writes == [[0, 1, 2]]
    sink = Flaky()
    await drained(sink, 3, batch=Batch(100, max_bytes=2, within=0.01))
    assert sink.writes == [[0, 1], [2]]

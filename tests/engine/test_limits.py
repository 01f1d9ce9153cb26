"""What keeps a stage from doing too much: its rate, its share of dead letters, what it may have in memory."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from reflow_kafka import Batch, Flow, Rate, Retry, State
from reflow_kafka.engine.engine import Engine
from reflow_kafka.errors import FlowStopped, StateError
from reflow_kafka.lane import backlog, overlap, serial
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.state.cache import StateCache
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import DEADLINE, new_log, others, put, records, run, until_seen, values
from tests.support.waiting import until


@pytest.mark.parametrize("options", [{}, {"concurrency": 5}, {"batch": Batch(3, within=0.01)}])
async def test_a_rate_is_never_exceeded(options: dict[str, Any]) -> None:
    flow = Flow("f", partitions=2)
    source = flow.source("source", topic="in")
    begun: list[float] = []

    async def note(value: Any) -> Any:
        begun.extend([time.monotonic()] * (len(value) if isinstance(value, list) else 1))
        return value

    flow.stage(note, after=source, name="slow", rate=Rate(4, per=0.1), **options)
    flow.sink("out", after="slow", topic="out")
    log = await new_log("in", "out")
    await put(log, "in", *[(n % 7, n) for n in range(30)])
    await run(log, flow)
    assert sorted(await values(log, "out")) == list(range(30))
    for first in range(len(begun) - 12):  # 12 more take at least twice 0.1 s, whatever came at once
        assert begun[first + 12] - begun[first] > 0.1


async def test_a_stage_that_dead_letters_too_much_stops_the_flow() -> None:
    flow = Flow("f", partitions=1, retry=Retry(1))
    source = flow.source("source", topic="in")

    @flow.stage(after=source)
    def broken(value: int) -> int:
        if value >= 300:
            raise ConnectionError("the service is away")
        return value

    log = await new_log("in", partitions=1)
    await put(log, "in", *[(n, n) for n in range(5_000)])
    with pytest.raises(FlowStopped, match=r"'broken' stopped the flow: \d+ of \d+ events"):
        await run(log, flow)
    assert len(await records(log, "f.dead-letters")) < 2_000, "the backlog stays where it is"


async def test_a_few_dead_letters_stop_nothing() -> None:
    flow = Flow("f", partitions=1, retry=Retry(1))
    source = flow.source("source", topic="in")

    @flow.stage(after=source)
    def picky(value: int) -> int:
        if value % 3 == 0:
            raise ValueError("no multiples of three")
        return value

    log = await new_log("in", partitions=1)
    await put(log, "in", *[(n, n) for n in range(900)])
    await run(log, flow)
    assert len(await records(log, "f.dead-letters")) == 300


class Hot:
    """A flow in which one key has by far the most events, and each of them takes its time."""

    def __init__(self, **options: Any) -> None:
        self.gate = asyncio.Event()
        self.flow = Flow("f", partitions=1)
        source = self.flow.source("source", topic="in")

        async def count(total: State[int], value: dict[str, Any]) -> dict[str, Any]:
            if value["key"] == "hot":
                await self.gate.wait()
            total.value += 1
            return {**value, "count": total.value}

        self.flow.stage(count, after=source, name="count", state=lambda: 0, **options)
        self.flow.sink("out", after="count", topic="out")


EVENTS = [{"key": "hot" if n % 2 else f"k{n % 20}", "n": n} for n in range(2_000)]


async def test_a_hot_key_does_not_stop_the_others_and_survives_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlap, "MIN_IN_HAND", 20)
    monkeypatch.setattr(backlog, "REFILL", 7)
    log, state = await new_log("in", "out", partitions=1), MemoryBackend()
    await put(log, "in", *[(event["key"], event) for event in EVENTS])
    others_count = sum(event["key"] != "hot" for event in EVENTS)

    async with asyncio.timeout(DEADLINE):
        hot = Hot(concurrency=5)
        async with Engine(hot.flow, log=log, state=state) as engine:
            await until_seen(log, "out", others_count)
            out = await values(log, "out")
            assert all(value["key"] != "hot" for value in out)
            engine.abort()
        hot = Hot(concurrency=5)
        hot.gate.set()
        async with Engine(hot.flow, log=log, state=state) as engine:
            await engine.wait(until_end=True)
    out = await values(log, "out")
    for key in {event["key"] for event in EVENTS}:
        mine = [value for value in out if value["key"] == key]
        assert [value["n"] for value in mine] == [event["n"] for event in EVENTS if event["key"] == key]
        assert [value["count"] for value in mine] == list(range(1, len(mine) + 1))
    entries = {record.key: record.value for record in await records(log, "f.parked.changelog")}
    assert len(entries) > 500, "most of the hot key's events were parked"
    assert not any(entries.values()), "and nothing of it is left"
    assert not others()


@pytest.mark.parametrize("per_key", [False, True])
async def test_batches_do_not_wait_for_what_there_is_no_room_for(
    per_key: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap, "MIN_IN_HAND", 2)
    monkeypatch.setattr(backlog, "MAX_LINED_UP", 500)
    flow = Flow("f", partitions=1)
    batch = Batch(20, within=3600, per_key=per_key)

    @flow.stage(after=flow.source("source", topic="in"), batch=batch)
    async def gather(values: list[int]) -> list[int]:
        return values

    flow.sink("out", after=gather, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", *[(n, b"%100d" % n) for n in range(200)])
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "out", 180)


async def test_parked_retries_keep_their_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "MAX_HELD", 3)
    seen: list[tuple[int, int]] = []

    def make(wait: float) -> Flow:
        flow = Flow("f", partitions=1, retry=Retry(3, backoff=wait, max_backoff=wait, jitter=0))
        source = flow.source("source", topic="in")

        @flow.stage(after=source)
        def fails(value: int, ctx: Any) -> int:
            seen.append((value, ctx.attempt))
            if value % 2:
                raise ValueError("odd")
            return value

        flow.sink("out", after=fails, topic="out")
        return flow

    log, state = await new_log("in", "out", partitions=1), MemoryBackend()
    await put(log, "in", *[(n, n) for n in range(20)])
    async with asyncio.timeout(DEADLINE):
        async with Engine(make(60), log=log, state=state):
            await until_seen(log, "out", 10)
        parked = [r for r in await records(log, "f.parked.changelog") if r.value]
        assert parked
        assert all(msgspec.msgpack.decode(r.value)["tries"] == 1 for r in parked if r.value)
        committed = await (await log.take_over("f", 0)).committed([TopicPartition("in", 0)])
        assert committed[TopicPartition("in", 0)] is not None
    assert sorted(seen) == [(n, 1) for n in range(20)]


async def test_what_waits_shows_in_the_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "MIN_IN_HAND", 4)
    flow = Flow("f", partitions=1, retry=Retry(None, backoff=60, max_backoff=60))
    source = flow.source("source", topic="in")

    @flow.stage(after=source, concurrency=3)
    async def ask(value: dict[str, Any]) -> None:
        if value["key"] == "hang":
            await asyncio.Event().wait()
        raise ConnectionError("the service is away")

    log = await new_log("in", partitions=1)
    await put(log, "in", *[(key, {"key": key}) for key in ["hang", *["a"] * 50]])
    async with Engine(flow, log=log, state=MemoryBackend()) as engine:

        def stage() -> Any:
            return engine.statistics().flows["f"].stages["ask"]

        await until(lambda: stage().parked > 40 and stage().retrying, "events move out of the way")
        found = stage()
        assert (found.in_progress, found.retrying, found.retries) == (1, 1, 1)
        assert 0 < found.next_try <= 60
        engine.abort()


@pytest.mark.parametrize("options", [{}, {"concurrency": 3}])
async def test_a_broken_disk_ends_the_engine_and_no_event(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Flow("f", partitions=1)
    source = flow.source("source", topic="in")

    async def count(total: State[int], value: int) -> None:
        total.value += value

    flow.stage(count, after=source, name="count", state=lambda: 0, **options)

    def broken(cache: StateCache, key: bytes) -> Any:
        raise StateError("the disk is broken")

    monkeypatch.setattr(StateCache, "load", broken)
    log = await new_log("in", partitions=1)
    await put(log, "in", *[("k", n) for n in range(10)])
    with pytest.raises(StateError, match="broken"):
        await run(log, flow)
    assert await records(log, "f.dead-letters") == []

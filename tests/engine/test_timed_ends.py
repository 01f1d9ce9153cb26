"""Stages that go by time, where a lane is stopped, a result is refused, or all that is due fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reflow_kafka import Context, Event, Flow, Retry, Timer, Tumbling, Window
from reflow_kafka.engine.engine import Engine
from reflow_kafka.lane.env import Guarantee
from reflow_kafka.log.api import OutRecord
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import by_key, error_of, new_log, put, records, run, until_seen, values
from tests.support.waiting import until


async def test_a_stop_between_the_events_of_a_slice_loses_none_of_the_rest() -> None:
    """A timer is due before the next event is begun when the lane is told to stop."""
    begun = asyncio.Event()

    async def seen(value: int, *, ctx: Context) -> int:
        if value == 20:
            ctx.timer("due", clock="event-time", at=500)
            begun.set()
            await asyncio.sleep(0.3)
        return value

    def fire(timer: Timer) -> None:
        return None

    flow = Flow("timers", partitions=1)
    flow.source("numbers", topic="numbers")
    flow.stage(seen, name="seen", after="numbers", on_timer=fire)
    flow.sink("out", after="seen", topic="out")
    log, state = await new_log("numbers", "out", partitions=1), MemoryBackend()
    await log.publish("numbers", 0, [OutRecord(b"k", b"%d" % n, 1_000) for n in range(31)])
    async with Engine(flow, log=log, state=state):
        await begun.wait()
    async with Engine(flow, log=log, state=state):
        await until_seen(log, "out", 31)
    assert await values(log, "out") == list(range(31))


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
async def test_a_result_of_a_window_that_the_log_refuses_is_a_dead_letter(guarantee: Guarantee) -> None:
    def collect(state: list[int], value: int) -> None:
        state.append(value)

    def close(state: list[int], window: Window) -> Any:
        large = window.key == "b"
        return Event(state, headers={"n": b"x" * (2_000_000 if large else 1)})

    flow = Flow("windows", partitions=1)
    flow.source("numbers", topic="numbers")
    flow.stage(collect, name="seen", after="numbers", state=list, window=Tumbling(1), on_close=close)
    flow.sink("out", after="seen", topic="out")
    log = await new_log("numbers", "out", partitions=1)
    for key in "abcdef":
        await put(log, "numbers", (key, 1), timestamp=1_000)
    await put(log, "numbers", ("a", 2), timestamp=5_000)
    await run(log, flow, guarantee=guarantee)
    found = await by_key(log, "out")
    assert {key: found[key][-1] for key in found} == {"a": [2], "c": [1], "d": [1], "e": [1], "f": [1]}
    (letter,) = await records(log, "windows.dead-letters")
    assert letter.key == b"b"
    assert error_of(letter, "type").endswith("RefusedByLog")


async def test_what_fails_all_at_once_is_not_all_begun() -> None:
    """While a service is away, no more than some thousand closings wait for another try."""
    tries: list[str] = []
    away = True

    def collect(state: list[int], value: int) -> None:
        state.append(value)

    def close(state: list[int], window: Window) -> list[int]:
        tries.append(window.key)
        if away:
            raise OSError("away")
        return state

    flow = Flow("windows", partitions=1)
    flow.source("numbers", topic="numbers")
    flow.stage(
        collect,
        name="seen",
        after="numbers",
        state=list,
        window=Tumbling(1),
        on_close=close,
        retry=Retry(None, backoff=0.5, max_backoff=0.5),
    )
    flow.sink("out", after="seen", topic="out")
    log = await new_log("numbers", "out", partitions=1)
    raws = [OutRecord(b"k%d" % n, b"%d" % n, 1_000) for n in range(3_000)]
    await log.publish("numbers", 0, [*raws, OutRecord(b"end", b"0", 9_000)])
    async with Engine(flow, log=log, state=MemoryBackend()):
        await until(lambda: len(tries) >= 2_000, "many tries", within=20)
        assert len(set(tries)) <= 1_001
        away = False
        await until_seen(log, "out", 3_000)

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import pytest

from reflow_kafka.lane.cpu import Metered, cpu_used_and_missed


async def test_only_the_steps_of_the_coroutine_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(time, "thread_time", lambda: float(next(ticks)))

    async def other() -> None:
        for _ in range(10):
            time.thread_time()
            await asyncio.sleep(0)

    async def steps() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    task = asyncio.create_task(other())
    metered = Metered(steps())
    assert await metered == "done"
    assert metered.cpu == 3.0, "three steps, each between two looks at the clock"
    await task


async def test_errors_come_through() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await Metered(fails())


async def test_a_cancellation_reaches_the_coroutine() -> None:
    cleaned: list[str] = []

    async def waits() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # it may still wait for something
            cleaned.append("yes")
            raise
        return "never"

    async def metered() -> str:
        return await Metered(waits())

    task = asyncio.create_task(metered())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["yes"]


def test_what_is_used_and_missed_grows() -> None:
    used, missed = cpu_used_and_missed()
    sum(range(100_000))
    later = cpu_used_and_missed()
    assert later[0] > used
    assert later[1] >= missed


def test_a_system_that_does_not_tell_who_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise FileNotFoundError(Path("/proc/thread-self/schedstat"))

    monkeypatch.setattr("builtins.open", refuse)
    assert cpu_used_and_missed()[1] == 0.0

"""Stages with ``run_in="process"`` whose processes are killed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from functools import partial

import psutil
import pytest

from reflow_kafka import Engine
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.computing import computing
from tests.engine.memory import new_log, put, run, values
from tests.support.waiting import until


def processes() -> list[psutil.Process]:
    """Those that run handlers, among all that the tests have started."""
    return [child for child in psutil.Process().children() if "lane.processes.main" in _command(child)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it is ending
        return ""


async def kill(engine: Engine, dice: random.Random) -> None:
    """Kill one now and then; between any two some events are finished, however slow the machine is."""

    def done(count: int) -> bool:
        return engine.statistics().flows["computing"].stages["work"].events >= count

    finished = 0
    while True:
        finished += dice.randrange(20, 200)
        await until(partial(done, finished), f"{finished} events are finished")
        if victims := processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                victims[dice.randrange(len(victims))].kill()


async def test_processes_end_with_the_engine_and_leave_nothing() -> None:
    log = await new_log("numbers")
    await put(log, "numbers", *((f"key-{n % 3}", n) for n in range(30)))
    await run(log, computing())
    assert len(await values(log, "out")) == 30
    assert not processes()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_every_event_counts_once_whichever_process_dies(seed: int) -> None:
    log = await new_log("numbers")
    await put(log, "numbers", *((f"key-{n % 20}", n) for n in range(1500)))
    async with asyncio.timeout(60), Engine(computing(), log=log, state=MemoryBackend()) as engine:
        killing = asyncio.create_task(kill(engine, random.Random(seed)))
        try:
            await engine.wait(until_end=True)
        finally:
            killing.cancel()
    assert not processes()
    assert engine.statistics().flows["computing"].stages["work"].dead_letters == 0
    by_key = defaultdict(list)
    for result in await values(log, "out"):
        by_key[result["key"]].append((result["number"], result["count"]))
    assert by_key == {
        f"key-{k}": [(number, at + 1) for at, number in enumerate(range(k, 1500, 20))] for k in range(20)
    }

"""Sources that fire by the clock, in whole engines on the memory log."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import orjson

from reflow_kafka import Flow, State
from reflow_kafka.definition.schedule import Missed
from reflow_kafka.engine.engine import Engine
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import DEADLINE, new_log, records, run, until_seen, values

PERIOD = 20
"""Milliseconds."""


def ticking(missed: Missed = "all") -> Flow:
    flow = Flow("f", partitions=3)
    flow.sink("out", after=flow.source("tick", every=PERIOD / 1000, missed=missed), topic="out")
    return flow


async def test_one_firing_per_period_in_the_whole_flow_across_crashes() -> None:
    log, disk = await new_log("out", partitions=1), MemoryBackend()
    for crash in (True, True, False):
        engine = Engine(ticking(), log=log, state=disk)
        async with asyncio.timeout(DEADLINE), engine:
            await until_seen(log, "out", len(await records(log, "out")) + 10)
            if crash:
                engine.abort()
    found = await records(log, "out")
    times = [record.timestamp for record in found]
    assert times == list(range(times[0], times[0] + len(times) * PERIOD, PERIOD))
    assert times[0] % PERIOD == 0
    ticks = [orjson.loads(record.value or b"") for record in found]
    assert [tick["tick"] for tick in ticks] == list(range(1, len(ticks) + 1))
    assert [datetime.fromisoformat(tick["scheduled"]).timestamp() * 1000 for tick in ticks] == times
    assert {record.key for record in found} == {b"tick"}


async def test_the_end_of_a_run_does_not_wait_for_a_schedule_but_for_what_it_missed() -> None:
    log, disk = await new_log("out", partitions=1), MemoryBackend()
    await run(log, ticking(), state=disk)  # from now on it has begun
    before = len(await records(log, "out"))
    await asyncio.sleep(5 * PERIOD / 1000)  # time itself is awaited
    await run(log, ticking(), state=disk)
    assert len(await values(log, "out")) >= before + 5


async def test_a_stage_with_state_can_follow() -> None:
    log = await new_log("out", partitions=1)
    flow = Flow("f", partitions=3)
    ticks = flow.source("tick", every=PERIOD / 1000)

    @flow.stage(after=ticks, state=lambda: 0)
    def count(total: State[int], tick: dict[str, Any]) -> int:
        total.value += 1
        return total.value - tick["tick"]

    flow.sink("out", after=count, topic="out")
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "out", 5)
    assert set(await values(log, "out")) == {0}

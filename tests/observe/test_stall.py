"""Handlers that block the loop are told of by name, while they do."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka import Engine, Flow
from reflow_kafka.observe.stall import AGAIN, TICK, Stalls, StallWatch
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import new_log, put, run

pytestmark = pytest.mark.timeout(60)


class Ear(logging.Handler):
    """Hears the reports, from whatever thread they come."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._more = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._more:
            self.records.append(record)
            self._more.notify_all()

    def wait(self, count: int = 1) -> str:
        """Block, as bad handlers do, until there are so many reports."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.records) >= count, 30)
            return self.records[count - 1].getMessage()


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    logger = logging.getLogger("reflow_kafka.observe.stall")
    logger.addHandler(ear)
    yield ear
    logger.removeHandler(ear)


async def test_the_stage_its_line_and_what_to_do_are_told_while_it_blocks(ear: Ear) -> None:
    flow = Flow("blocked", partitions=1)
    heard: list[str] = []

    def innermost() -> None:
        heard.append(ear.wait())

    @flow.stage(after=flow.source("numbers", topic="numbers"))
    def slow(number: int) -> None:
        innermost()

    log = await new_log("numbers", partitions=1)
    await put(log, "numbers", ("k", 1))
    await run(log, flow)
    assert (await asyncio.to_thread(ear.wait, 2)).startswith("blocked.slow[0] blocked the loop for ")
    [message] = heard
    first, _, stack = message.partition("\n")
    assert first.startswith("blocked.slow[0] has blocked the loop for ")
    assert "test_stall.py:" in first
    assert 'give its stage run_in="thread" (or "process", if it computes)' in first
    assert "in Ear.wait;" in first, "the innermost line of the user's, not of the library it calls"
    assert stack.index("in slow") < stack.index("in innermost") < stack.index("in wait")
    assert "asyncio" not in stack
    place = {name: vars(ear.records[0])[name] for name in ("flow", "stage", "lane")}
    assert place == {"flow": "blocked", "stage": "slow", "lane": 0}


@pytest.mark.slow
async def test_an_async_handler_that_blocks_is_found_too(ear: Ear) -> None:
    flow = Flow("blocked", partitions=1)

    async def helper() -> None:
        await asyncio.sleep(0)
        ear.wait()

    @flow.stage(after=flow.source("numbers", topic="numbers"), concurrency=5)
    async def slow(number: int) -> None:
        await helper()

    log = await new_log("numbers", partitions=1)
    await put(log, "numbers", ("k", 1))
    await run(log, flow)
    await asyncio.to_thread(ear.wait, 2)  # or the next test would hear of the end
    assert ear.records[0].getMessage().startswith("blocked.slow[0] has blocked the loop for ")
    assert "in helper" in ear.records[0].getMessage()


@pytest.mark.slow
async def test_what_blocks_beside_the_stages_is_told_as_such(ear: Ear) -> None:
    flow = Flow("beside", partitions=1)
    flow.sink("out", after=flow.source("numbers", topic="numbers"), topic="out")
    async with Engine(flow, log=await new_log("numbers"), state=MemoryBackend()):
        await asyncio.sleep(2 * TICK)
        message = ear.wait()
        assert message.startswith("what runs there has blocked the loop for ")
        assert "test_stall.py" in message
        assert "run_in" not in message
        await asyncio.to_thread(ear.wait, 2)


async def test_a_loop_that_turns_is_left_alone(ear: Ear) -> None:
    watch = StallWatch()
    watch.start()
    for _ in range(20):
        watch.turned()
        await asyncio.sleep(0.05)
    watch.stop()
    assert ear.records == []


@pytest.mark.slow
async def test_code_that_keeps_the_interpreter_to_itself(ear: Ear) -> None:
    watch = StallWatch()
    watch.start()
    numbers: Any = range(10**7)
    began = time.monotonic()
    while time.monotonic() - began < 4 and not ear.records:
        sum(numbers)  # no other thread runs within it
    watch.turned()
    watch.stop()
    assert ear.records


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(0, 100), st.floats(1, 10)), max_size=40))
def test_each_stage_is_told_of_once_a_minute_and_nothing_is_forgotten(
    steps: list[tuple[str, float, float]],
) -> None:
    stalls = Stalls()
    now = 0.0
    told: dict[str, float] = {}
    untold: dict[str, list[float]] = {"a": [], "b": []}
    for stage, pause, seconds in steps:
        now += pause
        report = stalls.report(stage, now)
        if report is None:
            assert now - told[stage] < AGAIN
            stalls.untold(stage, seconds)
            untold[stage].append(seconds)
        else:
            assert now - told.get(stage, -AGAIN) >= AGAIN
            assert report == (len(untold[stage]), pytest.approx(sum(untold[stage])))
            told[stage], untold[stage] = now, []

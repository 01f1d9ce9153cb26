"""The lanes of a stage share its rate in turns."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflow_kafka.lane.rate import CHUNK, Throttle
from reflow_kafka.options import Rate
from tests.simulation.loop import run_virtually


def throttle(events: int, per: float = 1.0, *, lanes: int = 1, here: int = 1) -> Throttle:
    made = Throttle(Rate(events, per), lanes)
    for _ in range(here):
        made.joined()
    return made


async def work(it: Throttle, size: int, done: Counter[int], lane: int, pause: float = 0.0) -> None:
    """A lane that always has more to do."""
    while True:
        done[lane] += await it.admit(size)
        await asyncio.sleep(pause)


async def run_for(seconds: float, *lanes: asyncio.Task[None]) -> None:
    await asyncio.sleep(seconds)
    for lane in lanes:
        lane.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)


@settings(max_examples=5, deadline=None)
@given(
    rate=st.sampled_from([(10, 1.0), (500, 1.0), (5_000, 1.0), (3, 10.0)]),
    sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=5),
    spare=st.integers(0, 5),
)
def test_lanes_get_the_rate_together_and_none_much_more_than_another(
    rate: tuple[int, float], sizes: list[int], spare: int
) -> None:
    events, per = rate

    async def main() -> None:
        it = throttle(events, per, lanes=len(sizes) + spare, here=len(sizes))
        done: Counter[int] = Counter()
        seconds = 30 * per
        await run_for(
            seconds, *(asyncio.create_task(work(it, size, done, lane)) for lane, size in enumerate(sizes))
        )
        share = events / per * len(sizes) / (len(sizes) + spare)
        burst, chunk = max(1.0, share * min(per, 0.1)), max(1, int(share * CHUNK))
        assert sum(done.values()) <= share * seconds + burst + 1e-6
        assert sum(done.values()) >= share * seconds * 0.98 - chunk - 1
        turns = {lane: done[lane] / min(size, chunk) for lane, size in enumerate(sizes)}
        assert max(turns.values()) - min(turns.values()) <= burst + 1, "everybody gets as many turns"

    run_virtually(main(), limit=1e9)


def test_a_lane_with_little_to_do_does_not_wait_for_those_with_much() -> None:
    async def main() -> None:
        it = throttle(100, lanes=4, here=4)
        done: Counter[int] = Counter()
        greedy = [asyncio.create_task(work(it, 1000, done, lane)) for lane in range(3)]
        await asyncio.sleep(1)
        for _ in range(20):
            began = asyncio.get_running_loop().time()
            await it.admit(1)
            assert asyncio.get_running_loop().time() - began < 4 / 100 + 0.001  # the three before it, and it
            await asyncio.sleep(0.5)
        await run_for(0, *greedy)

    run_virtually(main(), limit=1e6)


def test_the_share_follows_the_lanes() -> None:
    async def main() -> None:
        it = throttle(1000, lanes=10, here=1)
        done: Counter[int] = Counter()
        lane = asyncio.create_task(work(it, 100, done, 0))
        rates = []
        for change in (0, 4, -3, -1):
            for _ in range(abs(change)):
                it.joined() if change > 0 else it.left()
            before = done[0]
            await asyncio.sleep(10)
            rates.append((done[0] - before) / 10)
        await run_for(0, lane)
        assert rates == pytest.approx([100, 500, 200, 100], rel=0.1)

    run_virtually(main(), limit=1e6)


def test_a_lane_that_waits_long_learns_of_a_larger_share() -> None:
    async def main() -> None:
        it = throttle(1, 3600, lanes=2, here=1)
        assert it.grab(1) == 1
        waiting = asyncio.create_task(it.admit(1))
        await asyncio.sleep(100)
        it.joined()
        began = asyncio.get_running_loop().time()
        assert await waiting == 1
        assert asyncio.get_running_loop().time() - began == pytest.approx(3550, abs=1)

    run_virtually(main(), limit=1e6)


def test_who_gives_up_uses_nothing_and_holds_nobody_up() -> None:
    async def main() -> None:
        it = throttle(1, 10)
        assert it.grab(5) == 1
        began = asyncio.get_running_loop().time()
        first, second = asyncio.create_task(it.admit(1)), asyncio.create_task(it.admit(1))
        await asyncio.sleep(1)
        assert it.grab(1) == 0, "others are first"
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        assert await second == 1
        assert asyncio.get_running_loop().time() - began == pytest.approx(10, abs=0.1)
        assert it.grab(1) == 0, "nothing is left over"

    run_virtually(main(), limit=1e6)


def test_events_that_belong_together_begin_together() -> None:
    async def main() -> None:
        it = throttle(100)
        began = asyncio.get_running_loop().time()
        await it.admit_all(110)  # ten of them at once
        assert asyncio.get_running_loop().time() - began == pytest.approx(1.0, abs=0.02)

    run_virtually(main(), limit=1e6)

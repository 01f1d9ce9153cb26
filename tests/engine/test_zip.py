"""Two streams zipped by a running flow: strict pairs, one side no more than the limit ahead."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from reflow_kafka import Event, Flow, Retry
from reflow_kafka.engine.engine import Engine
from reflow_kafka.engine.statistics import StageStatistics
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.testing import FlowTest
from tests.engine.memory import by_key, new_log, put, records, run, until_seen
from tests.support.waiting import until


def zipping(limit: int = 100, partitions: int = 1) -> Flow:
    flow = Flow("pairs", partitions=partitions)
    flow.source("left", topic="left")
    flow.source("right", topic="right")

    @flow.zip(after=["left", "right"], limit=limit)
    def pair(left: int, right: int) -> list[int]:
        return [left, right]

    flow.sink("out", after=pair, topic="out")
    flow.sink("over", after="pair.timeout", topic="over")
    return flow


def stage(engine: Engine) -> StageStatistics:
    return engine.statistics().flows["pairs"].stages["pair"]


async def test_pairs_are_strict_and_what_is_over_at_the_end_is_told() -> None:
    log = await new_log("left", "right", "out", "over")
    keys = ["a", "b", "c", "d"]
    await put(log, "left", *((key, n) for n in range(50) for key in keys))
    await put(log, "right", *((key, 100 + n) for key in keys for n in range(45)), ("e", 7))
    await run(log, zipping(partitions=2))
    assert await by_key(log, "out") == {key: [[n, 100 + n] for n in range(45)] for key in keys}
    over = await by_key(log, "over")
    assert over.pop("e") == [[None, 7]]
    assert over == {key: [[n, None] for n in range(45, 50)] for key in keys}


async def test_the_end_of_a_run_takes_in_what_a_limit_has_kept_out() -> None:
    log = await new_log("left", "right", "out", "over")
    await put(log, "left", *(("a", n) for n in range(30)))
    await put(log, "right", ("a", 0))
    await run(log, zipping(limit=2))
    assert await by_key(log, "out") == {"a": [[0, 0]]}
    assert await by_key(log, "over") == {"a": [[n, None] for n in range(1, 30)]}


async def test_a_side_that_is_ahead_is_not_taken_until_the_other_has_caught_up() -> None:
    log = await new_log("left", "right", "out", "over", partitions=1)
    await put(log, "left", *(("a", n) for n in range(10)), ("b", 0))
    async with Engine(zipping(limit=3), log=log, state=MemoryBackend()) as engine:
        await until(lambda: stage(engine).events == 3, "as many as the limit")
        await put(log, "right", ("c", 0), ("a", 0))  # one that is of no help, and one that is
        await until_seen(log, "out", 1)
        await until(lambda: stage(engine).events == 6, "one more of the left side")
        for n in range(7, 12):  # whenever something was taken of the other side, it is looked at again
            await put(log, "right", ("c", n))
            await until(lambda: stage(engine).events >= n, "that event")  # noqa: B023
            assert stage(engine).events == n
        await put(log, "right", *(("a", n) for n in range(1, 10)), ("b", 0))
        await until_seen(log, "out", 11)
    assert await by_key(log, "out") == {"a": [[n, n] for n in range(10)], "b": [[0, 0]]}


async def test_sides_that_wait_for_each_other_exceed_the_limit() -> None:
    log = await new_log("left", "right", "out", "over", partitions=1)
    await put(log, "left", *(("a", n) for n in range(20)), *(("b", n) for n in range(20)))
    await put(log, "right", *(("b", n) for n in range(20)), *(("a", n) for n in range(20)))
    async with Engine(zipping(limit=2), log=log, state=MemoryBackend()):
        await until_seen(log, "out", 40)
    assert await by_key(log, "out") == {key: [[n, n] for n in range(20)] for key in "ab"}


async def test_what_waits_outlives_a_restart() -> None:
    log, state = await new_log("left", "right", "out", "over", partitions=1), MemoryBackend(keep=False)
    for n, side in enumerate(["left", "left", "right", "right"]):
        await put(log, side, ("a", n))
        async with Engine(zipping(), log=log, state=state) as engine:
            await until(lambda: stage(engine).events == 1, "it")
    assert await by_key(log, "out") == {"a": [[0, 2], [1, 3]]}


@dataclass
class Bid:
    price: int


async def test_each_side_has_its_own_type() -> None:
    log = await new_log("left", "right", "out", partitions=1)
    flow = Flow("pairs", partitions=1)
    flow.source("left", topic="left")
    flow.source("right", topic="right")
    seen: list[tuple[Any, Any]] = []

    @flow.zip(after=["left", "right"])
    def pair(left: Bid, right: str) -> int:
        seen.append((left, right))
        return left.price

    flow.sink("out", after=pair, topic="out")
    await put(log, "left", ("a", {"price": 5}))
    await put(log, "right", ("a", b"hello"))
    await run(log, flow)
    assert seen == [(Bid(5), "hello")]
    assert [record.value for record in await records(log, "out")] == [b"5"]


def test_in_a_test_of_the_flow_a_side_that_waits_holds_nothing_up() -> None:
    with FlowTest(zipping(limit=1)) as test:
        began = test.now
        for n in range(3):
            test.send("left", n, key="a")
        assert test.now == began, "nothing was waited for"
        test.advance(wall=60)
        test.restart()
        assert test.outputs("pair") == []
        test.send("right", 0, key="a")
        assert test.outputs("pair") == [[0, 0]]
        test.end()
        assert test.outputs("pair.timeout") == [[1, None], [2, None]]


def test_an_event_that_is_given_up_shifts_no_pair() -> None:
    flow = Flow("pairs", partitions=1)
    flow.source("left", topic="left")
    flow.source("right", topic="right", type=str)

    @flow.zip(after=["left", "right"], retry=Retry(2, backoff=0.01))
    def pair(left: Any, right: str) -> list[Any]:
        if right == "b" or left == 5:
            raise ValueError("bad")
        return [left, right]

    with FlowTest(flow) as test:
        for number in (1, 2, 3):
            test.send("left", number, key="k")
        for letter in "abcdef":
            test.send("right", letter, key="k")
        test.restart(lose_state=True)
        for number in (4, 5, 6):
            test.send("left", number, key="k")
        assert test.outputs("pair") == [[1, "a"], [3, "c"], [4, "d"], [6, "f"]]
        assert test.outputs("pair.timeout") == [[2, None], [None, "e"]]
        assert [letter.value for letter in test.dead_letters()] == [b"b", 5]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_pair_whose_results_are_refused_shifts_no_other(waits: bool) -> None:
    """Whichever of its two events comes last becomes a dead letter, and the other stays alone."""
    log = await new_log("left", "right", partitions=1)
    flow = Flow("pairs", partitions=1)
    flow.source("left", topic="left")
    flow.source("right", topic="right", type=str)

    def results(left: int, right: str) -> Event[list[Any]]:
        return Event([left, right], headers={"n": b"x" * (2_000_000 if left in (3, 4) else 1)})

    async def waiting(left: int, right: str) -> Event[list[Any]]:
        await asyncio.sleep(0)
        return results(left, right)

    flow.zip(waiting if waits else results, after=["left", "right"], name="pair")
    flow.sink("out", after="pair", topic="out")
    flow.sink("over", after="pair.timeout", topic="over")
    await put(log, "left", *(("k", n) for n in range(10)))
    await put(log, "right", *(("k", letter.encode()) for letter in "abcdefghij"))
    await run(log, flow)
    assert await by_key(log, "out") == {"k": [[n, "abcdefghij"[n]] for n in range(10) if n not in (3, 4)]}
    letters = [record.value for record in await records(log, "pairs.dead-letters")]
    over = {tuple(pair) for pair in (await by_key(log, "over"))["k"]}
    kept = {(n, None) if f"{n}".encode() not in letters else (None, "abcdefghij"[n]) for n in (3, 4)}
    assert (len(letters), over) == (2, kept)

"""Timers, times to live and stores of real flows: stored with everything else, and exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from reflow_kafka import Context, Event, Flow, KeyValue, Retry, State, Timer
from reflow_kafka.engine.engine import Engine
from reflow_kafka.log.api import OutRecord, TopicKind, TopicSpec
from reflow_kafka.log.embedded import open_client
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.testing import FlowTest
from tests.engine.memory import (
    DEADLINE,
    by_key,
    error_of,
    new_log,
    put,
    records,
    run,
    until_seen,
    values,
)
from tests.support.waiting import until


@dataclass
class Visit:
    """What is known of a key."""

    pages: list[str] = field(default_factory=list)
    fired: int = 0


def visits(*, delay: float = 10, clock: Any = "event-time", **options: Any) -> Flow:
    """A visit ends when nothing has come for a while."""
    flow = Flow("f", partitions=2)
    flow.source("in", topic="in")

    def ended(visit: Visit, timer: Timer, *, ctx: Context) -> dict[str, Any]:
        ctx.clear_state()
        return {
            "pages": visit.pages,
            "name": timer.name,
            "at": timer.at,
            "time": ctx.timestamp,
            "key": ctx.key,
        }

    def visit(visit: Visit, page: Any, *, ctx: Context) -> None:
        visit.pages.append(page)
        if page == "bye":
            ctx.cancel_timer("end")
        else:
            ctx.timer("end", clock=clock, delay=delay)

    flow.stage(visit, after="in", state=Visit, on_timer=ended, **options)
    flow.sink("out", after="visit", topic="out")
    return flow


async def test_a_timer_by_event_time_ends_a_visit_once() -> None:
    log = await new_log("in", "out", partitions=1)
    for key, page, at in (("a", "1", 0), ("b", "x", 1), ("a", "2", 9_999), ("a", "3", 19_998)):
        await put(log, "in", (key, page), timestamp=at)
    async with Engine(visits(), log=log, state=MemoryBackend()):
        await until_seen(log, "out", 1)
        await put(log, "in", ("b", "y"), timestamp=29_998)
        await until_seen(log, "out", 2)
    await put(log, "in", ("c", "1"), ("c", "bye"), timestamp=29_999)
    await run(log, visits())
    assert await values(log, "out") == [
        {"pages": ["x"], "name": "end", "at": 10_001, "time": 10_001, "key": "b"},
        {"pages": ["1", "2", "3"], "name": "end", "at": 29_998, "time": 29_998, "key": "a"},
        {"pages": ["y"], "name": "end", "at": 39_998, "time": 39_998, "key": "b"},
    ]


async def test_timers_fire_between_events_that_are_taken_in_at_once() -> None:
    log = await new_log("in", "out", partitions=1)
    for at in range(0, 1_000_000, 1_000):  # of each key every two minutes: a visit of its own
        await put(log, "in", (f"k{at // 1_000 % 120}", str(at)), timestamp=at)
    await run(log, visits())
    found = await by_key(log, "out")
    assert {key: [end["pages"] for end in ends] for key, ends in found.items()} == {
        f"k{n}": [[str(at)] for at in range(n * 1_000, 1_000_000, 120_000)] for n in range(120)
    }


async def test_a_timer_by_the_wall_clock_needs_no_traffic() -> None:
    log = await new_log("in", "out")
    await put(log, "in", ("a", "1"), ("b", "2"), ("a", "3"))
    async with Engine(visits(clock="wall-clock", delay=0.2), log=log, state=MemoryBackend()):
        await until_seen(log, "out", 2)
    found = await by_key(log, "out")
    assert {key: [end["pages"] for end in ends] for key, ends in found.items()} == {
        "a": [["1", "3"]],
        "b": [["2"]],
    }


@pytest.mark.parametrize("keeps_state", [True, False])
async def test_after_a_restart_timers_fire_without_new_traffic(keeps_state: bool) -> None:
    log, state = await new_log("in", "out"), MemoryBackend(keep=keeps_state)
    await put(log, "in", ("a", "1"), ("b", "2"))
    async with Engine(visits(clock="wall-clock", delay=0.5), log=log, state=state) as engine:
        await until(lambda: engine.statistics().flows["f"].stages["visit"].events == 2, "both events")
    assert await values(log, "out") == []
    for _ in range(2):
        async with Engine(visits(clock="wall-clock", delay=0.5), log=log, state=state):
            await until_seen(log, "out", 2)
    assert sorted(end["pages"] for end in await values(log, "out")) == [["1"], ["2"]]


async def test_on_the_embedded_log_timers_outlive_a_crash(tmp_path: Path) -> None:
    async with open_client(tmp_path) as client:
        await client.ensure_topics([TopicSpec(topic, 1, TopicKind.EXTERNAL) for topic in ("in", "out")])
        await client.publish("in", 0, [OutRecord(b"a", b'"1"', 0), OutRecord(b"b", b'"2"', 5_000)])
    async with asyncio.timeout(DEADLINE), Engine(visits(), data_dir=tmp_path) as engine:
        await until(lambda: engine.statistics().flows["f"].stages["visit"].events == 2, "both events")
        engine.abort()
    async with open_client(tmp_path) as client:
        await client.publish("in", 0, [OutRecord(b"c", b'"3"', 12_000)])
    async with asyncio.timeout(DEADLINE), Engine(visits(), data_dir=tmp_path) as engine:
        await engine.wait(until_end=True)
    async with open_client(tmp_path) as client:
        found = await client.read("out", 0, 0, timeout=0)
    assert [orjson.loads(r.value or b"")["pages"] for r in found.records] == [["1"], ["2"], ["3"]]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_failing_timer_is_tried_again_and_then_a_dead_letter(waits: bool) -> None:
    tries: list[str] = []

    def fires(count: State[int], timer: Timer, *, ctx: Context) -> Any:
        count.value += 1
        ctx.timer("never", clock="event-time", at=1)
        tries.append(ctx.key)
        if ctx.key == "a" or (ctx.key == "b" and tries.count("b") < 3):
            raise OSError("away")
        ctx.cancel_timer("never")
        return Event({"count": count.value}, key="out")

    async def fires_later(count: State[int], timer: Timer, *, ctx: Context) -> Any:
        await asyncio.sleep(0)
        return fires(count, timer, ctx=ctx)

    flow = Flow("f", partitions=1, retry=Retry(attempts=3, backoff=0.01), dead_letter_limit=1.0)
    flow.source("in", topic="in")

    @flow.stage(after="in", state=int, on_timer=fires_later if waits else fires)
    def count(count: State[int], value: int, *, ctx: Context) -> None:
        count.value += 1
        ctx.timer("t", clock="event-time", delay=1)

    flow.sink("out", after=count, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", ("a", 1), ("b", 2), ("b", 3))
    await run(log, flow)
    assert await by_key(log, "out") == {"out": [{"count": 3}]}
    (letter,) = await records(log, "f.dead-letters")
    assert letter.key == b"a"
    assert orjson.loads(letter.value or b"") == {"name": "t", "at": 2_000, "clock": "event-time"}
    assert (error_of(letter, "stage"), error_of(letter, "message")) == ("count", "away")
    assert sorted(tries) == ["a", "a", "a", "b", "b", "b"]


async def test_an_untouched_state_is_forgotten_and_leaves_no_records() -> None:
    flow = Flow("f", partitions=1)
    flow.source("in", topic="in")

    @flow.stage(after="in", state=int, ttl=0.3)
    def count(seen: State[int], value: Any) -> int:
        seen.value += 1
        return seen.value

    flow.sink("out", after=count, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", ("a", 1), ("a", 1))
    async with Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "out", 2)
        await until_seen(log, "f.count.changelog", 6)  # state, touch and agenda come and go
        await put(log, "in", ("a", 1))
        await until_seen(log, "out", 3)
    assert await values(log, "out") == [1, 2, 1]


@dataclass
class Order:
    """What a customer orders."""

    id: str
    amount: int


def orders() -> Flow:
    """Keeps a customer's orders in a store, and what it has seen in another for a while."""
    flow = Flow("f", partitions=2)
    flow.source("in", topic="in")

    @flow.stage(after="in", stores={"orders": Order, "seen": KeyValue(int, ttl=60)})
    def keep(order: Order, *, ctx: Context) -> Iterator[dict[str, Any]]:
        store = ctx.store("orders")
        mine = f"{ctx.key}/"
        if order.amount:
            store.put(mine + order.id, order)
        else:
            store.delete(mine + order.id)
        seen = ctx.store("seen")
        seen.put(order.id, (seen.get(order.id) or 0) + 1)
        if order.amount < 0:
            raise ValueError("no amount")
        yield {
            "orders": [[key, kept.amount] for key, kept in store.range(prefix=mine)],
            "seen": dict(seen.range("1", "3")),
        }

    flow.sink("out", after=keep, topic="out")
    return flow


@pytest.mark.parametrize("keeps_state", [True, False])
async def test_stores_hold_what_finished_events_have_put(keeps_state: bool) -> None:
    log, state = await new_log("in", "out", partitions=1), MemoryBackend(keep=keeps_state)
    for id, amount in (("1", 5), ("2", 7), ("3", 1), ("1", -1)):
        await put(log, "in", ("a", {"id": id, "amount": amount}))
    await put(log, "in", ("ab", {"id": "2", "amount": 9}))
    await run(log, orders(), state=state)
    for id, amount in (("2", 0), ("4", 4)):
        await put(log, "in", ("a", {"id": id, "amount": amount}))
    await run(log, orders(), state=state)
    assert await by_key(log, "out") == {
        "a": [
            {"orders": [["a/1", 5]], "seen": {"1": 1}},
            {"orders": [["a/1", 5], ["a/2", 7]], "seen": {"1": 1, "2": 1}},
            {"orders": [["a/1", 5], ["a/2", 7], ["a/3", 1]], "seen": {"1": 1, "2": 1}},
            {"orders": [["a/1", 5], ["a/3", 1]], "seen": {"1": 1, "2": 3}},
            {"orders": [["a/1", 5], ["a/3", 1], ["a/4", 4]], "seen": {"1": 1, "2": 3}},
        ],
        "ab": [{"orders": [["ab/2", 9]], "seen": {"1": 1, "2": 2}}],
    }
    assert len(await records(log, "f.dead-letters")) == 1


async def test_who_asks_for_what_a_stage_has_not_is_told_what_to_write() -> None:
    flow = Flow("f", partitions=1, dead_letter_limit=1.0, retry=Retry(attempts=1))
    flow.source("in", topic="in")

    def plain(value: Any, *, ctx: Context) -> None:
        ctx.timer("t", clock="wall-clock", delay=1)

    def remembering(state: dict[str, Any], value: Any, *, ctx: Context) -> None:
        ctx.store("seen")

    flow.stage(plain, after="in")
    flow.stage(remembering, after="in", state=dict, on_timer=lambda state, timer: None)
    log = await new_log("in", partitions=1)
    await put(log, "in", ("a", 1))
    await run(log, flow)
    letters = await records(log, "f.dead-letters")
    messages = sorted(error_of(letter, "message").partition(" (not")[0] for letter in letters)
    assert messages == [
        "ctx.timer(...): stage 'plain' has none; give it on_timer=",
        "this stage has no store 'seen' (it has none): say stores={\"seen\": dict}",
    ]


async def test_on_timer_takes_resources_by_name() -> None:
    flow = Flow("f", partitions=1)
    flow.source("in", topic="in")

    @flow.resource
    def suffix() -> str:
        return "!"

    def ends(timer: Timer, ctx: Context, suffix: str) -> list[str]:
        return [timer.name + suffix + ctx.key]

    def start(value: Any, ctx: Context) -> None:
        ctx.timer(value, clock="event-time", delay=0)

    flow.stage(start, after="in", on_timer=ends)
    flow.sink("out", after="start", topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", ("a", "t"))
    await run(log, flow)
    assert await values(log, "out") == [["t!a"]]


@pytest.mark.parametrize("first", [{}, {"ttl": 60}, {"stores": {"t": int}}])
@pytest.mark.parametrize("then", [{}, {"ttl": 60}, {"on_timer": lambda state, timer: None}])
async def test_states_stay_when_a_stage_gets_timers_or_loses_them(first: Any, then: Any) -> None:
    log, state = await new_log("in", "out", partitions=1), MemoryBackend()
    for options in (first, then):

        def count(seen: State[int], value: Any) -> int:
            seen.value += 1
            return seen.value

        flow = Flow("f", partitions=1)
        flow.source("in", topic="in")
        flow.stage(count, after="in", state=int, **options)
        flow.sink("out", after=count, topic="out")
        await put(log, "in", ("tea", 1), ("x" * 20, 1), ("", 1))
        await run(log, flow, state=state)
    assert await values(log, "out") == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("rekeyed", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_event_time_goes_on_without_traffic(rekeyed: bool, restarts: bool) -> None:
    flow = Flow("f", partitions=2)
    flow.source("in", topic="in", key="who" if rekeyed else None, idle_after=30)

    @flow.stage(after="in", state=int, on_timer=lambda count, timer: count.value)
    def count(count: State[int], value: dict[str, Any], ctx: Context) -> None:
        count.value += 1
        ctx.timer("t", clock="event-time", delay=10)

    with FlowTest(flow) as test:
        for _ in range(2):
            test.send("in", {"who": "a"}, key="a")
        if restarts:
            test.restart(lose_state=True)
        test.advance(25)
        assert test.outputs("count") == []
        test.advance(60)
        assert (test.outputs("count"), test.timers("count", "a")) == ([2], [])

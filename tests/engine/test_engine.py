"""Flows of all shapes on the memory log, from their input to their output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from reflow_kafka import Context, Event, Flow, State
from reflow_kafka.engine.engine import Engine
from reflow_kafka.log.api import TopicKind, TopicSpec
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import (
    by_key,
    new_log,
    numbers,
    others,
    put,
    records,
    run,
    until_seen,
    values,
)
from tests.support.waiting import until


def counting(name: str = "f", **options: Any) -> Flow:
    """Counts the events of each key."""
    flow = Flow(name, partitions=2)

    @flow.stage(after=flow.source("read", topic=f"{name}-in"), state=lambda: 0, **options)
    def count(seen: State[int], value: dict[str, int]) -> dict[str, int]:
        seen.value += 1
        return {**value, "seen": seen.value}

    flow.sink("write", after=count, topic=f"{name}-out")
    return flow


async def test_state_is_kept_by_key() -> None:
    log = await new_log("f-in")
    await put(log, "f-in", *numbers(6))
    await run(log, counting())
    assert await by_key(log, "f-out") == {
        "a": [{"n": 0, "seen": 1}, {"n": 2, "seen": 2}, {"n": 4, "seen": 3}],
        "b": [{"n": 1, "seen": 1}, {"n": 3, "seen": 2}, {"n": 5, "seen": 3}],
    }


@pytest.mark.parametrize("keep", [True, False])
async def test_a_second_run_goes_on_where_the_first_ended(keep: bool) -> None:
    log, disk = await new_log("f-in"), MemoryBackend(keep=keep)
    await put(log, "f-in", *numbers(4))
    first = await run(log, counting(), state=disk)
    await run(log, counting(), state=disk)
    await put(log, "f-in", *numbers(4))
    last = await run(log, counting(), state=disk)
    assert {key: [v["seen"] for v in found] for key, found in (await by_key(log, "f-out")).items()} == {
        "a": [1, 2, 3, 4],
        "b": [1, 2, 3, 4],
    }
    assert first.statistics().flows["f"].stages["count"].events == 4
    assert last.statistics().flows["f"].stages["count"].events == 4


async def test_merging_rekeying_and_a_single_lane() -> None:
    log = await new_log("left", "right", partitions=3)
    flow = Flow("f", partitions=3)
    sources = [flow.source(name, topic=name) for name in ("left", "right")]

    @flow.stage(after=sources, key=lambda v: v["n"] % 2, state=lambda: 0)
    def parity(seen: State[int], value: dict[str, int], ctx: Context) -> dict[str, Any]:
        seen.value += 1
        return {"parity": ctx.key, "seen": seen.value, "from": ctx.upstream}

    @flow.stage(after=parity, partitions=1, key=lambda _: "all", state=list)
    def everything(all: list[str], value: dict[str, Any]) -> dict[str, Any]:
        all.append(value["from"])
        return {"total": len(all)}

    flow.sink("out", after=everything, topic="out")
    await put(log, "left", *numbers(10, "abcde"))
    await put(log, "right", *numbers(10, "abcde"))
    await run(log, flow)
    assert [value["total"] for value in await values(log, "out")] == list(range(1, 21))
    assert (await log.partition_counts(["f.parity.everything"])) == {"f.parity.everything": 1}


async def test_fan_out_predicates_and_named_outputs() -> None:
    log = await new_log("in")
    flow = Flow("f", partitions=2)

    @flow.stage(after=flow.source("read", topic="in"), outputs=["big"])
    def split(value: dict[str, int]) -> Iterator[Event[dict[str, int]] | dict[str, int]]:
        yield value
        if value["n"] > 3:
            yield Event({"big": value["n"]}, to="big")

    flow.sink("all", after=split, topic="all")
    flow.sink("even", after=split, topic="even", when=lambda value: value["n"] % 2 == 0)
    flow.sink("big", after="split.big", topic="big", key=lambda value: "big")
    await put(log, "in", *numbers(6, "a"))
    await run(log, flow)
    assert await values(log, "all") == [{"n": n} for n in range(6)]
    assert await values(log, "even") == [{"n": n} for n in (0, 2, 4)]
    assert await by_key(log, "big") == {"big": [{"big": 4}, {"big": 5}]}


async def test_what_an_event_inherits_and_what_it_says_itself() -> None:
    log = await new_log("in")
    flow = Flow("f", partitions=2)

    @flow.stage(after=flow.source("read", topic="in"))
    async def emit(event: Event[dict[str, Any] | None]) -> AsyncIterator[Any]:
        assert event.id == f"in/{0 if event.key == 'k' else 1}/0"
        yield event.value or Event(None)
        yield Event({"own": 1}, key="other", timestamp=5, headers={"h": b"1"})
        yield Event(None)

    flow.sink("out", after=emit, topic="out", format="json")
    await put(log, "in", ("k", {"n": 1}))
    await run(log, flow)
    found = {(r.key, r.value, r.timestamp, tuple(r.headers)) for r in await records(log, "out")}
    assert found == {
        (b"k", b'{"n":1}', 1_000, ()),
        (b"other", b'{"own":1}', 5, (("h", b"1"),)),
        (b"k", None, 1_000, ()),
    }


async def test_a_source_can_be_copied_tombstones_and_time_included() -> None:
    log = await new_log("in")
    flow = Flow("f", partitions=2)
    flow.sink("copy", after=flow.source("read", topic="in", timestamp="at"), topic="copy")
    await put(log, "in", ("a", {"at": 77}), ("a", None), (None, {"at": 78}))
    await run(log, flow)
    found = sorted((r.key or b"", r.value or b"", r.timestamp) for r in await records(log, "copy"))
    assert found == [(b"", b'{"at":78}', 78), (b"a", b"", 1_000), (b"a", b'{"at":77}', 77)]
    assert await records(log, "f.dead-letters") == []


async def test_a_sink_finds_its_topic_by_a_function() -> None:
    log = await new_log("in")
    flow = Flow("f", partitions=2)
    flow.sink("out", after=flow.source("read", topic="in"), topic=lambda v: v["to"])
    await log.ensure_topics([TopicSpec("x", 1, TopicKind.EXTERNAL)])
    await put(log, "in", *((str(n), {"to": "xy"[n % 2], "n": n}) for n in range(8)), ("a", {"to": None}))
    await run(log, flow)
    assert sorted(value["n"] for value in await values(log, "x")) == [0, 2, 4, 6]
    assert sorted(value["n"] for value in await values(log, "y")) == [1, 3, 5, 7]
    assert await values(log, "f.dead-letters") == [{"to": None}]


async def test_resources_are_opened_in_order_and_closed_in_reverse() -> None:
    log = await new_log("in")
    flow, story = Flow("f", partitions=2), []

    @flow.resource
    def settings() -> Iterator[dict[str, int]]:
        story.append("settings opened")
        yield {"factor": 10}
        story.append("settings closed")

    @flow.resource
    async def pool(settings: dict[str, int]) -> AsyncIterator[int]:
        story.append("pool opened")
        yield settings["factor"]
        story.append("pool closed")

    @flow.stage(after=flow.source("read", topic="in"))
    class Multiply:
        def __init__(self, settings: dict[str, int]) -> None:
            self.factor = settings["factor"]
            self.is_open = False

        async def open(self) -> None:
            self.is_open = True

        def __call__(self, value: dict[str, int], *, pool: int) -> dict[str, int]:
            assert self.is_open
            return {"n": value["n"] * self.factor + pool}

        def close(self) -> None:
            story.append("stage closed")

    flow.sink("out", after=Multiply, topic="out")
    await put(log, "in", *numbers(2, "a"))
    await run(log, flow)
    assert await values(log, "out") == [{"n": 10}, {"n": 20}]
    assert story == [
        "settings opened", "pool opened", "stage closed", "stage closed", "pool closed", "settings closed",
    ]  # fmt: skip


async def test_a_commit_never_sees_half_of_what_a_suspended_handler_does() -> None:
    log, disk = await new_log("in", partitions=1), MemoryBackend(keep=False)
    flow, halfway = Flow("f", partitions=1), asyncio.Event()

    @flow.stage(after=flow.source("read", topic="in"), state=dict)
    async def slow(state: dict[str, int], value: dict[str, int]) -> dict[str, int]:
        state["half"] = value["n"]
        if value["n"] == 2:
            halfway.set()
            await asyncio.Event().wait()
        state["whole"] = value["n"]
        return dict(state)

    @flow.stage(after="read", name="quick")
    def quick(value: dict[str, int]) -> dict[str, int]:
        return value

    flow.sink("out", after=slow, topic="out")
    flow.sink("quick_out", after=quick, topic="quick-out")
    await put(log, "in", *numbers(3, "a"))
    async with Engine(flow, log=log, state=disk) as engine:
        await asyncio.wait_for(halfway.wait(), 10)
        await put(log, "in", ("a", {"n": 3}))  # commits go on beside it
        await until_seen(log, "quick-out", 4)
        await until_seen(log, "out", 2)
        engine.abort()
    assert not others()
    assert (await values(log, "f.slow.changelog"))[-1] == {"half": 1, "whole": 1}
    assert await values(log, "out") == [{"half": n, "whole": n} for n in (0, 1)]


async def test_at_least_once_loses_nothing() -> None:
    log = await new_log("in")
    flow = Flow("f", partitions=2)

    @flow.stage(after=flow.source("read", topic="in"), key="n")
    def first(value: dict[str, int]) -> dict[str, int]:
        return value

    @flow.stage(after=first, key=lambda v: v["n"] % 3, state=list)
    def second(seen: list[int], value: dict[str, int]) -> dict[str, int]:
        seen.append(value["n"])
        return value

    flow.sink("out", after=second, topic="out")
    await put(log, "in", *numbers(300))
    await run(log, flow, guarantee="at-least-once")
    assert sorted(value["n"] for value in await values(log, "out")) == list(range(300))


async def test_two_flows_in_one_engine() -> None:
    log = await new_log("f-in", "g-in")
    await put(log, "f-in", *numbers(4))
    await put(log, "g-in", *numbers(6))
    await run(log, counting("f"), counting("g"))
    assert len(await values(log, "f-out")) == 4
    assert len(await values(log, "g-out")) == 6


async def test_two_engines_divide_the_lanes() -> None:
    log = await new_log("f-in")
    await put(log, "f-in", *numbers(4))
    async with Engine(counting(), log=log, state=MemoryBackend()) as one:
        await until_seen(log, "f-out", 4)
        async with Engine(counting(), log=log, state=MemoryBackend()) as two:
            await put(log, "f-in", *numbers(4))
            await until_seen(log, "f-out", 8)
            engines = (one, two)
            await until(lambda: all(e.statistics().flows["f"].running == 1 for e in engines), "one lane each")
        await put(log, "f-in", *numbers(4))
        await until_seen(log, "f-out", 12)
    assert {k: [v["seen"] for v in vs] for k, vs in (await by_key(log, "f-out")).items()} == {
        "a": [1, 2, 3, 4, 5, 6],
        "b": [1, 2, 3, 4, 5, 6],
    }
    assert not others()

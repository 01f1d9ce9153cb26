"""Time from lane to lane: what sources see reaches the timed stages, after the events it follows from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from reflow_kafka import Context, Count, Event, Flow, Session, State, Timer, Tumbling, Window
from reflow_kafka.engine.engine import Engine
from reflow_kafka.lane.record import RECORD_KEY, LaneRecord, decode
from reflow_kafka.log.api import OutRecord
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.serde.keys import partition_of
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.units import Clock
from tests.engine.memory import by_key, new_log, records, run, until_seen
from tests.engine.test_timed import TimedFlow, quiet
from tests.support.waiting import until

LANES = 3
NEVER_IDLE = 3600.0
SOON = 0.3


def pass_on(value: int) -> int:
    return value


def letter(value: int) -> str:
    return "abcdefghij"[value // 100]


def hops(
    middle: Callable[..., Any] = pass_on, *, idle_after: float = NEVER_IDLE, behind: float = 0, **options: Any
) -> TimedFlow:
    """Numbers pass a stage, and those of each hundred are added up: `a` from 0 on, `b` from 100 on …"""
    flow = TimedFlow("hops", partitions=2)
    flow.source("numbers", topic="numbers", idle_after=idle_after, out_of_orderness=behind)
    flow.stage(middle, name="middle", after="numbers", **options)
    flow.stage(quiet, name="tally", after="middle", key=letter, outputs=["late"])
    flow.sink("out", after="tally", topic="out")
    flow.sink("late", after="tally.late", topic="late")
    return flow


async def new(**options: Any) -> MemoryLog:
    return await new_log("numbers", "out", "late", partitions=LANES, **options)


async def put(log: MemoryLog, partition: int, *numbers: tuple[int, int]) -> None:
    """Numbers with their timestamps, into one partition."""
    for number, timestamp in numbers:
        await log.publish("numbers", partition, [OutRecord(None, b"%d" % number, timestamp)])


async def everywhere(log: MemoryLog, number: int, timestamp: int) -> None:
    for partition in range(LANES):
        await put(log, partition, (number, timestamp))


async def newest(log: MemoryLog, flow: str) -> list[LaneRecord]:
    return [decode(r.value or b"") for r in await records(log, f"{flow}.progress") if r.key == RECORD_KEY]


def events(engine: Engine) -> int:
    """How many have entered the timed stage."""
    return engine.statistics().flows["hops"].stages["tally"].events


def totals(found: dict[str, list[Any]]) -> dict[str, list[int]]:
    return {key: [each["total"] for each in sums] for key, sums in found.items()}


async def test_time_is_that_of_the_slowest_lane() -> None:
    log = await new()
    await put(log, 0, (1, 100), (900, 1_000))
    await put(log, 1, (2, 100), (900, 1_000))
    await put(log, 2, (4, 100))
    async with Engine(hops(), log=log, state=MemoryBackend()) as engine:
        await until(lambda: events(engine) == 5, "all events")
        await put(log, 2, (8, 109))  # in time, whatever the other lanes have seen
        await until(lambda: events(engine) == 6, "one more")
        assert await by_key(log, "out") == {}
        await put(log, 2, (901, 500))
        await until_seen(log, "out", 1)
    assert totals(await by_key(log, "out")) == {"a": [15]}
    assert await by_key(log, "late") == {}


@pytest.mark.parametrize(("behind", "late"), [(0.0, {"c": [207]}), (0.95, {})])
async def test_events_may_be_out_of_order_by_so_much(behind: float, late: dict[str, list[int]]) -> None:
    log = await new()
    async with Engine(hops(behind=behind), log=log, state=MemoryBackend()) as engine:
        await put(log, 0, (1, 50))
        await everywhere(log, 900, 1_050)  # the watermark is 1,050, or 100
        await until_seen(log, "out", 1)
        await put(log, 1, (207, 200))
        await until(lambda: events(engine) == 5, "all events")
    assert await by_key(log, "late") == late


async def test_a_lane_without_traffic_does_not_count_after_a_while() -> None:
    log = await new()
    await put(log, 0, (1, 100), (2, 100))
    async with Engine(hops(idle_after=SOON), log=log, state=MemoryBackend()) as engine:
        await until(lambda: events(engine) == 2, "both events")
        for _ in range(400):  # the others have nothing; this one is never idle
            await put(log, 0, (900, 1_000))
            await asyncio.sleep(0.05)
            if await by_key(log, "out"):
                break
        assert totals(await by_key(log, "out")) == {"a": [3]}
        await put(log, 1, (100, 200))  # it counts again, but time does not go back
        await until_seen(log, "late", 1)


async def test_time_goes_on_when_traffic_ends() -> None:
    log = await new()
    async with Engine(hops(idle_after=SOON), log=log, state=MemoryBackend()):
        await put(log, 1, (1, 100), (2, 100))
        await until_seen(log, "out", 1)
        await put(log, 1, (4, 100))  # what is closed is closed, although no event was newer
        await until_seen(log, "late", 1)
    assert totals(await by_key(log, "out")) == {"a": [3]}
    assert await by_key(log, "late") == {"a": [4]}


async def test_the_end_of_a_run_flushes_everything_and_is_not_the_end_of_time() -> None:
    log, state = await new(), MemoryBackend()
    await everywhere(log, 2, 100)
    await put(log, 0, (100, 5_000))
    await run(log, hops(), state=state)
    assert totals(await by_key(log, "out")) == {"a": [6], "b": [100]}
    await everywhere(log, 3, 200)
    await run(log, hops(), state=state)
    assert totals(await by_key(log, "out")) == {"a": [6, 9], "b": [100]}
    assert await by_key(log, "late") == {}


async def test_events_that_come_after_the_end_of_a_run_belong_to_the_next_one() -> None:
    log, state = await new(), MemoryBackend()
    await everywhere(log, 2, 100)
    more: list[asyncio.Task[None]] = []

    async def close(total: int) -> dict[str, int]:
        if not more:  # the run has come to its end, and is not over yet
            more.append(asyncio.create_task(everywhere(log, 2, 105)))
            await more[0]
            await asyncio.sleep(0.5)
        return {"total": total}

    flow = hops()
    flow.on_close = close  # type: ignore[method-assign]
    await run(log, flow, state=state)
    await run(log, hops(), state=state)
    assert totals(await by_key(log, "out")) == {"a": [6, 6]}
    assert await by_key(log, "late") == {}


async def test_the_watermark_does_not_go_back_with_a_restart() -> None:
    log, state = await new(), MemoryBackend()
    async with Engine(hops(), log=log, state=state):
        await put(log, 0, (1, 100))
        await everywhere(log, 900, 2_000)
        await until_seen(log, "out", 1)
    async with Engine(hops(), log=log, state=state):
        await put(log, 0, (2, 900))
        await until_seen(log, "late", 1)
    assert await by_key(log, "late") == {"a": [2]}


async def test_time_goes_on_when_lanes_move() -> None:
    log = await new()
    async with Engine(hops(), log=log, state=MemoryBackend()) as first:
        await everywhere(log, 2, 100)
        await until(lambda: events(first) == 3, "all events")
        async with Engine(hops(), log=log, state=MemoryBackend()) as second:
            await until(lambda: second.statistics().flows["hops"].running > 0, "some lanes have moved")
            await everywhere(log, 100, 1_000)
            await until_seen(log, "out", 1)
            await until(lambda: events(first) + events(second) == 6, "all events")
        await everywhere(log, 200, 2_000)
        await until_seen(log, "out", 2)
    assert totals(await by_key(log, "out")) == {"a": [6], "b": [300]}
    assert await by_key(log, "late") == {}


async def test_at_least_once_keeps_time_too() -> None:
    log = await new()
    async with Engine(hops(), log=log, state=MemoryBackend(), guarantee="at-least-once"):
        await everywhere(log, 2, 100)
        await everywhere(log, 900, 1_000)
        await until_seen(log, "out", 1)
    assert totals(await by_key(log, "out")) == {"a": [6]}


async def test_an_event_that_is_not_finished_holds_time_up() -> None:
    log = await new()
    released = asyncio.Event()

    async def slow(value: int) -> int:
        if value == 1:
            await released.wait()
        return value

    async with Engine(hops(slow, concurrency=10), log=log, state=MemoryBackend()) as engine:
        await put(log, 0, (1, 100))
        await everywhere(log, 2, 100)
        await everywhere(log, 900, 1_000)
        await until(lambda: events(engine) == 6, "all others")
        await asyncio.sleep(0.5)  # enough for time to come that far, if nothing held it up
        assert await by_key(log, "out") == {}
        released.set()
        await until_seen(log, "out", 1)
    assert totals(await by_key(log, "out")) == {"a": [7]}
    assert await by_key(log, "late") == {}


async def test_a_generator_tells_the_time_and_ends_it() -> None:
    log = await new()
    flow = TimedFlow("hops", partitions=2)

    @flow.source(name="numbers")
    def yields() -> Iterator[Event[int]]:
        yield Event(2, key="a", timestamp=100)
        yield Event(4, key="b", timestamp=100)
        yield Event(8, key="c", timestamp=1_000)

    flow.stage(quiet, name="tally", after="numbers")
    flow.sink("out", after="tally", topic="out")
    async with Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "out", 3)
    assert totals(await by_key(log, "out")) == {"a": [2], "b": [4], "c": [8]}


async def test_the_field_of_a_value_tells_the_time() -> None:
    log = await new()
    flow = TimedFlow("hops", partitions=2)
    flow.source("numbers", topic="numbers", timestamp="at", key="to")
    flow.stage(number_of, name="middle", after="numbers")
    flow.stage(quiet, name="tally", after="middle")
    flow.sink("out", after="tally", topic="out")
    async with Engine(flow, log=log, state=MemoryBackend()):
        for to, at in (("a", "2024-05-01T12:00:00Z"), ("b", "2024-05-01T12:00:01Z")):
            for partition in range(LANES):
                value = orjson.dumps({"n": 1, "to": to, "at": at})
                await log.publish("numbers", partition, [OutRecord(None, value, 7)])
        await until_seen(log, "out", 1)
    assert totals(await by_key(log, "out")) == {"a": [3]}


def number_of(value: dict[str, Any]) -> int:
    return int(value["n"])


async def test_without_timed_stages_nobody_tells_of_time() -> None:
    log = await new()
    flow = Flow("plain", partitions=2)
    flow.source("numbers", topic="numbers")
    flow.stage(pass_on, name="middle", after="numbers")
    flow.sink("out", after="middle", topic="out", key=letter)
    await everywhere(log, 2, 100)
    await run(log, flow)
    told = await newest(log, "plain")
    assert told
    assert not any(record.times for record in told)


def closed(state: State[int], window: Window) -> int:
    return state.value


def fired(state: State[int], timer: Timer) -> int:
    return state.value


def timed_by(clock: Clock) -> Callable[[Flow], None]:
    """Each number is emitted when a timer fires."""

    def wait(state: State[int], value: int, ctx: Context) -> None:
        state.value = value
        ctx.timer("later", clock=clock, delay=2)

    return lambda flow: register(flow, wait, on_timer=fired, state=lambda: 0)


def in_windows(window: Tumbling | Session) -> Callable[[Flow], None]:
    """Each number is emitted when its window closes."""
    return lambda flow: register(flow, add, window=window, on_close=closed, state=lambda: 0)


def gathered_by(clock: Clock) -> Callable[[Flow], None]:
    """Each number is emitted when the set has not become complete."""

    def gathered(parts: list[int]) -> None:
        raise AssertionError(parts)

    def define(flow: Flow) -> None:
        flow.gather(after=["numbers"], expect=2, within=2, close_on=clock, name="parts")(gathered)
        flow.stage(sum, name="first", after="parts.timeout")

    return define


def register(flow: Flow, handler: Callable[..., Any], **options: Any) -> None:
    flow.stage(handler, name="first", after="numbers", **options)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(in_windows(Tumbling(1)), id="windows"),
        pytest.param(in_windows(Session(1, merge=max)), id="sessions"),
        pytest.param(timed_by("event-time"), id="timers"),
        pytest.param(timed_by("wall-clock"), id="timers by the wall clock"),
        pytest.param(gathered_by("event-time"), id="sets"),
        pytest.param(gathered_by("wall-clock"), id="sets by the wall clock"),
    ],
)
async def test_an_idle_lane_holds_up_what_it_is_still_going_to_emit(first: Callable[[Flow], None]) -> None:
    """Its time is behind that of others; what it leads to later, by the wall clock, is not late."""
    log = await new_log("numbers", "out", "late", partitions=2)
    flow = Flow("hops", partitions=2)
    flow.source("numbers", topic="numbers", idle_after=SOON)
    first(flow)
    flow.stage(
        add, name="again", after="first", key=letter, window=Tumbling(1), state=lambda: 0, on_close=total
    )
    flow.sink("out", after="again", topic="out")
    flow.sink("late", after="again.late", topic="late")
    async with Engine(flow, log=log, state=MemoryBackend()):
        await log.publish("numbers", 0, [OutRecord(b"a", b"1", 500)])
        await log.publish("numbers", 1, [OutRecord(b"b", b"2", 90_900)])
        await until_seen(log, "out", 2)
    assert await by_key(log, "out") == {"a": [1, 2]}
    assert await by_key(log, "late") == {}


async def test_at_the_end_of_time_what_is_incomplete_is_emitted_before_others_are_told() -> None:
    log = await new_log("out", "late", partitions=2)
    flow = Flow("hops", partitions=2)

    @flow.source(name="numbers")
    def yields() -> Iterator[Event[int]]:
        yield Event(1, key="a", timestamp=500)
        yield Event(2, key="b", timestamp=90_900)

    async def slowly(state: State[int], window: Window) -> int:
        await asyncio.sleep(SOON)
        return state.value

    flow.stage(add, name="first", after="numbers", window=Count(10), on_close=slowly, state=lambda: 0)
    flow.stage(
        add, name="again", after="first", key=letter, window=Tumbling(100), state=lambda: 0, on_close=total
    )
    flow.sink("out", after="again", topic="out")
    flow.sink("late", after="again.late", topic="late")
    async with Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "out", 1)
    assert await by_key(log, "out") == {"a": [3]}
    assert await by_key(log, "late") == {}


@pytest.mark.parametrize("waits", [False, True])
async def test_what_is_told_with_the_last_window_of_a_slice_is_all_there_is(waits: bool) -> None:
    """Its commit comes before it is looked again for what is due; no other one follows in its lane."""

    def close(state: State[int], window: Window) -> int:
        time.sleep(0.01)  # longer than a slice
        return state.value

    async def close_later(state: State[int], window: Window) -> int:
        await asyncio.sleep(0.01)
        return state.value

    def elsewhere(value: int) -> str:
        return next(key for key in "abcdef" if partition_of(key.encode(), 2) == 1)

    log = await new_log("numbers", "out", partitions=2)
    flow = Flow("hops", partitions=2)
    flow.source("numbers", topic="numbers", idle_after=NEVER_IDLE)
    windows: dict[str, Any] = {"window": Tumbling(0.01), "state": lambda: 0}
    flow.stage(add, name="first", after="numbers", on_close=close_later if waits else close, **windows)
    flow.stage(add, name="again", after="first", key=elsewhere, on_close=total, **windows)
    flow.sink("out", after="again", topic="out")
    await log.publish("numbers", 0, [OutRecord(b"a", b"1", 1), OutRecord(b"b", b"2", 100)])
    await log.publish("numbers", 1, [OutRecord(b"b", b"2", 100)])
    async with Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "out", 1)


def add(state: State[int], value: int) -> None:
    state.value += value


def total(state: State[int], window: Window) -> int:
    return state.value

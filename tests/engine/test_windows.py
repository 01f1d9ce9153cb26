"""Windows end to end: `flow.stage(fn, window=, on_close=, state=)` on a memory log."""

from __future__ import annotations

from typing import Any

import pytest

from reflow_kafka import (
    Context,
    Count,
    Event,
    Flow,
    Hopping,
    Retry,
    Session,
    Sliding,
    State,
    Tumbling,
    Window,
)
from reflow_kafka.engine.engine import Engine
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import by_key, error_of, new_log, put, records, run, until_seen


def collect(state: list[int], value: int) -> None:
    state.append(value)


def told(state: list[int], window: Window) -> dict[str, Any]:
    return {"start": window.start, "end": window.end, "key": window.key, "values": state}


def flow_of(
    window: Any, handler: Any = collect, on_close: Any = told, state: Any = list, **options: Any
) -> Flow:
    flow = Flow("windows", partitions=2)
    flow.source("numbers", topic="numbers")
    flow.stage(
        handler,
        name="seen",
        after="numbers",
        key=None,
        state=state,
        window=window,
        on_close=on_close,
        **options,
    )
    flow.sink("out", after="seen", topic="out")
    flow.sink("late", after="seen.late", topic="late")
    return flow


async def new_numbers(*events: tuple[str, int, int], partitions: int = 1) -> MemoryLog:
    log = await new_log("numbers", "out", "late", partitions=partitions)
    await numbers(log, *events)
    return log


async def numbers(log: MemoryLog, *events: tuple[str, int, int]) -> None:
    """Events as (key, value, timestamp)."""
    for key, value, timestamp in events:
        await put(log, "numbers", (key, value), timestamp=timestamp)


def window(start: int, end: int, key: str, *values: int) -> dict[str, Any]:
    return {"start": start, "end": end, "key": key, "values": list(values)}


async def test_windows_close_by_the_watermark_and_at_the_end_of_the_run() -> None:
    log = await new_numbers(
        ("a", 1, 1_000), ("a", 2, 1_999), ("b", 3, 2_000), ("a", 4, 1_500), ("a", 5, 7_000)
    )
    engine = await run(log, flow_of(Tumbling(1)))
    assert engine.statistics().flows["windows"].stages["seen"].late == 1
    assert await by_key(log, "out") == {
        "a": [window(1_000, 2_000, "a", 1, 2), window(7_000, 8_000, "a", 5)],
        "b": [window(2_000, 3_000, "b", 3)],
    }
    assert await by_key(log, "late") == {"a": [4]}
    assert [r.timestamp for r in await records(log, "out")] == [1_999, 2_999, 7_999]


@pytest.mark.parametrize("waits", [False, True])
async def test_late_events_are_counted_whether_or_not_anything_follows_them(waits: bool) -> None:
    async def collect_later(state: list[int], value: int) -> None:
        state.append(value)

    flow = Flow("windows", partitions=1)
    flow.source("numbers", topic="numbers")
    handler = collect_later if waits else collect
    flow.stage(handler, name="seen", after="numbers", state=list, window=Tumbling(1), on_close=told)
    flow.sink("out", after="seen", topic="out")
    log = await new_numbers(("a", 1, 1_000), ("a", 2, 9_000), ("a", 3, 1_000), ("b", 4, 7_999))
    engine = await run(log, flow)
    assert engine.statistics().flows["windows"].stages["seen"].late == 2


async def test_a_window_is_told_of_without_an_end_and_goes_on_after_a_restart() -> None:
    log, state = await new_numbers(("a", 1, 1_000), ("a", 2, 1_100)), MemoryBackend()
    flow = flow_of(Tumbling(1), handler=lambda state, value: state.append(value) or {"n": len(state)})
    async with Engine(flow, log=log, state=state):
        await until_seen(log, "out", 2)
    await numbers(log, ("a", 3, 1_200), ("a", 4, 2_000))
    async with Engine(flow, log=log, state=state):
        await until_seen(log, "out", 5)
    assert await by_key(log, "out") == {
        "a": [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 1}, window(1_000, 2_000, "a", 1, 2, 3)]
    }


async def test_code_gets_its_context_and_boxes_and_waits_and_names_outputs() -> None:
    async def add(total: State[int], event: Event[int], ctx: Context) -> Any:
        total.value += event.value
        if event.value < 0:
            ctx.clear_state()

    async def close(total: State[int], window: Window, *, ctx: Context) -> Any:
        yield Event(total.value, to="big" if total.value > 9 else None)
        yield {"key": ctx.key, "time": ctx.timestamp, "same": ctx.key == window.key}

    flow = flow_of(Hopping(2, 1), handler=add, on_close=close, state=int, outputs=["big"])
    flow.sink("big", after="seen.big", topic="late")
    log = await new_numbers(("a", 3, 1_000), ("a", 9, 2_500), ("b", 5, 2_500), ("b", -1, 2_501))
    await run(log, flow)
    assert await by_key(log, "out") == {
        "a": [
            3,
            {"key": "a", "time": 1_999, "same": True},
            {"key": "a", "time": 2_999, "same": True},
            9,
            {"key": "a", "time": 3_999, "same": True},
        ]
    }
    assert await by_key(log, "late") == {"a": [12]}


async def test_the_wall_clock_closes_windows_when_no_more_events_come() -> None:
    flow = flow_of(Tumbling(1), close_on="wall-clock")
    log = await new_numbers(("a", 1, 1_000))
    async with Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "late", 1)
        assert await by_key(log, "out") == {}


async def test_sessions_meet() -> None:
    log = await new_numbers(
        ("a", 1, 9_000), ("a", 2, 7_500), ("a", 3, 8_200), ("b", 4, 9_000), ("a", 5, 15_000)
    )
    await run(log, flow_of(Session(1, grace=5, merge=lambda older, younger: older + younger)))
    assert await by_key(log, "out") == {
        "a": [window(7_500, 9_000, "a", 2, 1, 3), window(15_000, 15_000, "a", 5)],
        "b": [window(9_000, 9_000, "b", 4)],
    }


async def test_windows_slide() -> None:
    def collect(state: list[int], event: Event[int]) -> None:
        state.append(event.value)

    log = await new_numbers(("a", 1, 9_000), ("a", 2, 9_600), ("a", 3, 8_500))
    await run(log, flow_of(Sliding(1, grace=5), handler=collect))
    assert await by_key(log, "out") == {
        "a": [
            window(7_500, 8_500, "a", 3),
            window(8_000, 9_000, "a", 1, 3),
            window(8_501, 9_501, "a", 1),
            window(8_600, 9_600, "a", 1, 2),
            window(9_001, 10_001, "a", 2),
        ]
    }


async def test_windows_of_so_many_events() -> None:
    log = await new_numbers(*(("ab"[n % 2], n, 1_000 - n) for n in range(5)))
    await run(log, flow_of(Count(2)))
    assert await by_key(log, "out") == {
        "a": [window(998, 1_000, "a", 0, 2), window(996, 996, "a", 4)],
        "b": [window(997, 999, "b", 1, 3)],
    }


@pytest.mark.parametrize(
    "kind", [Tumbling(1), Hopping(1, 0.5), Session(1, merge=list.extend), Count(7), Sliding(0.05)]
)
async def test_closing_leaves_nothing_in_the_store(kind: Any) -> None:
    log = await new_numbers(*(("abc"[n % 3], n, 1_000 + 10 * n) for n in range(300)))
    await run(log, flow_of(kind))
    left: dict[bytes | None, bytes | None] = {}
    for record in await records(log, "windows.seen.changelog"):
        left[record.key] = record.value
    assert len(left) >= 3
    assert set(left.values()) == {None}


@pytest.mark.parametrize("takes_context", [False, True])
async def test_a_failing_event_leaves_its_window_as_it_was(takes_context: bool) -> None:
    """Whether the state is at hand, which takes a short way, or not."""
    failures: list[int] = []

    def fold(state: list[int], value: int) -> dict[str, int]:
        state.append(-value)  # half of the change
        if value == 3 or (value == 2 and failures.count(2) < 2):
            failures.append(value)
            raise OSError("away")
        state[-1] = value
        return {"last": value}

    def fold_with_context(state: list[int], value: int, ctx: Context) -> dict[str, int]:
        return fold(state, value)

    handler = fold_with_context if takes_context else fold
    events = [("a", 1, 0), ("a", 2, 1), ("b", 7, 1), ("a", 3, 2), ("a", 4, 3), ("a", 5, 4), ("b", 8, 5)]
    log = await new_numbers(*events)
    flow = flow_of(Tumbling(1), handler=handler, retry=Retry(attempts=3, backoff=0.01, jitter=0))
    await run(log, flow)
    found = await by_key(log, "out")
    assert [e for e in found["a"] if "last" in e] == [{"last": n} for n in (1, 2, 4, 5)]
    assert found["a"][-1] == window(0, 1_000, "a", 1, 2, 4, 5)
    assert found["b"][-1] == window(0, 1_000, "b", 7, 8)
    assert sorted(failures) == [2, 2, 3, 3, 3]
    (letter,) = await records(log, "windows.dead-letters")
    assert letter.value == b"3"


async def test_a_state_that_cannot_be_encoded_fails_its_event_alone() -> None:
    def fold(state: list[Any], value: int) -> None:
        state.append(object() if value == 2 else value)

    log = await new_numbers(("a", 1, 0), ("a", 2, 1), ("a", 3, 2))
    await run(log, flow_of(Tumbling(1), handler=fold))
    assert await by_key(log, "out") == {"a": [window(0, 1_000, "a", 1, 3)]}
    (letter,) = await records(log, "windows.dead-letters")
    assert letter.value == b"2"


async def test_a_cleared_window_is_not_told_of() -> None:
    def fold(state: State[int], value: int) -> None:
        state.value += value
        if value == 0:
            state.clear()

    def total(state: State[int], window: Window) -> dict[str, Any]:
        return {"start": window.start, "total": state.value}

    log = await new_numbers(("a", 1, 0), ("a", 0, 1), ("b", 1, 2), ("b", 0, 3), ("b", 5, 4))
    await run(log, flow_of(Tumbling(1), handler=fold, on_close=total, state=int))
    assert await by_key(log, "out") == {"b": [{"start": 0, "total": 5}]}


@pytest.mark.parametrize(
    "kind", [Tumbling(1), Hopping(1, 0.5), Sliding(1), Session(1, merge=max), Count(2)], ids=repr
)
@pytest.mark.parametrize("direct", [True, False])
async def test_an_event_at_the_end_of_time_is_refused_and_does_not_bring_it(kind: Any, direct: bool) -> None:
    flow = Flow("windows", partitions=1)
    source = flow.source("numbers", topic="numbers")
    if not direct:
        flow.sink("others", after=source, topic="out")
    flow.stage(collect, name="seen", after=source, key=None, state=list, window=kind, on_close=told)
    flow.sink("late", after="seen.late", topic="late")
    log = await new_numbers(("a", 1, 0), ("a", 2, 2**63 - 1), ("a", 3, 100))
    await run(log, flow)
    (letter,) = await records(log, "windows.dead-letters")
    assert letter.value == b"2"
    assert "found a time of 63 bits" in error_of(letter, "message")
    assert await records(log, "late") == []

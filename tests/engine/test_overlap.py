"""Stages with many events in progress, on the memory log: order, commits, restarts, state, time-outs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from reflow_kafka import Context, Event, Flow, Retry, State
from reflow_kafka.engine.engine import Engine
from reflow_kafka.lane.inflight import ELSEWHERE, Mark
from reflow_kafka.log.api import Commit, CommittedPosition, TopicPartition
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import (
    DEADLINE,
    by_key,
    error_of,
    new_log,
    others,
    put,
    records,
    run,
    until_seen,
    values,
)
from tests.engine.service import Service, committed, finished, mark
from tests.support.waiting import until


def asking(service: Service, *, state: bool = False, **options: Any) -> Flow:
    """Asks the service about each number; with state it also counts the events of each key."""
    flow = Flow("f", partitions=1)
    read = flow.source("read", topic="in")
    options = {"concurrency": 10} | options

    if state:

        @flow.stage(after=read, name="ask", state=lambda: 0, **options)
        async def ask(seen: State[int], event: Event[dict[str, int]]) -> dict[str, int]:
            seen.value += 1_000
            await service.ask(event.value["n"], event.key)
            seen.value -= 999
            return {**event.value, "seen": seen.value}
    else:

        @flow.stage(after=read, name="ask", **options)
        async def ask_only(event: Event[dict[str, int]]) -> dict[str, int]:
            await service.ask(event.value["n"], event.key)
            return event.value

    flow.sink("out", after="ask", topic="out")
    return flow


def spread(count: int, keys: int) -> list[tuple[str, dict[str, int]]]:
    return [(f"k{n % keys}", {"n": n}) for n in range(count)]


def ns(found: Sequence[Any]) -> list[int]:
    return [value["n"] for value in found]


async def until_committed(log: MemoryLog, flow: Flow, disk: MemoryBackend, count: int) -> None:
    """Run until so many events have come out, and abandon the engine."""
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=disk) as engine:
        await until_seen(log, "out", count)
        engine.abort()
    assert not others()


@pytest.mark.parametrize("state", [False, True])
async def test_keys_overlap_and_each_key_keeps_its_order(state: bool) -> None:
    log, service = await new_log("in", partitions=1), Service()
    await put(log, "in", *spread(400, 13))
    await run(log, asking(service, state=state))
    found = await by_key(log, "out")
    assert {key: ns(values) for key, values in found.items()} == {
        f"k{k}": list(range(k, 400, 13)) for k in range(13)
    }
    if state:
        assert all([v["seen"] for v in vs] == list(range(1, len(vs) + 1)) for vs in found.values())
    assert service.most == 10
    assert set(service.calls.values()) == {1}


async def test_events_without_key_wait_for_nobody() -> None:
    log, service = await new_log("in", partitions=1), Service()
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), concurrency=4)
    async def ask(value: dict[str, int]) -> dict[str, int]:
        await service.ask(value["n"], str(value["n"]))
        return value

    flow.sink("out", after=ask, topic="out")
    await put(log, "in", *((None, {"n": n}) for n in range(20)))
    await run(log, flow)
    assert sorted(ns(await values(log, "out"))) == list(range(20))
    assert service.most == 4


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("keep", [True, False])
async def test_fast_events_are_committed_before_slow_ones_and_never_run_again(
    state: bool, keep: bool
) -> None:
    log, disk, service = await new_log("in", partitions=1), MemoryBackend(keep=keep), Service({0, 5})
    await put(log, "in", *spread(20, 20))
    await until_committed(log, asking(service, state=state), disk, 18)
    assert await mark(log, "in") == Mark(0, ((1, 5), (6, 20)))
    assert service.cancelled == {0: 1, 5: 1}
    service.free()
    await run(log, asking(service, state=state), state=disk)
    assert sorted(ns(await values(log, "out"))) == list(range(20))
    assert service.calls == {n: 2 if n in (0, 5) else 1 for n in range(20)}
    assert await mark(log, "in") == Mark(20)


@pytest.mark.parametrize("seed", range(8))
async def test_after_a_crash_exactly_what_was_not_committed_runs_again(seed: int) -> None:
    """Several engines are abandoned, one after the other, with other events held back each time."""
    chance, count = random.Random(seed), 120
    log, disk, service = await new_log("in", partitions=1), MemoryBackend(), Service()
    events = [(f"k{chance.randrange(40)}", {"n": n}) for n in range(count)]
    await put(log, "in", *events)
    done: set[int] = set()
    for _ in range(4):
        service.held = {n for n in range(count) if chance.random() < 0.1} - done
        blocked = {key for key, value in events if value["n"] in service.held}
        # What comes before the first held event of its key can finish, and at most so much does.
        free, seen = set(done), set()
        for key, value in events:
            seen |= {key} if value["n"] in service.held else set()
            free |= {value["n"]} if key not in seen else set()
        assert len(blocked) <= 30, "all places may be taken"
        before = service.calls.copy()
        await until_committed(log, asking(service, state=True, concurrency=50), disk, len(free))
        now = finished(await mark(log, "in"), count)
        assert now == free
        assert not [n for n in done if service.calls[n] != before[n]], "run again although committed"
        done = now
    service.free()
    await run(log, asking(service, state=True), state=disk)
    for key, found in (await by_key(log, "out")).items():
        assert found == [
            {"n": n, "seen": place} for place, n in enumerate(ns([v for k, v in events if k == key]), 1)
        ]
    assert sorted(ns(await values(log, "out"))) == list(range(count))


async def test_what_finishes_later_is_committed_later() -> None:
    log, service = await new_log("in", partitions=1), Service({3})
    await put(log, "in", *spread(6, 6))
    async with asyncio.timeout(DEADLINE), Engine(asking(service), log=log, state=MemoryBackend()):
        await until_seen(log, "out", 5)
        service.free()
        await until_seen(log, "out", 6)
        await put(log, "in", ("k1", {"n": 7}))
        await until_seen(log, "out", 7)
    assert ns(await values(log, "out")) == [0, 1, 2, 4, 5, 3, 7]
    assert await mark(log, "in") == Mark(7)


async def test_a_slow_key_holds_up_only_itself() -> None:
    log, service = await new_log("in", partitions=1), Service({0})
    await put(log, "in", *((("hot" if n % 2 == 0 else f"k{n}"), {"n": n}) for n in range(200)))
    async with asyncio.timeout(DEADLINE), Engine(asking(service), log=log, state=MemoryBackend()):
        await until_seen(log, "out", 100)
        assert service.busy == {"hot": 0}
        service.free()
        await until_seen(log, "out", 200)
    found = await by_key(log, "out")
    assert ns(found["hot"]) == list(range(0, 200, 2))


@pytest.mark.parametrize("keep", [True, False])
async def test_a_commit_sees_nothing_of_a_handler_that_waits(keep: bool) -> None:
    log, disk, service = await new_log("in", partitions=1), MemoryBackend(keep=keep), Service({2})
    await put(log, "in", ("a", {"n": 0}), ("a", {"n": 1}), ("a", {"n": 2}), ("b", {"n": 3}))
    async with asyncio.timeout(DEADLINE), Engine(asking(service, state=True), log=log, state=disk) as engine:
        await until(lambda: service.busy == {"a": 2}, "the third event is half done")
        await put(log, "in", ("b", {"n": 4}), ("c", {"n": 5}))
        await until_seen(log, "out", 5)
        engine.abort()
    state = {r.key: r.value for r in await records(log, "f.ask.changelog")}
    assert state == {b"a": b"2", b"b": b"2", b"c": b"1"}
    service.free()
    await run(log, asking(service, state=True), state=disk)
    assert [v["seen"] for v in (await by_key(log, "out"))["a"]] == [1, 2, 3]


async def test_a_stage_can_be_stopped_while_events_are_in_progress() -> None:
    log, service = await new_log("in", partitions=1), Service({4})
    await put(log, "in", *spread(10, 10))
    async with asyncio.timeout(DEADLINE), Engine(asking(service), log=log, state=MemoryBackend()) as engine:
        await until(lambda: len(service.calls) == 10 and len(service.busy) == 1, "one is left")
        engine.stop()
        await asyncio.sleep(0.01)
        service.free()
    assert sorted(ns(await values(log, "out"))) == list(range(10))
    assert service.calls[4] == 1
    assert not others()


async def test_the_next_stage_gets_each_key_in_order() -> None:
    log, service = await new_log("in", partitions=2), Service()
    flow = Flow("f", partitions=2)

    @flow.stage(after=flow.source("read", topic="in"), concurrency=7)
    async def ask(event: Event[dict[str, int]]) -> AsyncIterator[dict[str, int]]:
        await service.ask(event.value["n"], event.key)
        for part in range(event.value["n"] % 3):
            yield {**event.value, "part": part}

    @flow.stage(after=ask, key=lambda v: v["n"] % 3, state=list, concurrency=5)
    async def gather(seen: list[int], value: dict[str, int], ctx: Context) -> dict[str, Any]:
        await asyncio.sleep(0)
        seen.append(value["n"])
        return {"key": ctx.key, "seen": list(seen)}

    flow.sink("out", after=gather, topic="out")
    await put(log, "in", *spread(90, 9))
    await run(log, flow)
    last = {key: found[-1]["seen"] for key, found in (await by_key(log, "out")).items()}
    assert sorted(map(int, last)) == [0, 1, 2][1:]
    for key, seen in last.items():
        for of_one in range(int(key), 9, 3):  # the input keys that come together here
            assert [n for n in seen if n % 9 == of_one] == [
                n for n in range(of_one, 90, 9) for _ in range(n % 3)
            ]


async def test_at_least_once_loses_nothing_and_keeps_order() -> None:
    log, service = await new_log("in", partitions=1), Service()
    await put(log, "in", *spread(300, 30))
    await run(log, asking(service), guarantee="at-least-once")
    assert all(ns(found) == sorted(ns(found)) for found in (await by_key(log, "out")).values())
    assert sorted(ns(await values(log, "out"))) == list(range(300))


# ---- positions


async def test_runs_too_long_for_the_metadata_stand_in_the_lane_record() -> None:
    count = 5_000
    log, disk = await new_log("in", partitions=1), MemoryBackend()
    service = Service(range(0, count, 2))
    await put(log, "in", *spread(count, count))
    await until_committed(log, asking(service, concurrency=count), disk, count // 2)
    assert await committed(log, "in") == CommittedPosition(0, ELSEWHERE)
    assert await mark(log, "in") == Mark(0, tuple((n, n + 1) for n in range(1, count, 2)))
    service.free()
    await run(log, asking(service, concurrency=count), state=disk)
    assert sorted(ns(await values(log, "out"))) == list(range(count))
    assert service.calls == {n: 1 if n % 2 else 2 for n in range(count)}


@pytest.mark.parametrize(
    ("at", "metadata", "warning", "again"),
    [
        (0, "", "somebody else committed it", range(8)),
        (0, "moved by hand", "somebody else committed it", range(8)),
        (0, "reflow/1:AB", "somebody else committed it", range(8)),
        (4, "", "somebody moved it", range(4, 8)),
        (4, "reflow/1:AQE", "somebody moved it", range(4, 8)),
    ],
)
async def test_who_moves_positions_by_hand_has_the_last_word(
    at: int, metadata: str, warning: str, again: range, caplog: pytest.LogCaptureFixture
) -> None:
    """The events from there on are processed, whatever of them was finished."""
    log, disk, service = await new_log("in", partitions=1), MemoryBackend(), Service({0})
    await put(log, "in", *spread(8, 8))
    await until_committed(log, asking(service), disk, 7)
    writer = await log.take_over("f", 0)
    await writer.commit(Commit({}, {TopicPartition("in", 0): CommittedPosition(at, metadata)}))
    await writer.close()
    service.free()
    before = service.calls.copy()
    await run(log, asking(service), state=disk)
    assert set((service.calls - before).elements()) == set(again)
    assert warning in caplog.text


async def test_what_was_finished_stays_so_when_the_log_forgets_what_was_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Retention has deleted the event that waited, but not all of those after it."""
    log, disk, service = await new_log("in", partitions=1), MemoryBackend(), Service({0, 5})
    await put(log, "in", *spread(20, 20))
    await until_committed(log, asking(service), disk, 18)
    await log.trim({TopicPartition("in", 0): 3})
    service.free()
    await run(log, asking(service), state=disk)
    assert "going on at 3" in caplog.text
    assert service.calls == {n: 2 if n == 5 else 1 for n in range(20)}
    assert await mark(log, "in") == Mark(20)


# ---- time-outs


@pytest.mark.parametrize("concurrency", [1, 10])
@pytest.mark.parametrize("state", [False, True])
async def test_what_takes_too_long_is_cancelled_and_has_failed(concurrency: int, state: bool) -> None:
    log, service = await new_log("in", partitions=1), Service({2})
    await put(log, "in", *spread(9, 3))
    flow = asking(service, state=state, concurrency=concurrency, timeout=0.05, retry=Retry(2, backoff=0))
    await run(log, flow)
    (letter,) = await records(log, "f.dead-letters")
    assert letter.value == b'{"n":2}'
    assert error_of(letter, "type").endswith("TimedOut")
    assert error_of(letter, "attempts") == "2"
    assert "0.05 s" in error_of(letter, "message")
    assert service.calls[2] == service.cancelled[2] == 2
    found = await by_key(log, "out")
    assert {key: ns(values) for key, values in found.items()} == {
        "k0": [0, 3, 6],
        "k1": [1, 4, 7],
        "k2": [5, 8],
    }
    if state:
        assert [v["seen"] for v in found["k2"]] == [1, 2]


async def test_a_handler_may_take_its_time_to_be_cancelled_but_not_refuse_it() -> None:
    """What it returns afterwards is not used; the time-out of another call inside it is its own affair."""
    log, story = await new_log("in", partitions=1), []
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), concurrency=5, timeout=0.05, retry=Retry(1))
    async def stubborn(value: dict[str, int]) -> dict[str, int]:
        if value["n"] == 1:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                story.append("cleaned up")
        if value["n"] == 2:
            raise TimeoutError("the service's own")
        return value

    flow.sink("out", after=stubborn, topic="out")
    await put(log, "in", *spread(4, 4))
    await run(log, flow)
    assert ns(await values(log, "out")) == [0, 3]
    letters = {r.value: error_of(r, "type") for r in await records(log, "f.dead-letters")}
    assert letters == {b'{"n":1}': "reflow_kafka.lane.calls.TimedOut", b'{"n":2}': "TimeoutError"}
    assert story == ["cleaned up"]

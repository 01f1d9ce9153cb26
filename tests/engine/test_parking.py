"""Events that wait long leave memory for the lane's store: nothing lost, order kept, nobody held up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reflow_kafka import Batch, Context, Event, Flow, Reject, Retry, State
from reflow_kafka.engine.engine import Engine
from reflow_kafka.errors import FlowStopped
from reflow_kafka.lane import backlog, overlap, parking, serial, session
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.lane.parking import Parking
from reflow_kafka.log.api import OutRecord, TopicPartition
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import (
    DEADLINE,
    by_key,
    new_log,
    others,
    put,
    records,
    run,
    until_seen,
    values,
)
from tests.engine.service import Service, mark
from tests.support.waiting import until

INPUT = TopicPartition("in", 0)
LIMIT = 20
"""Events that may be in line in memory."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "MIN_IN_HAND", LIMIT)
    monkeypatch.setattr(serial, "MAX_HELD", LIMIT)


def counting(service: Service, shape: str = "overlapping") -> Flow:
    """Counts the events of each key; those that are held back wait (or, without concurrency, fail)."""
    flow = Flow("f", partitions=1)
    read = flow.source("read", topic="in")
    retry = Retry(None, backoff=0.005, max_backoff=0.005)

    async def wait(seen: State[int], event: Event[dict[str, int]]) -> dict[str, int]:
        await service.ask(event.value["n"], event.key)
        seen.value += 1
        return {**event.value, "seen": seen.value}

    def fail(seen: State[int], event: Event[dict[str, int]]) -> dict[str, int]:
        seen.value += 1
        if event.value["n"] in service.held:
            raise OSError("away")
        return {**event.value, "seen": seen.value}

    if shape == "overlapping":
        flow.stage(wait, name="count", after=read, state=lambda: 0, concurrency=5)
    elif shape == "overlapping retries":

        async def fail_later(seen: State[int], event: Event[dict[str, int]]) -> dict[str, int]:
            await asyncio.sleep(0)
            return fail(seen, event)

        flow.stage(fail_later, name="count", after=read, state=lambda: 0, concurrency=5, retry=retry)
    else:
        flow.stage(fail, name="count", after=read, state=lambda: 0, retry=retry)
    flow.sink("out", after="count", topic="out")
    return flow


SHAPES = ["overlapping", "overlapping retries", "serial"]


def events(count: int) -> list[tuple[str, dict[str, int]]]:
    """Two of three belong to one key."""
    return [(f"k{n}" if n % 3 == 0 else "hot", {"n": n}) for n in range(count)]


def counted(numbers: list[int]) -> list[dict[str, int]]:
    return [{"n": n, "seen": place} for place, n in enumerate(numbers, 1)]


async def check(log: MemoryLog, count: int) -> None:
    found = await by_key(log, "out")
    assert found.pop("hot") == counted([n for n in range(count) if n % 3])
    assert found == {f"k{n}": counted([n]) for n in range(0, count, 3)}


async def until_parked(log: MemoryLog, count: int) -> None:
    """Wait until so many events have been parked in commits."""
    while True:
        if len({r.key for r in await records(log, "f.parked.changelog")}) >= count:
            return
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_key_with_many_events_holds_up_no_other(shape: str) -> None:
    log, service = await new_log("in", partitions=1), Service({1})
    await put(log, "in", *events(600))
    async with asyncio.timeout(DEADLINE), Engine(counting(service, shape), log=log, state=MemoryBackend()):
        await until_seen(log, "out", 200)
        service.free()
        await until_seen(log, "out", 600)
    await check(log, 600)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("keep", [True, False])
async def test_parked_events_survive_crashes_in_their_places(shape: str, keep: bool) -> None:
    log, disk, service = await new_log("in", partitions=1), MemoryBackend(keep=keep), Service({1})
    for upto in (300, 450, 600):
        await put(log, "in", *events(600)[upto - (300 if upto == 300 else 150) : upto])
        async with asyncio.timeout(DEADLINE), Engine(counting(service, shape), log=log, state=disk) as engine:
            await until_seen(log, "out", upto // 3)
            # What is parked does not hold up the position.
            await until(lambda: log.positions["f"][INPUT].offset > upto - 2 * LIMIT, "most are parked")  # noqa: B023
            engine.abort()
    service.free()
    await run(log, counting(service, shape), state=disk)
    await check(log, 600)
    assert await mark(log, "in") == Mark(600)
    left = {r.key: r.value for r in await records(log, "f.parked.changelog")}
    assert not [key for key, value in left.items() if value is not None], "parked for ever"
    if shape == "overlapping":
        assert {n: calls for n, calls in service.calls.items() if calls > 1} == {1: 4}


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_more_is_parked_than_may_be(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_PARKED", 100)
    monkeypatch.setattr(session, "MAX_RECORDS", 50)  # a batch that has been read is taken in as a whole
    log, service = await new_log("in", partitions=1), Service({1})
    await put(log, "in", *events(4_000))
    async with asyncio.timeout(DEADLINE), Engine(counting(service, shape), log=log, state=MemoryBackend()):
        await until_seen(log, "out", 50)
        await asyncio.sleep(0.2)
        assert len(await values(log, "out")) < 200, "intake goes on although no more may be parked"
        service.free()
        await until_seen(log, "out", 4_000)
    await check(log, 4_000)


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_commit_holds_more_parked_events_than_it_may(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_UNSAVED", 2_000)
    monkeypatch.setattr(session, "MAX_RECORDS", 20)
    sizes, snapshot = [0], Parking.snapshot

    def note(parking: Parking) -> dict[bytes, bytes | None]:
        sizes.append(parking.unsaved)
        return snapshot(parking)

    monkeypatch.setattr(Parking, "snapshot", note)
    log, service = await new_log("in", partitions=1), Service({1})
    await put(log, "in", *events(600))
    async with asyncio.timeout(DEADLINE), Engine(counting(service, shape), log=log, state=MemoryBackend()):
        await until_seen(log, "out", 200)
        service.free()
        await until_seen(log, "out", 600)
    await check(log, 600)
    assert 1_000 < max(sizes) < 10_000


async def test_an_event_as_large_as_may_be_can_be_parked() -> None:
    log, service = await new_log("in", partitions=1), Service({0})
    large = {"n": 5, "text": "x" * 990_000}
    await put(log, "in", *[("hot", large if n == 5 else {"n": n}) for n in range(40)], ("k", {"n": 99}))
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), concurrency=5)
    async def ask(event: Event[dict[str, Any]]) -> dict[str, int]:
        await service.ask(event.value["n"], event.key)
        return {"n": event.value["n"]}

    flow.sink("out", after=ask, topic="out")
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "out", 1)
        service.free()
        await until_seen(log, "out", 41)
    assert (await by_key(log, "out"))["hot"] == [{"n": n} for n in range(40)]


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_event_that_cannot_be_parked_is_neither_lost_nor_in_the_way(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the log as it is, but would not be with all that belongs to a parked one."""
    monkeypatch.setattr(parking, "MAX_RECORD", 960)
    monkeypatch.setattr(session, "MAX_RECORDS", 10)
    log, service = await new_log("in", partitions=1, max_record_bytes=1_000), Service({0})
    disk = MemoryBackend()
    large = b'{"n": 60%s}' % (b" " * 900)
    hot: list[tuple[str, Any]] = [("hot", large if n == 60 else {"n": n}) for n in range(70)]
    rest = [(f"k{n}", {"n": n}) for n in range(70, 100)]
    await put(log, "in", *hot, *rest)
    async with asyncio.timeout(DEADLINE):
        async with Engine(counting(service, shape), log=log, state=disk) as engine:
            await until_seen(log, "out", 30)
            engine.abort()
        service.free()
        await run(log, counting(service, shape), state=disk)
    found = await by_key(log, "out")
    assert [(each["n"], each["seen"]) for each in found.pop("hot")] == [(n, n + 1) for n in range(70)]
    assert found == {f"k{n}": counted([n]) for n in range(70, 100)}
    assert not await records(log, "f.dead-letters")


async def test_a_log_that_takes_less_than_it_must_is_named_and_no_event_blamed() -> None:
    log, service = await new_log("in", partitions=1, max_record_bytes=1_000), Service({0})
    large = {"n": 5, "text": "x" * 940}
    await put(log, "in", *[("hot", large if n == 5 else {"n": n}) for n in range(40)])
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), concurrency=5)
    async def ask(event: Event[dict[str, Any]]) -> dict[str, int]:
        await service.ask(event.value["n"], event.key)
        return {"n": event.value["n"]}

    told = r"f\.parked\.changelog refuses .* event in\[0\]@5 of stage 'ask', 1,0\d\d bytes.*1048588"
    with pytest.raises(FlowStopped, match=told):
        await run(log, flow)
    assert not await records(log, "f.dead-letters")


@pytest.mark.slow
async def test_what_is_parked_is_committed_though_nothing_else_happens() -> None:
    log, service = await new_log("in", partitions=1), Service({0})
    await put(log, "in", *[("hot", {"n": n}) for n in range(40)])
    async with asyncio.timeout(DEADLINE), Engine(counting(service), log=log, state=MemoryBackend()):
        await until_parked(log, 40)
        await put(log, "in", *[("hot", {"n": n}) for n in range(40, 80)])
        await until_parked(log, 80)


@pytest.mark.parametrize("options", [{}, {"concurrency": 5}, {"batch": Batch(5, within=0)}])
async def test_parked_events_outlive_the_edge_on_which_they_came(options: dict[str, Any]) -> None:
    """The stage before is renamed, and with it the topic between them."""
    log, disk, down = await new_log("in", partitions=1), MemoryBackend(), True

    def flow(upstream: str) -> Flow:
        flow = Flow("f", partitions=1, retry=Retry(None, backoff=0.01))

        async def forward(value: dict[str, int]) -> dict[str, int]:
            return value

        async def ask(value: Any) -> Any:
            if down and any(each["n"] != 99 for each in (value if isinstance(value, list) else [value])):
                raise OSError("away")
            return value

        flow.stage(forward, name=upstream, after=flow.source("read", topic="in"))
        flow.stage(ask, name="ask", after=upstream, **options)
        flow.sink("out", after="ask", topic="out")
        return flow

    await put(log, "in", *[("hot", {"n": n}) for n in range(100)], ("a", {"n": 99}))
    async with asyncio.timeout(DEADLINE), Engine(flow("one"), log=log, state=disk) as engine:
        await until_parked(log, 90)
        engine.abort()
    down = False
    await run(log, flow("two"), state=disk)
    assert (await by_key(log, "out"))["hot"][:90] == [{"n": n} for n in range(90)]
    assert await values(log, "f.dead-letters") == []


@pytest.mark.parametrize("per_key", [False, True])
@pytest.mark.parametrize("bad", [b'{"n":1}', b"no JSON"])
async def test_what_a_batch_has_finished_is_not_parked_with_the_rest(
    per_key: bool, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It is closed already, and a restart must not find it in the store."""
    log, disk, down = await new_log("in", partitions=1), MemoryBackend(), True
    flow = Flow("f", partitions=1, retry=Retry(None, backoff=0.01))

    @flow.stage(
        after=flow.source("read", topic="in"), batch=Batch(5, within=0, per_key=per_key), concurrency=2
    )
    async def ask(given: list[dict[str, int]]) -> list[int]:
        for value in given:
            if value["n"] == 1:
                raise Reject("no good")
            if value["n"] > 2 and down:
                raise OSError("away")
        return [value["n"] for value in given]

    flow.sink("out", after=ask, topic="out")
    raw = [bad if n == 1 else b'{"n":%d}' % n for n in range(300)]
    hot = [OutRecord(b"hot", value, 0) for value in raw]
    await log.publish("in", 0, hot[:5])
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=disk) as engine:
        await until_seen(log, "f.dead-letters", 1)  # while others of its batch wait
        await log.publish("in", 0, hot[5:])
        await until_parked(log, 200)
        engine.abort()
    assert [line for line in caplog.records if line.levelname == "ERROR"] == []
    down = False
    await run(log, flow, state=disk)
    assert await values(log, "out") == [n for n in range(300) if n != 1]
    assert [letter.value for letter in await records(log, "f.dead-letters")] == [bad]


async def test_a_parked_event_comes_back_as_it_was() -> None:
    log, service, seen = await new_log("in", partitions=1), Service({0}), []
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), concurrency=2)
    async def note(event: Event[Any], ctx: Context) -> None:
        if event.key == "hot":
            await service.ask(len(seen), event.key)
            seen.append((event.value, event.timestamp, dict(event.headers), event.id, ctx.id))

    headers: list[tuple[str, bytes | None]] = [("a", b"\xff\x00")]
    parts = [None if n % 7 == 0 else b'{"n":%d}' % n for n in range(100)]
    await log.publish("in", 0, [OutRecord(b"hot", value, n, headers) for n, value in enumerate(parts)])
    await log.publish("in", 0, [OutRecord(b"last", b"{}", 1)])
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()) as engine:
        await until(
            lambda: engine.statistics().flows["f"].stages["note"].events == 1, "the other key is done"
        )
        service.free()
        await until(lambda: engine.statistics().flows["f"].stages["note"].events == 101, "all are")
    assert seen == [
        (None if n % 7 == 0 else {"n": n}, n, {"a": b"\xff\x00"}, f"in/0/{n}", f"in/0/{n}")
        for n in range(100)
    ]
    assert not others()
    assert await values(log, "f.dead-letters") == []


async def test_a_stop_with_parked_events_is_clean() -> None:
    log, disk, service = await new_log("in", partitions=1), MemoryBackend(), Service({1})
    await put(log, "in", *events(300))
    async with asyncio.timeout(DEADLINE), Engine(counting(service, "serial"), log=log, state=disk):
        await until_seen(log, "out", 100)
    service.free()
    await run(log, counting(service, "serial"), state=disk)
    await check(log, 300)

"""What timed stages have stored, changed by somebody: an error or dead letters that name the stage."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka import (
    Context,
    Count,
    Flow,
    Hopping,
    KeyValue,
    Retry,
    Session,
    Sliding,
    Timer,
    Tumbling,
    Window,
    aggregations,
)
from reflow_kafka.errors import DataLoss, ReflowError
from reflow_kafka.lane.record import RECORD_KEY
from reflow_kafka.log.api import OutRecord, TopicPartition
from reflow_kafka.log.memory import MemoryLog
from tests.engine.memory import error_of, new_log, put, records, run
from tests.fuzz.effort import examples

INPUTS = ("in", "left", "right")
Row = dict[str, Any]

# ---- flows, each with a stage that remembers


def begun() -> tuple[Flow, Any]:
    flow = Flow("timed", partitions=1, dead_letter_limit=1.0, retry=Retry(1))
    return flow, flow.source("read", topic="in", timestamp="t", out_of_orderness=5)


def ended(flow: Flow, stage: Any) -> Flow:
    flow.sink("out", after=stage, topic="out")
    return flow


def windows(kind: Any, **options: Any) -> Flow:
    flow, source = begun()

    def count(state: Row, value: Row) -> None:
        state["n"] = state.get("n", 0) + 1

    def tell(state: Row, window: Window) -> Row:
        return {"key": window.key, **state}

    return ended(flow, flow.stage(count, after=source, state=dict, window=kind, on_close=tell, **options))


def merged(older: Row, younger: Row) -> Row:
    return {"n": older["n"] + younger["n"]}


def aggregates() -> Flow:
    flow, source = begun()
    of = {"n": aggregations.Count(), "mean": aggregations.Mean(of="n")}
    return ended(flow, flow.aggregate("of", after=source, of=of, window=Tumbling(10), emit="update"))


def timers() -> Flow:
    flow, source = begun()

    def set_(state: Row, value: Row, ctx: Context) -> None:
        state["n"] = state.get("n", 0) + 1
        ctx.timer("event", clock="event-time", delay=30)
        ctx.timer("wall", clock="wall-clock", delay=60)
        ctx.store("rows").put(str(value["n"]), value["n"])

    def fire(state: Row, timer: Timer) -> Row:
        return {"timer": timer.name}

    stage = flow.stage(
        set_, after=source, state=dict, ttl=100, on_timer=fire, stores={"rows": KeyValue(int, ttl=50)}
    )
    return ended(flow, stage)


def dedupe() -> Flow:
    flow, source = begun()
    return ended(flow, flow.dedupe("once", after=source, by="n", within=3600))


def joined(first: str, second: str, **options: Any) -> Flow:
    flow, source = begun()
    sides = [
        source if at == "in" else flow.table(f"rows_{at}", topic=at, timestamp="t") for at in (first, second)
    ]

    def join(left: Row | None, right: Row | None) -> Row:
        return {"left": left and left["n"], "right": right and right["n"]}

    return ended(flow, flow.join(*sides, **options)(join))


def streams() -> Flow:
    flow, source = begun()

    def join(left: Row, right: Row | None) -> Row:
        return {"left": left["n"], "right": right and right["n"]}

    other = flow.source("other", topic="right", timestamp="t")
    return ended(flow, flow.join(source, other, how="left", within=20)(join))


def gathered() -> Flow:
    flow, source = begun()

    @flow.gather(after=source, expect=3, within=60)
    def gather(parts: list[Row]) -> Row:
        return {"n": [part["n"] for part in parts]}

    return ended(flow, gather)


def zipped() -> Flow:
    flow, source = begun()

    @flow.zip(after=[source, flow.source("other", topic="right", timestamp="t")], limit=100)
    def pair(left: Row, right: Row) -> Row:
        return {"n": [left["n"], right["n"]]}

    return ended(flow, pair)


FLOWS: dict[str, Callable[[], Flow]] = {
    "tumbling": partial(windows, Tumbling(10)),
    "hopping": partial(windows, Hopping(20, 10)),
    "sliding": partial(windows, Sliding(10)),
    "sessions": partial(windows, Session(5, merge=merged)),
    "counted": partial(windows, Count(3)),
    "aggregates": aggregates,
    "timers": timers,
    "dedupe": dedupe,
    "streams": streams,
    "stream-table": partial(joined, "in", "right", how="left"),
    "table-table": partial(joined, "left", "right", how="outer"),
    "foreign-key": partial(joined, "left", "right", how="left", on="other"),
    "gather": gathered,
    "zip": zipped,
}

# ---- what they have stored


async def events(log: MemoryLog, start: int, numbers: list[int]) -> None:
    """Some for each input, two seconds apart."""
    for place, topic in enumerate(INPUTS):
        for at, n in enumerate(numbers[place:]):
            time = (1_700_000_000 + start + 2 * at) * 1000
            await put(log, topic, ("ab"[n % 2], {"n": n, "other": "ba"[n % 3 // 2], "t": time}))


async def lane_record(log: MemoryLog) -> Row:
    (*_, last) = [r for r in await records(log, "timed.progress") if r.key == RECORD_KEY]
    found: Row = orjson.loads(last.value or b"")
    return found


async def stored(log: MemoryLog) -> dict[tuple[str, bytes], bytes]:
    """All that the changelogs have ever held, of each key the latest: about what there was at some moment."""
    return {
        (topic, r.key): r.value
        for topic in sorted((await lane_record(log))["changelogs"])
        for r in await records(log, topic)
        if r.key is not None and r.value is not None
    }


async def store(log: MemoryLog, rows: list[tuple[str, bytes, bytes | None]]) -> None:
    """Put rows into changelogs, and let the lane record agree."""
    for topic, key, value in rows:
        await log.publish(topic, 0, [OutRecord(key, value, 0)])
    record = await lane_record(log)
    end = await log.end_offsets([TopicPartition(topic, 0) for topic in record["changelogs"]])
    record["changelogs"] = {tp.topic: offset for tp, offset in end.items()}
    await log.publish("timed.progress", 0, [OutRecord(RECORD_KEY, orjson.dumps(record), 0)])


async def run_on(log: MemoryLog, flow: Flow, stage: str) -> str:
    """What a run tells of it; nothing but an error at once, with the stage's name, may end it."""
    told = ""
    try:
        await run(log, flow)
    except* ReflowError as errors:
        (error,) = errors.exceptions
        assert isinstance(error, DataLoss), repr(error)
        told = str(error)
        assert f"stage {stage!r}" in told
    for letter in await records(log, "timed.dead-letters"):
        assert error_of(letter, "stage") == stage
        assert error_of(letter, "message")
    return told


def stage_of(topic: str) -> str:
    return topic.removeprefix("timed.").removesuffix(".changelog")


@pytest.mark.parametrize("name", FLOWS)
@examples(2)
@given(
    numbers=st.lists(st.integers(0, 5), min_size=6, max_size=12),
    again=st.booleans(),
    which=st.integers(0, 99),
    random=st.randoms(use_true_random=False),
    what=st.sampled_from(["gone", "back", "key", "value", "both"]),
)
def test_stored_rows(
    name: str,
    numbers: list[int],
    again: bool,
    which: int,
    random: Random,
    what: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`again`: all rows come back that were there once, as if time had stopped before their end."""

    async def main() -> None:
        log = await new_log(*INPUTS, "out", partitions=1)
        await events(log, 0, numbers)
        await run(log, FLOWS[name]())
        sound = await stored(log)
        if not sound:
            return  # all was gone before anything was committed
        (topic, key), value = sorted(sound.items())[which % len(sound)]
        rows: list[tuple[str, bytes, bytes | None]] = [(*at, raw) for at, raw in sound.items() if again]
        other = damaged(key, random) if what in ("key", "both") else key
        raw = damaged(value, random) if what in ("value", "both") else value
        await store(log, [*rows, (topic, other, None if what == "gone" else raw)])
        await events(log, 60, numbers)
        await run_on(log, FLOWS[name](), stage_of(topic))

    caplog.clear()
    asyncio.run(main())
    assert not [record for record in caplog.records if record.exc_info]


def damaged(sound: bytes, random: Random) -> bytes:
    """Bytes with some of them replaced, cut out or put in."""
    raw = bytearray(sound)
    for _ in range(random.randint(1, 2)):
        at = random.randint(0, len(raw))
        raw[at : at + random.randint(0, 3)] = random.randbytes(random.randint(0, 3))
    return bytes(raw)


# ---- what was found


def test_a_window_at_no_time_is_told_at_once() -> None:
    """What cannot be read is asked for between events, where there is nothing to be given up."""

    async def main() -> None:
        log = await new_log(*INPUTS, "out", partitions=1)
        await events(log, 0, [1, 2, 3])
        await run(log, FLOWS["tumbling"]())
        await store(log, [("timed.count.changelog", b"w\x80\x00", b"{}")])
        told = await run_on(log, FLOWS["tumbling"](), "count")
        assert "lane 0" in told
        assert "timed.count.changelog" in told

    asyncio.run(main())


def test_a_queue_that_cannot_be_read_is_told_at_once() -> None:
    """It is asked for before an event is taken."""

    async def main() -> None:
        log = await new_log(*INPUTS, "out", partitions=1)
        await put(log, "in", ("a", {"n": 1, "t": 1_700_000_000_000}))
        await run(log, FLOWS["zip"]())
        await store(log, [("timed.pair.changelog", b"qha\x00\x00", b"\x95\x00")])
        await put(log, "right", ("a", {"n": 1, "t": 1_700_000_000_000}))
        assert "store 'pair'" in await run_on(log, FLOWS["zip"](), "pair")

    asyncio.run(main())


@pytest.mark.parametrize("error", [IndexError, struct.error, AssertionError])
def test_what_code_raises_is_its_own(error: type[Exception]) -> None:
    """Not taken for something that cannot be read."""
    flow, source = begun()

    def tell(state: Row, window: Window) -> None:
        raise error("mine")

    def count(state: Row, value: Row) -> None:
        state["n"] = 1

    flow.stage(count, after=source, state=dict, window=Tumbling(10), on_close=tell)

    async def main() -> None:
        log = await new_log(*INPUTS, partitions=1)
        await put(log, "in", ("a", {"n": 1, "t": 1_700_000_000_000}))
        await run(log, flow)
        (letter,) = await records(log, "timed.dead-letters")
        assert error_of(letter, "message") == "mine"

    asyncio.run(main())

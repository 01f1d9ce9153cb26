"""What stands in stores and changelogs, changed by somebody: an error that names it, no other value."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reflow_kafka import Event, Flow, Retry, State
from reflow_kafka.errors import DataLoss, ReflowError
from reflow_kafka.lane.line import Item, Stay
from reflow_kafka.lane.parking import ParkedRecord, Parking
from reflow_kafka.lane.record import RECORD_KEY
from reflow_kafka.log.api import OutRecord, TopicPartition
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.store import LaneStores, StoreMark
from reflow_kafka.topology.topics import PARKED
from tests.engine.memory import by_key, error_of, new_log, put, records, run
from tests.fuzz.effort import examples

DEEP = b"[" * 100_000


@st.composite
def changed(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes with some of them replaced, cut out or put in."""
    raw = bytearray(sound)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(raw)


@dataclass
class Seen:
    """A state of some size."""

    count: int
    last: list[str]


def counting() -> Flow:
    flow = Flow("counting", partitions=1, dead_letter_limit=1.0, retry=Retry(1))
    source = flow.source("read", topic="in")

    def seen(state: Seen, event: Event[dict[str, Any]]) -> dict[str, Any]:
        state.count += 1
        state.last = [*state.last, event.key][-3:]
        return {"count": state.count, "last": state.last}

    def summed(state: State[int], value: dict[str, Any]) -> dict[str, Any]:
        state.value += 1
        return {"sum": state.value}

    flow.stage(seen, after=source, state=lambda: Seen(0, []))
    flow.stage(summed, after=source, state=lambda: 0)
    flow.sink("out", after=["seen", "summed"], topic="out")
    return flow


async def copied(log: MemoryLog, topic: str) -> list[OutRecord]:
    return [OutRecord(r.key, r.value, r.timestamp, list(r.headers)) for r in await records(log, topic)]


@examples(25)
@example(raws=[DEEP, b"", b"null", b"\xff"])
@given(
    raws=st.lists(changed(b'{"count":7,"last":["k","k"]}') | st.binary(max_size=9), min_size=1, max_size=5)
)
def test_state_in_a_changelog(raws: list[bytes]) -> None:
    """One key after the other gets such a state: its events tell so, others go on."""

    async def main() -> None:
        log = await new_log("in", "out", partitions=1)
        await put(log, "in", ("whole", {"n": 1}))
        await run(log, counting())
        changelog = TopicPartition("counting.seen.changelog", 0)
        await log.publish(*changelog, [OutRecord(b"%d" % n, raw, 0) for n, raw in enumerate(raws)])
        await _admit(log)
        keys = [str(n) for n in range(len(raws))]
        await put(log, "in", *((key, {"n": 2}) for key in [*keys, "whole"]))
        await run(log, counting())
        out = await by_key(log, "out")
        assert [v["count"] for v in out["whole"] if "count" in v] == [1, 2]
        letters = {(r.key or b"").decode(): r for r in await records(log, "counting.dead-letters")}
        for key, raw in zip(keys, raws, strict=True):
            assert {"sum": 1} in out[key]
            counts = [v["count"] for v in out[key] if "count" in v]
            if key in letters:
                assert not counts
                assert error_of(letters[key], "stage") == "seen"
                assert "store 'seen'" in error_of(letters[key], "message")
            else:
                assert counts == [orjson.loads(raw)["count"] + 1]

    asyncio.run(main())


async def _admit(log: MemoryLog) -> None:
    """Let the lane record agree with what was put into a changelog."""
    (*_, last) = [r for r in await records(log, "counting.progress") if r.key == RECORD_KEY]
    record = orjson.loads(last.value or b"")
    end = await log.end_offsets([TopicPartition(topic, 0) for topic in record["changelogs"]])
    record["changelogs"] = {tp.topic: offset for tp, offset in end.items()}
    await log.publish("counting.progress", 0, [OutRecord(RECORD_KEY, orjson.dumps(record), 0)])


@examples(15)
@example(raw=b"")
@given(raw=changed(b'{"at":3}') | st.binary(max_size=6))
def test_the_position_of_a_source(raw: bytes) -> None:
    flow = Flow("counting", partitions=1)

    @flow.source(state=dict)
    async def numbers(position: dict[str, int]) -> AsyncIterator[dict[str, int]]:
        for n in range(position.get("at", 0), 5):
            position["at"] = n + 1
            yield {"n": n}

    flow.sink("out", after=numbers, topic="out")

    async def main() -> None:
        log = await new_log("out", partitions=1)
        await run(log, flow)
        before = len(await records(log, "out"))
        await log.publish("counting.numbers.changelog", 0, [OutRecord(b"", raw, 0)])
        await _admit(log)
        told = ""
        try:
            await run(log, flow)
        except* ReflowError as errors:
            told = str(errors.exceptions[0])
        if told:
            assert "source 'numbers' stopped the flow" in told
            return
        position = orjson.loads(raw)
        wanted = max(0, 5 - max(position.get("at", 0), 0)) if isinstance(position, dict) else 0
        assert len(await records(log, "out")) - before >= min(wanted, 5)

    asyncio.run(main())


def _must(condition: bool, told: str) -> None:
    assert condition, told


# ---- parked events

PARTITION = TopicPartition("in", 0)


def parked() -> tuple[LaneStores, dict[bytes, bytes]]:
    """A store with parked events, and what stands in it."""
    stores = MemoryBackend().open("flow", 0, [PARKED])
    parking = Parking("ask", stores, lambda: 0)
    for key in (b"", b"k", b"kk", b"k\0", None, b"\xff" * 70_000):
        stay = Stay(key, 0, 0, 0)
        for place in range(2):
            record = ParkedRecord(place, 5, key, b"value", [("name", None)])
            parking.put(Item(PARTITION, record, stay=stay, place=place), tries=1, delay=1.0)
    rows = {key: raw for key, raw in parking.snapshot().items() if raw is not None}
    stores.write({PARKED: rows.items()}, StoreMark("i", {PARKED: 1}, 0))
    return stores, rows


def read_parked(stores: LaneStores) -> list[tuple[bytes | None, int, bytes | None, int]]:
    parking = Parking("ask", stores, lambda: 0)
    return [
        (item.record.key, item.record.offset, item.record.value, tries)
        for stay in parking.stays()
        for item, tries, _ in parking.load(stay, 10, 1_000_000)
    ]


def test_parked_events_of_extreme_keys_come_back() -> None:
    stores, rows = parked()
    found = read_parked(stores)
    assert len(found) == len(rows) == 12
    assert {key for key, *_ in found} == {b"", b"k", b"kk", b"k\0", None, b"\xff" * 70_000}


@examples(300)
@given(data=st.data())
def test_changed_parked_events(data: st.DataObject) -> None:
    stores, rows = parked()
    sound = read_parked(stores)
    id, raw = data.draw(st.sampled_from(sorted(rows.items())[:8]))
    if data.draw(st.booleans(), label="the id"):
        other = b"ask\0" + data.draw(changed(id[4:]))
        change: list[tuple[bytes, bytes | None]] = [(id, None), (other, raw)]
    else:
        change = [(id, data.draw(changed(raw)))]
    stores.write({PARKED: change}, StoreMark("i", {PARKED: 2}, 0))
    try:
        found = read_parked(stores)
    except DataLoss as error:
        _must("stage 'ask' has parked" in str(error), str(error))
    else:
        assert len(found) >= len(sound) - 1


@pytest.mark.parametrize("raw", [b"", b"\xc1", DEEP])
def test_a_flow_with_an_unreadable_parked_event_stops_and_says_so(raw: bytes) -> None:
    flow = Flow("counting", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), retry=Retry(10, backoff=5))
    def ask(value: dict[str, Any]) -> dict[str, Any]:
        return value

    flow.sink("out", after=ask, topic="out")

    async def main() -> None:
        log = await new_log("in", "out", partitions=1)
        await put(log, "in", ("k", {"n": 1}))
        await run(log, flow)
        _, rows = parked()
        await log.publish("counting.parked.changelog", 0, [OutRecord(min(rows), raw, 0)])
        await _admit(log)
        with pytest.raises(DataLoss, match="stage 'ask' has parked"):
            await run(log, flow)

    asyncio.run(main())

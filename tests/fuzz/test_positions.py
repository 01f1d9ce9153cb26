"""Committed positions and lane records that somebody has changed: nothing is left out without a word."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, Self

import msgspec
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reflow_kafka import Flow
from reflow_kafka.errors import DataLoss
from reflow_kafka.lane.inflight import ELSEWHERE, PREFIX, Mark, decode, encode
from reflow_kafka.lane.record import RECORD_KEY, RUN_KEY, LaneRecord
from reflow_kafka.log.api import CommittedPosition, OutRecord, TopicPartition
from reflow_kafka.log.memory import MemoryLog
from tests.engine.memory import new_log, put, records, run
from tests.fuzz.effort import examples

EVENTS = 12
INPUT, PROGRESS = TopicPartition("in", 0), TopicPartition("moved.progress", 0)

marks = st.builds(
    lambda position, lengths: Mark(position, tuple(_runs(position, lengths))),
    st.integers(0, EVENTS),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=3),
)


def _runs(position: int, lengths: list[tuple[int, int]]) -> Any:
    for gap, length in lengths:
        yield position + gap, position + gap + length
        position += gap + length


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Metadata: sound, sound and then changed, or anything."""
    text = encode(draw(marks))
    if draw(st.booleans()) and text:
        at = draw(st.integers(0, len(text) - 1))
        put_in = draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=3))
        text = text[:at] + put_in + text[at + draw(st.integers(0, 3)) :]
    return draw(
        st.one_of(
            st.just(text),
            st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
            st.text(st.sampled_from("AB_-/=gQ9"), max_size=20).map(PREFIX.__add__),
            st.sampled_from([ELSEWHERE, PREFIX, PREFIX + "A" * 4000, PREFIX + "_" * 30]),
        )
    )


def flow() -> Flow:
    flow = Flow("moved", partitions=1, dead_letter_limit=1.0)

    @flow.stage(after=flow.source("read", topic="in"), concurrency=3)
    async def keep(value: dict[str, int]) -> dict[str, int]:
        return value

    flow.sink("out", after=keep, topic="out")
    return flow


async def after(log: MemoryLog) -> set[int]:
    """What the flow emits from where it stands."""
    await run(log, flow())
    return {orjson.loads(r.value or b"")["n"] for r in await records(log, "out")}


async def filled() -> MemoryLog:
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", *((f"k{n}", {"n": n}) for n in range(EVENTS)))
    return log


@examples(25)
@example(position=2, text=encode(Mark(2, ((3, 10**9),))), runs=None)
@example(position=2, text=encode(Mark(2, ((3, 5),))), runs=encode(Mark(2, ((3, 8),))))
@example(position=2, text=ELSEWHERE, runs="nonsense")
@given(position=st.integers(0, EVENTS), text=texts(), runs=st.none() | texts())
def test_metadata(position: int, text: str, runs: str | None) -> None:
    """`runs`: what the lane record says of the same position, if there is a record."""
    log_of = _Warnings()

    async def main() -> None:
        log = await filled()
        log.positions["moved"] = {INPUT: CommittedPosition(position, text)}
        if runs is not None:
            await _write_record(log, LaneRecord("i", "p", positions={"in": position}, runs={"in": runs}))
        finished = _told(position, text if runs is None else runs if text in (runs, ELSEWHERE) else "?")
        wanted = set(range(position, EVENTS)) - (finished or set())
        assert await after(log) == wanted
        if finished is None:
            assert "in[0]" in log_of.text
            assert str(position) in log_of.text

    with log_of:
        asyncio.run(main())


def _told(position: int, text: str) -> set[int] | None:
    """The offsets that are finished according to a text, None if it is not to be believed."""
    try:
        mark = decode(position, text)
    except ValueError:
        return None
    if mark.runs and mark.runs[-1][1] > EVENTS:
        return None
    return {offset for start, end in mark.runs for offset in range(start, end)}


async def _write_record(log: MemoryLog, record: LaneRecord | bytes) -> None:
    from reflow_kafka.engine.preparation import prepare

    await prepare(flow().spec(), log)
    raw = record if isinstance(record, bytes) else msgspec.json.encode(record)
    await log.publish(PROGRESS.topic, 0, [OutRecord(RECORD_KEY, raw, 0)])


@examples(10)
@given(runs=texts(), position=st.integers(0, EVENTS))
def test_expired_positions(runs: str, position: int) -> None:
    """Only the lane record is left to tell."""
    log_of = _Warnings()

    async def main() -> None:
        log = await filled()
        await _write_record(log, LaneRecord("i", "p", positions={"in": position}, runs={"in": runs}))
        finished = _told(position, runs)
        assert await after(log) == set(range(position, EVENTS)) - (finished or set())
        if finished is None:
            assert "in[0]" in log_of.text

    with log_of:
        asyncio.run(main())


@st.composite
def damaged_records(draw: st.DrawFn) -> bytes:
    numbers = st.integers() | st.integers(0, EVENTS)
    topics = st.sampled_from(["in", "moved.keep.changelog", "nowhere"])
    record = {
        "incarnation": draw(st.text(max_size=5)),
        "plan": draw(st.text(max_size=5)),
        "positions": draw(st.dictionaries(topics, numbers, max_size=2)),
        "changelogs": draw(st.dictionaries(topics, numbers, max_size=2)),
        "runs": draw(st.dictionaries(topics, texts(), max_size=2)),
        "inputs": draw(st.dictionaries(topics, numbers, max_size=2)),
    }
    raw = bytearray(json.dumps({k: v for k, v in record.items() if draw(st.booleans())}).encode())
    for _ in range(draw(st.integers(0, 2))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


@examples(20)
@given(raw=st.binary(max_size=30) | damaged_records(), mark=st.binary(max_size=5))
def test_damaged_lane_records(raw: bytes, mark: bytes) -> None:
    """Everything from the committed position on, or an error that names what is lost."""
    log_of = _Warnings()

    async def main() -> None:
        log = await filled()
        log.positions["moved"] = {INPUT: CommittedPosition(3, "")}
        await _write_record(log, raw)
        await log.publish(PROGRESS.topic, 0, [OutRecord(RUN_KEY, mark, 0)])
        found: set[int] | None = None
        lost = ""
        try:
            found = await after(log)
        except* DataLoss as errors:
            lost = str(errors.exceptions[0])
        assert found == set(range(3, EVENTS)) or "moved" in lost

    with log_of:
        asyncio.run(main())
    assert "unexpected; taking over" not in log_of.text, log_of.text


class _Warnings(logging.Handler):
    """What is warned of while it is entered."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += self.format(record) + "\n"

    def __enter__(self) -> Self:
        logging.getLogger("reflow_kafka").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("reflow_kafka").removeHandler(self)


@pytest.mark.parametrize(
    "text", ["reflow/1:AQ", "reflow/1:AQF", "reflow/1:=", "reflow/2:AQE", " reflow/1:AQE"]
)
def test_what_is_no_text_of_ours(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(0, text)

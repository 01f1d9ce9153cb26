"""A schedule read as a source, under a clock of the test's own."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from reflow_kafka.definition.schedule import Missed, Schedule
from reflow_kafka.errors import DataLoss
from reflow_kafka.lane.schedule import ScheduleReader, ScheduleSource
from tests.connectors.contract import context

MINUTE = 60_000


class Clock:
    def __init__(self, now: int = 0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


async def opened(
    clock: Clock, position: Any = None, *, minutes: int = 1, missed: Missed = "last"
) -> ScheduleReader:
    source = ScheduleSource(Schedule(period=minutes * MINUTE, missed=missed), clock)
    assert await source.parts() == [""]
    return await source.open("", position, context(stage="tick"))


async def fired(reader: ScheduleReader, limit: int = 100) -> list[tuple[int, Any]]:
    events = await reader.read(limit)
    assert events is not None
    return [(event.timestamp, event.value) for event in events]


def tick(minute: int, n: int) -> tuple[int, Any]:
    return minute * MINUTE, {"scheduled": f"1970-01-01T00:{minute:02}:00+00:00", "tick": n}


async def test_it_begins_with_the_next_firing_and_says_where_it_stands() -> None:
    clock = Clock(30_000)
    reader = await opened(clock)
    assert reader.position() == {"last": 30_000, "tick": 0}
    assert await fired(reader) == []
    clock.now = MINUTE
    assert await fired(reader) == [tick(1, 1)]
    assert await fired(reader) == []
    assert reader.position() == {"last": MINUTE, "tick": 1}


async def test_its_key_is_its_name() -> None:
    reader = await opened(Clock(MINUTE), {"last": 0, "tick": 0})
    (event,) = await reader.read(1) or ()
    assert event.key == "tick"


@pytest.mark.parametrize(
    ("missed", "firings", "tick"),
    [("last", [tick(10, 3)], 3), ("all", [tick(5, 3), tick(10, 4)], 4), ("skip", [], 2)],
)
async def test_what_was_missed(missed: Missed, firings: list[Any], tick: int) -> None:
    reader = await opened(Clock(12 * MINUTE), {"last": 0, "tick": 2}, minutes=5, missed=missed)
    assert await fired(reader) == firings
    assert reader.position() == {"last": 10 * MINUTE, "tick": tick}


async def test_no_more_than_asked_for_at_a_time() -> None:
    clock = Clock(5 * MINUTE)
    reader = await opened(clock, {"last": 0, "tick": 0}, missed="all")
    assert await fired(reader, 2) == [tick(1, 1), tick(2, 2)]
    assert reader.position() == {"last": 2 * MINUTE, "tick": 2}
    assert await fired(reader, 9) == [tick(3, 3), tick(4, 4), tick(5, 5)]


async def test_a_clock_that_is_behind_fires_nothing_twice(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(MINUTE)
    with caplog.at_level(logging.WARNING):
        reader = await opened(clock, {"last": 5 * MINUTE, "tick": 5})
    assert "lies 240 s ahead of this machine's clock" in caplog.text
    assert await fired(reader) == []
    clock.now = 6 * MINUTE
    assert await fired(reader) == [tick(6, 6)]


@pytest.mark.parametrize("position", [7, {"offset": 3}, {"last": "x", "tick": 0}, [1, 2]])
async def test_a_position_of_something_else_is_refused(position: Any) -> None:
    with pytest.raises(DataLoss, match="wanted its last firing"):
        await opened(Clock(), position)

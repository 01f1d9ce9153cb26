"""Windows that hop, count, tell of updates or close by the machine's clock; sketches; timers of event time.

One worker is killed while windows are open and timers are set, and another goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Input, Topics, by_key
from tests.support.workers import Workers

BEGIN = 1_700_000_000_000
STEP = 100
"""Milliseconds between events of a key."""
HALF = 38
"""Events of each key before the kill: all kinds of windows are open then, and not full."""
PAUSE = 2000
"""Milliseconds from the last event before it to the first after it."""
EVENTS = 80
USERS = 9
SIZE, EVERY, FEW, SPAN, SOON = 1000, 500, 7, 4000, 250
"""As in ``flows/closings.py``, in milliseconds."""
AHEAD = 30_000
"""Milliseconds until the windows begin that the machine's clock closes."""
KEYS = [f"key-{number}" for number in range(50)]
TIMES = [BEGIN + id * STEP + (PAUSE if id >= HALF else 0) for id in range(EVENTS)]


def events(ids: Iterable[int]) -> list[Input]:
    return [
        Input(key, {"id": id, "user": id % USERS, "at": TIMES[id]}, TIMES[id]) for id in ids for key in KEYS
    ]


def dues(ids: Iterable[int], begin: int) -> list[Input]:
    """Four to each second, from `begin` on, each key its own."""
    return [Input(key, {"id": id, "at": begin + id * 250}) for id in ids for key in KEYS]


def windows(size: int, every: int) -> Iterator[tuple[int, list[int]]]:
    """The start of each that holds something, and what it holds."""
    first, last = TIMES[0] - size, TIMES[-1]
    for start in range(first // every * every, last + 1, every):
        if held := [id for id, at in enumerate(TIMES) if start <= at < start + size]:
            yield start, held


def updates(key: str) -> list[dict[str, Any]]:
    return [
        {"key": key, "start": start, "end": start + SIZE, "count": count, "last": id}
        for start, held in windows(SIZE, SIZE)
        for count, id in enumerate(held, 1)
    ]


def timers() -> list[list[int]]:
    return [[at + SOON, id] for id, at in enumerate(TIMES) if id % 2]


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_of_them_close_exactly_once_on_another_worker(
    kafka_bootstrap: str, unique: str, tmp_path: Path
) -> None:
    topics = Topics(kafka_bootstrap, unique)
    fill, seen = topics.fill, topics.seen

    outputs = ["hops", "counted", "updates", "sketched", "reminded", "due", "late", "overdue"]
    topics.create("events", "dues", *outputs)
    begin = (int(time.time() * 1000) + AHEAD) // SIZE * SIZE
    hops, spans = list(windows(SIZE, EVERY)), list(windows(SPAN, SPAN))
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        fill("events", events(range(HALF)))
        fill("dues", dues(range(8), begin))
        first = workers.start("closings", data_dir=tmp_path / "first")
        seen("updates", HALF * len(KEYS))
        seen("counted", HALF // FEW * len(KEYS))
        first.kill()

        fill("events", events(range(HALF, EVENTS)))
        fill("dues", dues(range(8, 16), begin))
        second = workers.start("closings", data_dir=tmp_path / "second")
        seen("updates", EVENTS * len(KEYS))
        seen("hops", len(hops) * len(KEYS))
        seen("sketched", len(spans) * len(KEYS))
        seen("reminded", len(timers()) * len(KEYS))
        seen("due", 4 * len(KEYS))
        assert second.stop() == 0
        assert second.warnings() == []

    assert by_key(seen("hops")) == {key: [[start, held] for start, held in hops] for key in KEYS}
    full = [list(range(first, first + FEW)) for first in range(0, EVENTS - FEW + 1, FEW)]
    assert by_key(seen("counted")) == dict.fromkeys(KEYS, full)
    assert by_key(seen("updates")) == {key: updates(key) for key in KEYS}
    assert by_key(seen("reminded")) == dict.fromkeys(KEYS, timers())
    seconds = [[begin + second * SIZE, [second * 4 + n for n in range(4)]] for second in range(4)]
    assert by_key(seen("due")) == dict.fromkeys(KEYS, seconds)
    for key, told in by_key(seen("sketched")).items():
        assert [(each["key"], each["start"], each["end"]) for each in told] == [
            (key, start, start + SPAN) for start, _ in spans
        ]
        for (_, held), each in zip(spans, told, strict=True):
            assert each["top"] == sorted(held, reverse=True)[:3]
            assert each["users"] == pytest.approx(len({id % USERS for id in held}), abs=0.5)
            assert each["ranks"]["0.5"] == pytest.approx(held[len(held) // 2], abs=1)
    assert seen("late") == seen("overdue") == []

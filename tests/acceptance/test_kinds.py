"""Tables, sliding windows, duplicates, times to live and schedules on workers one of which is killed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.kafka import Input, Topics, by_key
from tests.support.waiting import wait_until
from tests.support.workers import Workers

BEGIN = 1_700_000_000_000
LATER = 2 * 3600 * 1000
"""Between the two halves; longer than ids are remembered, and than time goes on meanwhile."""
STEP, HOLDS = 100, 1000
"""Milliseconds between events of a key, and between its rows."""
EVENTS = 40
"""Of each key in each half."""
KEYS = [f"key-{number}" for number in range(50)]
KEPT, EVERY = 8, 2
"""As in ``flows/kinds.py``."""


def events(half: int) -> list[Input]:
    """Events of all keys, whose ids go on in the second half."""
    found = []
    for number in range(EVENTS):
        at = BEGIN + half * LATER + number * STEP
        found += [Input(key, {"id": half * EVENTS + number, "key": key, "at": at}, at) for key in KEYS]
    return found


def rows(half: int) -> list[Input]:
    """A row of each key for every ten events; from time to time there is none."""
    found = []
    for number in range(half * 4, half * 4 + 4):
        at = BEGIN + half * LATER + number % 4 * HOLDS
        row = {"id": number, "at": at}
        found += [Input(key, None if number % 4 == 2 else row, at) for key in KEYS]
    return found


def asked(id: int) -> list[Input]:
    """Everybody asks twice."""
    return [Input(key, {"id": id + n, "code": "no"}) for n in range(2) for key in KEYS]


def met() -> list[list[Any]]:
    """Each event of a key, and the row of its time."""
    numbers = [(id, id // EVENTS * 4 + id % EVENTS * STEP // HOLDS) for id in range(2 * EVENTS)]
    return [[id, None if number % 4 == 2 else number] for id, number in numbers]


def near() -> list[list[int]]:
    """What windows of a length between one step and two hold: each event, and each with the next."""
    found = []
    for first in (0, EVENTS):
        for id in range(first, first + EVENTS):
            found += [[id - 1, id]] if id > first else []
            found += [[id]]
    return found


def country(name: str) -> Input:
    """A row of the table that everybody has."""
    return Input("no", {"name": name})


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_of_them_go_on_exactly_on_another_worker(
    kafka_bootstrap: str, unique: str, tmp_path: Path
) -> None:
    topics = Topics(kafka_bootstrap, unique)
    fill, seen = topics.fill, topics.seen

    def follows() -> bool:
        """Whether somebody else who asks now is told of the last change."""
        count = len(seen("named"))
        fill("asks", [Input("other", {"id": count, "code": "no"})])
        return bool(by_key(seen("named", count + 1))["other"][-1][2] == "Noreg")

    inputs = ["events", "orders", "rows", "labels", "asks", "countries"]
    outputs = ["asof", "direct", "near", "named", "odd", "duplicates", "firings"]
    topics.create(*inputs, *outputs)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        fill("countries", [country("Norway")])
        fill("rows", rows(0))
        fill("labels", rows(0))
        fill("orders", events(0))
        fill("events", events(0))
        fill("events", events(0))
        fill("asks", asked(0))
        first = workers.start("kinds", data_dir=tmp_path / "first")
        seen("named", 2 * len(KEYS))
        answered = time.monotonic()
        seen("direct", 1)
        seen("firings", 3)
        first.kill()

        fill("countries", [country("Norge")])
        fill("rows", rows(1))
        fill("labels", rows(1))
        fill("orders", events(1))
        fill("events", events(1))
        second = workers.start("kinds", data_dir=tmp_path / "second")
        seen("asof", 2 * EVENTS * len(KEYS))
        fill("events", events(1))
        seen("duplicates", 2 * EVENTS * len(KEYS))
        seen("near", len(near()) * len(KEYS))
        seen("direct", 2 * EVENTS * len(KEYS))
        wait_until(
            lambda: time.monotonic() > answered + KEPT * 17 / 16 + 1, 60, "what is kept for a time is over"
        )
        fill("asks", asked(2))
        seen("named", 4 * len(KEYS))
        fill("countries", [country("Noreg")])
        wait_until(follows, 30, "the table is as it was changed")
        seen("firings", len(seen("firings")) + 3)
        assert second.stop() == 0
        assert second.warnings() == []

    assert by_key(seen("asof")) == dict.fromkeys(KEYS, met())
    assert by_key(seen("direct")) == dict.fromkeys(KEYS, met())
    assert by_key(seen("near")) == dict.fromkeys(KEYS, near())
    assert by_key(seen("duplicates")) == {
        key: [event.value for half in (0, 1) for event in events(half) if event.key == key] for key in KEYS
    }
    named = by_key(seen("named"))
    others = [answer[0] for answer in named.pop("other")]
    assert others == [4 * len(KEYS) + n for n in range(len(others))]
    answers = [[0, 1, "Norway"], [1, 2, "Norway"], [2, 1, "Norge"], [3, 2, "Norge"]]
    assert named == dict.fromkeys(KEYS, answers)
    assert [json.loads(message.value()) for message in seen("odd")] == []
    times = [message.timestamp()[1] for message in seen("firings")]
    assert times == list(range(times[0], times[0] + len(times) * EVERY * 1000, EVERY * 1000))

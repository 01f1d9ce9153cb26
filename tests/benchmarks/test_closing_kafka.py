"""Closing many windows at once is measured, and what was told of them judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import orjson
import pytest

from benchmarks.closing_kafka import measure, opening, wrong
from benchmarks.going_on import LIVE_KEYS, live_key, longest_gap
from benchmarks.job import EXACTLY_ONCE
from benchmarks.topics import KafkaTopics

WINDOWS, LIVE = 20, LIVE_KEYS + 5
Results = list[tuple[bytes | None, bytes]]


def results() -> Results:
    events = list(opening(WINDOWS))
    held = Counter([*(event.key for event in events), *map(live_key, range(LIVE)), b"probe"])
    start = events[0].timestamp
    return [(key, orjson.dumps({"key": key.decode(), "start": start, "count": n})) for key, n in held.items()]


def judged(told: Results) -> str:
    def each() -> Iterator[tuple[bytes | None, bytes]]:
        yield from told

    return wrong(each(), WINDOWS, LIVE)


def test_each_window_once_is_right() -> None:
    assert judged(results()) == ""


def test_a_window_that_is_missing() -> None:
    assert judged(results()[1:]) == "1 of 1,021 windows not told of, 0 of 1,020 results doubled or wrong"


def test_a_window_that_is_told_of_twice() -> None:
    told = results()
    assert judged([*told, told[3]]) == "0 of 1,021 windows not told of, 1 of 1,022 results doubled or wrong"


def test_a_window_that_held_something_else() -> None:
    told = results()
    key, value = told[0]
    told[0] = key, orjson.dumps({**orjson.loads(value), "count": 2})
    assert judged(told) == "0 of 1,021 windows not told of, 1 of 1,021 results doubled or wrong"


def test_the_longest_gap() -> None:
    assert longest_gap([1.0, 1.5, 4.0, 4.1]) == 2.5
    assert longest_gap([1.0]) == 0.0


@pytest.mark.kafka
async def test_all_are_told_of_while_others_go_on(kafka_bootstrap: str, unique: str) -> None:
    found = await measure(KafkaTopics(kafka_bootstrap), unique, 1_000, EXACTLY_ONCE, steady=0.5)
    assert found.fault == ""
    assert found.took > 0
    assert 0 < found.meanwhile.p50 <= found.meanwhile.p99 <= found.meanwhile.longest

"""Aggregating and reducing in a running flow: with and without windows, closing and updating."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from reflow_kafka import Count as Windows
from reflow_kafka import Flow, Hopping, Session, Sliding, Tumbling
from reflow_kafka.aggregations import Collect, Count, Earliest, First, Last, Latest, Max, Mean, Min, Sum, TopK
from reflow_kafka.sketches import ApproxDistinct, Quantiles
from reflow_kafka.testing import FlowTest

ALL = {
    "count": Count(),
    "sum": Sum("temp"),
    "mean": Mean("temp"),
    "min": Min("temp"),
    "max": Max("temp"),
    "first": First("temp"),
    "last": Last("temp"),
    "earliest": Earliest("temp"),
    "latest": Latest("temp"),
    "all": Collect("temp"),
    "top": TopK(2, "temp"),
    "distinct": ApproxDistinct("temp"),
    "quantiles": Quantiles("temp", [0, 1]),
}


def flow_of(**options: Any) -> Flow:
    flow = Flow("folds", partitions=1)
    flow.source("readings", topic="readings", key="station", timestamp="at")
    flow.aggregate("stats", after="readings", of=ALL, **options)
    return flow


def send(test: FlowTest, *readings: tuple[str, int, Any]) -> None:
    for station, at, temp in readings:
        test.send("readings", {"station": station, "at": at, "temp": temp})


def expected(temps: list[tuple[int, Any]]) -> dict[str, Any]:
    """What all of them make of (time, temperature) in order of arrival."""
    found = [temp for _, temp in temps]
    return {
        "count": len(found),
        "sum": sum(found),
        "mean": sum(found) / len(found),
        "min": min(found),
        "max": max(found),
        "first": found[0],
        "last": found[-1],
        "earliest": min(temps, key=lambda t: t[0])[1],
        "latest": max(temps, key=lambda t: t[0])[1],
        "all": found,
        "top": sorted(found, reverse=True)[:2],
        "distinct": len(set(found)),
        "quantiles": {"0": min(found), "1": max(found)},
    }


def test_without_windows_each_event_leads_to_an_update() -> None:
    with FlowTest(flow_of()) as test:
        send(test, ("a", 5, 1), ("b", 7, 10), ("a", 3, 4))
        test.restart(lose_state=True)
        send(test, ("a", 9, 2))
        results = test.outputs("stats")
        assert test.events("stats")[-1].timestamp == 9
    assert results == [
        {"key": "a", **expected([(5, 1)])},
        {"key": "b", **expected([(7, 10)])},
        {"key": "a", **expected([(5, 1), (3, 4)])},
        {"key": "a", **expected([(5, 1), (3, 4), (9, 2)])},
    ]


def test_windows_emit_once_when_they_are_closed() -> None:
    with FlowTest(flow_of(window=Tumbling(0.01))) as test:
        send(test, ("a", 2, 1), ("a", 1, 3), ("b", 9, 5), ("a", 9, 2))
        assert test.outputs("stats") == []
        test.restart(lose_state=True)
        send(test, ("a", 10, 7))
        assert test.outputs("stats") == [
            {"key": "a", "start": 0, "end": 10, **expected([(2, 1), (1, 3), (9, 2)])},
            {"key": "b", "start": 0, "end": 10, **expected([(9, 5)])},
        ]
        send(test, ("a", 9, 100))
        assert test.outputs("stats.late") == [{"station": "a", "at": 9, "temp": 100}]
        test.end()
        assert test.outputs("stats")[2:] == [{"key": "a", "start": 10, "end": 20, **expected([(10, 7)])}]


def test_windows_may_emit_updates_instead() -> None:
    with FlowTest(flow_of(window=Hopping(0.02, 0.01), emit="update")) as test:
        send(test, ("a", 12, 1), ("a", 5, 2))
        assert test.outputs("stats") == [
            {"key": "a", "start": 0, "end": 20, **expected([(12, 1)])},
            {"key": "a", "start": 10, "end": 30, **expected([(12, 1)])},
            {"key": "a", "start": 0, "end": 20, **expected([(12, 1), (5, 2)])},
        ]  # the window before has closed at 10
        test.end()
        assert len(test.outputs("stats")) == 3


SPANS = [("a", 5), ("a", 20), ("a", 30), ("a", 12)]
"""Two sessions, and an event that joins them."""


@pytest.mark.parametrize("emit", ["update", "close"])
def test_sessions_are_aggregated_as_one_when_they_meet(emit: str) -> None:
    with FlowTest(flow_of(window=Session(0.01, grace=0.1), emit=emit)) as test:
        send(test, *((key, at, at) for key, at in SPANS))
        test.end()
        found = [(each["start"], each["end"], each["all"]) for each in test.outputs("stats")]
    updates = [(5, 5, [5]), (20, 20, [20]), (20, 30, [20, 30]), (5, 30, [5, 20, 30, 12])]
    assert found == (updates if emit == "update" else updates[-1:])


@pytest.mark.parametrize("emit", ["update", "close"])
def test_windows_of_so_many_events_are_aggregated(emit: str) -> None:
    with FlowTest(flow_of(window=Windows(3), emit=emit)) as test:
        send(test, *((key, at, at) for key, at in SPANS))
        test.end()
        found = [(each["start"], each["end"], each["all"]) for each in test.outputs("stats")]
    updates = [(5, 5, [5]), (5, 20, [5, 20]), (5, 30, [5, 20, 30]), (12, 12, [12])]
    assert found == (updates if emit == "update" else updates[2:])


@pytest.mark.parametrize("emit", ["update", "close"])
def test_sliding_windows_are_aggregated(emit: str) -> None:
    with FlowTest(flow_of(window=Sliding(0.01, grace=0.1), emit=emit)) as test:
        send(test, ("a", 5, 5), ("a", 12, 12), ("a", 8, 8))
        test.end()
        found = [(each["start"], each["end"], each["all"]) for each in test.outputs("stats")]
    updates = [
        (-5, 5, [5]),
        (2, 12, [5, 12]), (6, 16, [12]),
        (-2, 8, [5, 8]), (2, 12, [5, 12, 8]), (6, 16, [12, 8]), (9, 19, [12]),
    ]  # fmt: skip
    closed = [(-5, 5, [5]), (-2, 8, [5, 8]), (2, 12, [5, 12, 8]), (6, 16, [12, 8]), (9, 19, [12])]
    assert found == (updates if emit == "update" else closed)


def test_values_that_cannot_be_aggregated_are_dead_letters_and_change_nothing() -> None:
    with FlowTest(flow_of()) as test:
        send(test, ("a", 1, 1), ("a", 2, "hot"), ("a", 3, 3))
        test.send("readings", {"station": "a", "at": 4})
        assert test.outputs("stats")[-1] == {"key": "a", **expected([(1, 1), (3, 3)])}
        messages = [letter.message for letter in test.dead_letters()]
    assert messages == [
        "found 'hot', wanted a finite number (int or float)",
        "the field is missing: found fields station, at, wanted temp",
    ]


def folded(events: list[tuple[str, int, int | None]], **options: Any) -> dict[str, Any]:
    """All that comes of events, by the outputs it leaves by."""
    flow = Flow("folds", partitions=1)
    flow.source("rows", topic="rows")
    flow.aggregate("sum", after="rows", of={"sum": Sum()}, **options)
    flow.reduce(lambda a, b: a + b, name="total", after="rows", **options)
    with FlowTest(flow) as test:
        for key, at, value in events:
            test.send("rows", value, key=key, timestamp=at)
        test.end()
        assert test.dead_letters() == []
        return {output: test.outputs(output) for output in ("sum", "sum.late", "total", "total.late")}


@pytest.mark.parametrize("emit", ["update", "close"])
@pytest.mark.parametrize(
    "window",
    [Tumbling(0.01), Hopping(0.02, 0.01), Sliding(0.01), Session(0.01, grace=1), Windows(2)],
    ids=str,
)
def test_tombstones_have_no_effect_in_windows(window: Any, emit: str) -> None:
    events: list[tuple[str, int, int | None]] = [
        ("a", 0, None), ("b", 0, 0), ("b", 0, None),  # of a key's own, and beside a sum of nothing but 0
        ("a", 3, 1), ("a", 9, None), ("a", 18, 2),  # joined to a session it would be longer
        ("a", 30, 3), ("a", 24, None), ("a", 40, 4),  # two sessions would be one
        ("a", 0, None), ("a", 1, 5), ("c", 40, None),  # late but for sessions and counted ones
    ]  # fmt: skip
    found = folded(events, window=window, emit=emit)
    assert found == folded([event for event in events if event[2] is not None], window=window, emit=emit)
    assert {event.get("sum") for event in found["sum"] if event["key"] == "b"} == {0}
    assert {event["key"] for event in found["sum"]} == {"a", "b"}


# ---- reduce


@dataclass
class Trip:
    miles: float
    at: datetime


def longer(a: Trip, b: Trip) -> Trip:
    return max(a, b, key=lambda trip: trip.miles)


def trip(miles: float) -> dict[str, Any]:
    return {"miles": miles, "at": datetime(2024, 1, 1, tzinfo=UTC).isoformat()}


def reducing(**options: Any) -> Flow:
    flow = Flow("folds", partitions=1)
    flow.source("trips", topic="trips")
    flow.reduce(longer, after="trips", **options)
    return flow


def test_a_fold_emits_each_new_value() -> None:
    with FlowTest(reducing()) as test:
        for key, miles in (("a", 2), ("b", 9), ("a", 5), ("a", 3)):
            test.send("trips", trip(miles), key=key)
            test.restart(lose_state=True)
        test.send("trips", None, key="c")
        found = [(event.key, event.value.miles) for event in test.events("longer")]
        assert test.dead_letters() == []
    assert found == [("a", 2), ("b", 9), ("a", 5), ("a", 5)]


@pytest.mark.parametrize(("emit", "found"), [("update", [2, 5, 5, 1]), ("close", [5, 1])])
def test_a_fold_in_windows_begins_anew(emit: str, found: list[float]) -> None:
    with FlowTest(reducing(window=Tumbling(1), emit=emit)) as test:
        for at, miles in ((0, 2), (1, 5), (999, 3), (1000, 1)):
            test.send("trips", trip(miles), key="a", timestamp=at)
        test.end()
        assert [value.miles for value in test.outputs("longer")] == found


def test_a_fold_that_forgets_its_result_is_told() -> None:
    flow = Flow("folds", partitions=1)
    flow.source("rows", topic="rows")
    flow.reduce(lambda a, b: None, name="sum", after="rows")
    with FlowTest(flow) as test:
        test.send("rows", 1, key="a")
        test.send("rows", 2, key="a")
        (letter,) = test.dead_letters()
        assert test.state("sum", "a") == 1
    assert "return it" in letter.message

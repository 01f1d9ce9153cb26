"""The ready-made aggregations: what they make of values, of sessions that merge, and of nonsense."""

from __future__ import annotations

import bisect
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka import DefinitionError
from reflow_kafka.aggregations import (
    Aggregation,
    Collect,
    Count,
    Earliest,
    First,
    Last,
    Latest,
    Max,
    Mean,
    Min,
    Sum,
    TopK,
)
from reflow_kafka.sketches import ApproxDistinct, Quantiles

Timed = tuple[Any, int]
"""A value and its time."""


def stored(state: Any) -> Any:
    """A state that has been written and read back."""
    again = json.loads(json.dumps(state))
    assert again == state
    return again


def folded(aggregation: Aggregation, events: Sequence[Timed]) -> Any:
    state = aggregation.make()
    for value, timestamp in events:
        state = stored(aggregation.add(stored(state), value, timestamp))
    return state


def made(aggregation: Aggregation, *values: Any) -> Any:
    return aggregation.result(folded(aggregation, [(value, 0) for value in values]))


# ---- against plain Python

NUMBERS = st.integers(-1000, 1000)
EVENTS = st.lists(st.tuples(st.none() | NUMBERS, st.integers(-5, 5)), max_size=12)

PLAIN: dict[str, tuple[Aggregation, Callable[[list[Timed]], Any]]] = {
    "count": (Count(), len),
    "count of": (Count(of=lambda v: v), lambda e: len(there(e))),
    "sum": (Sum(), lambda e: sum(v for v, _ in there(e))),
    "mean": (Mean(), lambda e: sum(v for v, _ in there(e)) / len(there(e)) if there(e) else None),
    "min": (Min(), lambda e: min((v for v, _ in there(e)), default=None)),
    "max": (Max(), lambda e: max((v for v, _ in there(e)), default=None)),
    "first": (First(), lambda e: there(e)[0][0] if there(e) else None),
    "last": (Last(), lambda e: there(e)[-1][0] if there(e) else None),
    "earliest": (Earliest(), lambda e: min(there(e), key=at)[0] if there(e) else None),
    "latest": (Latest(), lambda e: max(reversed(there(e)), key=at)[0] if there(e) else None),
    "collect": (Collect(), lambda e: [v for v, _ in there(e)]),
    "top 3": (TopK(3), lambda e: sorted((v for v, _ in there(e)), reverse=True)[:3]),
    "top 1 by": (
        TopK(1, by=lambda v: v and v % 7),
        lambda e: sorted((v for v, _ in there(e)), key=lambda v: v % 7, reverse=True)[:1],
    ),
}


def at(event: Timed) -> int:
    return event[1]


def there(events: list[Timed]) -> list[Timed]:
    return [(value, time) for value, time in events if value is not None]


@pytest.mark.parametrize("name", PLAIN)
@given(events=EVENTS)
def test_as_plain_python_has_it(name: str, events: list[Timed]) -> None:
    aggregation, plain = PLAIN[name]
    assert aggregation.result(folded(aggregation, events)) == plain(events)


@pytest.mark.parametrize("name", PLAIN)
@given(events=EVENTS, later=EVENTS)
def test_merged_sessions_are_as_one_that_had_all_of_them(
    name: str, events: list[Timed], later: list[Timed]
) -> None:
    aggregation, plain = PLAIN[name]
    merged = aggregation.merge(folded(aggregation, events), folded(aggregation, later))
    assert aggregation.result(stored(merged)) == plain([*events, *later])


# ---- what is aggregated


@dataclass
class Reading:
    temp: float
    at: datetime


def test_a_field_of_a_dict_or_of_an_object_or_what_a_function_finds() -> None:
    assert made(Mean("temp"), {"temp": 1}, {"temp": 2}) == 1.5
    assert made(Mean("temp"), Reading(1, datetime.now(UTC)), Reading(2, datetime.now(UTC))) == 1.5
    assert made(Sum(len), "ab", "c") == 3
    assert made(TopK(2, "name", by="n"), *({"name": c, "n": ord(c)} for c in "bac")) == ["c", "b"]


def test_a_missing_field_is_an_error_and_none_is_not() -> None:
    assert made(Mean("temp"), {"temp": None}, {"temp": 3}) == 3
    with pytest.raises(KeyError, match="found fields other, wanted temp"):
        made(Mean("temp"), {"other": 1})


def test_text_has_an_order() -> None:
    assert (made(Min(), "b", "a"), made(Max(), "b", "a"), made(TopK(1), "b", "a")) == ("a", "b", ["b"])


def test_of_equal_ranks_the_first_are_kept() -> None:
    rows = [{"n": 1, "id": 0}, {"n": 2, "id": 1}, {"n": 2, "id": 2}, {"n": 2, "id": 3}]
    assert [row["id"] for row in made(TopK(2, by="n"), *rows)] == [1, 2]


def test_what_is_kept_is_what_json_makes_of_it() -> None:
    reading = Reading(1.5, datetime(2024, 1, 2, tzinfo=UTC))
    plain = {"temp": 1.5, "at": "2024-01-02T00:00:00Z"}
    for aggregation in (First(), Last(), Earliest(), Latest()):
        assert made(aggregation, reading) == plain
    assert made(Collect(), reading) == [plain]
    assert made(TopK(1, by="temp"), reading) == [plain]
    assert made(Collect(), {1: [2, 3]}) == [{"1": [2, 3]}]


@pytest.mark.parametrize("aggregation", [Sum(), Mean(), Quantiles(None, [0.5])])
@pytest.mark.parametrize("value", ["1", True, Decimal(1), [1], math.inf, math.nan])
def test_only_numbers_are_summed(aggregation: Aggregation, value: Any) -> None:
    before = folded(aggregation, [(1, 0)])
    kept = stored(before)
    with pytest.raises(ValueError, match="wanted a finite number"):
        aggregation.add(before, value, 0)
    assert before == kept


@pytest.mark.parametrize("aggregation", [Min(), Max(), TopK(1)])
def test_only_numbers_and_text_are_compared(aggregation: Aggregation) -> None:
    with pytest.raises(ValueError, match="wanted a number"):
        made(aggregation, [1])
    with pytest.raises(TypeError, match="not supported between"):
        made(aggregation, "a", 1)


# ---- sketches


def test_few_different_values_are_counted_exactly() -> None:
    assert made(ApproxDistinct(), *(["a", "b", 1, "1", 1.5, True, "true", None, [1], [1]] * 3)) == 8
    assert made(ApproxDistinct("user"), {"user": "a"}, {"user": "b"}, {"user": None}) == 2
    assert made(ApproxDistinct()) == 0


@pytest.mark.parametrize(("precision", "error", "size"), [(12, 0.05, 2_900), (8, 0.2, 250)])
def test_many_different_values_are_counted_roughly_and_stay_small(
    precision: int, error: float, size: int
) -> None:
    aggregation = ApproxDistinct(precision=precision)
    halves = [
        folded(aggregation, [(n, 0) for n in numbers]) for numbers in (range(6_000), range(4_000, 10_000))
    ]
    merged = aggregation.merge(*halves)
    assert aggregation.result(halves[0]) == pytest.approx(6_000, rel=error)
    assert aggregation.result(merged) == pytest.approx(10_000, rel=error)
    assert len(merged) < size
    for nothing in (aggregation.merge(merged, ""), aggregation.merge("", merged)):
        assert aggregation.result(nothing) == pytest.approx(10_000, rel=error)


@pytest.mark.parametrize(("size", "error"), [(200, 0.02), (1_000, 0.01)])
def test_quantiles_are_near(size: int, error: float) -> None:
    ranks = [0, 0.01, 0.25, 0.5, 0.75, 0.99, 1]
    aggregation = Quantiles(None, ranks, size=size)
    generator = random.Random(7)
    numbers = [generator.gauss(0, 100) for _ in range(8_000)]
    halves = [folded(aggregation, [(n, 0) for n in part]) for part in (numbers[:3_000], numbers[3_000:])]
    for state, values in ((halves[0], numbers[:3_000]), (aggregation.merge(*halves), numbers)):
        ordered = sorted(values)
        for rank, found in zip(ranks, aggregation.result(state).values(), strict=True):
            assert bisect.bisect(ordered, found) / len(ordered) == pytest.approx(rank, abs=error)


def test_quantiles_of_few_and_of_nothing() -> None:
    assert made(Quantiles("ms", [0.5, 1]), {"ms": 3}, {"ms": None}) == {"0.5": 3.0, "1": 3.0}
    assert made(Quantiles("ms", (0.5,)), {"ms": None}) == {"0.5": None}


# ---- what is refused

NONSENSE: dict[str, Callable[[], Any]] = {
    "Mean(of=): of is a field's name or a plain function": lambda: Mean(5),  # type: ignore[arg-type]
    "Sum(of=)": lambda: Sum(""),
    "Max(of=)": lambda: Max(lambda: 1),  # type: ignore[arg-type,misc]
    "Count(of=)": lambda: Count(3),  # type: ignore[arg-type]
    "TopK(k=0)": lambda: TopK(0),
    "TopK(k='a')": lambda: TopK("a"),  # type: ignore[arg-type]
    "TopK(by=)": lambda: TopK(1, by=7),  # type: ignore[arg-type]
    "ApproxDistinct(precision=3)": lambda: ApproxDistinct(precision=3),
    "Quantiles(ranks=[])": lambda: Quantiles("ms", []),
    "Quantiles(ranks=[2])": lambda: Quantiles("ms", [2]),
    "Quantiles(ranks=0.5)": lambda: Quantiles("ms", 0.5),  # type: ignore[arg-type]
    "Quantiles(size=1)": lambda: Quantiles("ms", [0.5], size=1),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused(what: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        NONSENSE[what]()
    assert caught.value.message.startswith(what)
    assert "test_aggregations.py:" in caught.value.where


def test_a_missing_library_is_told_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reflow_kafka.sketches.datasketches", None)
    for make in (ApproxDistinct, lambda: Quantiles("ms", [0.5])):
        with pytest.raises(DefinitionError, match=r"pip install 'reflow-kafka\[sketches\]'"):
            make()

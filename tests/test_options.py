"""Retry, Batch and Rate: what they decide, and what they refuse."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reflow_kafka import Batch, DefinitionError, Rate, Reject, Retry, RetryLater

WAITS = st.floats(0, 3600)
SHARES = st.floats(0, 1)
RANDOM = st.floats(0, 1, exclude_max=True)
TRIES = st.integers(1, 5000)


@st.composite
def retries(draw: st.DrawFn) -> Retry:
    backoff = draw(WAITS)
    return Retry(
        draw(st.none() | st.integers(1, 50)),
        backoff=backoff,
        factor=draw(st.floats(1, 100)),
        max_backoff=backoff + draw(WAITS),
        jitter=draw(SHARES),
    )


# ---- decisions


@given(retries(), TRIES, RANDOM)
@example(Retry(), 5000, 0.5)
@example(Retry(backoff=0), 5000, 0.5)
def test_a_wait_stays_within_its_bounds(retry: Retry, tries: int, random: float) -> None:
    longest = retry.delay(tries, 0)
    assert 0 <= retry.delay(tries, random) <= longest <= retry.max_backoff
    assert retry.delay(tries, random) >= longest * (1 - retry.jitter) * 0.999999


@given(retries(), st.integers(1, 100))
def test_waits_grow_by_the_factor_up_to_the_longest(retry: Retry, tries: int) -> None:
    assert retry.delay(1, 0) == retry.backoff
    expected = min(retry.delay(tries, 0) * retry.factor, retry.max_backoff)
    assert retry.delay(tries + 1, 0) == pytest.approx(expected)


def test_the_usual_waits() -> None:
    assert [Retry().delay(tries, 0) for tries in (1, 2, 3, 4)] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert Retry().delay(100, 0) == 30
    assert Retry(backoff=10, jitter=0.5).delay(1, 0.5) == 7.5


@given(st.integers(1, 50), st.integers(1, 60))
def test_attempts_count_all_tries(attempts: int, tries: int) -> None:
    assert Retry(attempts).again(ValueError(), tries) == (tries < attempts)
    assert Retry(None).again(ValueError(), tries)


@given(st.none() | st.integers(1, 3), TRIES)
def test_a_handler_decides_against_the_rule(attempts: int | None, tries: int) -> None:
    retry = Retry(attempts, on=(KeyError, Reject, RetryLater))
    assert not retry.again(Reject("bad"), tries)
    assert retry.again(RetryLater(5), tries)


def test_only_certain_errors_are_tried_again() -> None:
    retry = Retry(on=(ConnectionError, TimeoutError))
    assert retry.again(ConnectionResetError(), 1)
    assert retry.again(TimeoutError(), 1)
    assert not retry.again(ValueError(), 1)
    assert Retry(on=OSError).again(FileNotFoundError(), 1)
    assert not Retry().again(KeyboardInterrupt(), 1)


# ---- what is kept


def test_durations_are_kept_in_seconds() -> None:
    retry = Retry(backoff=timedelta(milliseconds=50), max_backoff=timedelta(minutes=1))
    assert (retry.backoff, retry.max_backoff) == (0.05, 60.0)
    assert Batch(10, within=timedelta(seconds=2)).within == 2.0
    assert Rate(100, per=timedelta(minutes=1)).per == 60.0
    assert RetryLater(timedelta(minutes=1)).delay == 60.0


def test_defaults() -> None:
    assert Retry() == Retry(3, backoff=0.1, factor=2, max_backoff=30, jitter=0.2, on=Exception)
    assert Batch() == Batch(500, max_bytes=1_048_576, within=1, per_key=False)
    assert Rate(5) == Rate(5, per=1)


@pytest.mark.parametrize("option", [Retry(5, on=OSError), Batch(7, per_key=True), Rate(3, per=2)])
def test_options_are_values(option: Any) -> None:
    assert pickle.loads(pickle.dumps(option)) == option
    assert replace(option) == option
    assert hash(replace(option)) == hash(option)


def test_retry_later_says_when_and_why() -> None:
    error = RetryLater(1.5, "the service asks for a pause")
    assert str(error) == "again in 1.5 s: the service asks for a pause"
    assert str(RetryLater(60)) == "again in 60 s"
    again = pickle.loads(pickle.dumps(error))
    assert (again.delay, again.reason) == (1.5, "the service asks for a pause")
    for delay in (-1, float("nan")):
        with pytest.raises(ValueError, match="not negative"):
            RetryLater(delay)


# ---- what is refused

NONSENSE: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Retry(attempts=0)": (Retry, {"attempts": 0}),
    "Retry(attempts=-1)": (Retry, {"attempts": -1}),
    "Retry(attempts=True)": (Retry, {"attempts": True}),
    "Retry(attempts=1.5)": (Retry, {"attempts": 1.5}),
    "Retry(backoff=-1)": (Retry, {"backoff": -1}),
    "Retry(backoff='1s')": (Retry, {"backoff": "1s"}),
    "Retry(backoff='1')": (Retry, {"backoff": "1"}),
    "Retry(max_backoff=inf)": (Retry, {"max_backoff": float("inf")}),
    "Retry(max_backoff=5)": (Retry, {"backoff": 10, "max_backoff": 5}),
    "Retry(factor=0.5)": (Retry, {"factor": 0.5}),
    "Retry(factor=nan)": (Retry, {"factor": float("nan")}),
    "Retry(jitter=1.1)": (Retry, {"jitter": 1.1}),
    "Retry(jitter=-0.1)": (Retry, {"jitter": -0.1}),
    "Retry(on=())": (Retry, {"on": ()}),
    "Retry(on=ValueError('x'))": (Retry, {"on": ValueError("x")}),
    "Retry(on=<class 'KeyboardInterrupt'>)": (Retry, {"on": KeyboardInterrupt}),
    "Retry(on=(<class 'OSError'>, 'x'))": (Retry, {"on": (OSError, "x")}),
    "Batch(max_events=0)": (Batch, {"max_events": 0}),
    "Batch(max_bytes=0)": (Batch, {"max_bytes": 0}),
    "Batch(within=-1)": (Batch, {"within": -1}),
    "Batch(within=None)": (Batch, {"within": None}),
    "Batch(per_key='k')": (Batch, {"per_key": "k"}),
    "Rate(events=0)": (Rate, {"events": 0}),
    "Rate(events=0.5)": (Rate, {"events": 0.5}),
    "Rate(per=0)": (Rate, {"events": 1, "per": 0}),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused(what: str) -> None:
    kind, options = NONSENSE[what]
    with pytest.raises(DefinitionError) as caught:
        kind(**options)
    assert caught.value.message.startswith(what)
    assert "test_options.py:" in caught.value.where

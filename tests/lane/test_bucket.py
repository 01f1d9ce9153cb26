from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.bucket import BURST, Bucket

rates = st.tuples(st.integers(1, 100_000), st.sampled_from([0.01, 1.0, 5.0, 60.0, 3600.0]))


@given(rates, st.lists(st.tuples(st.floats(0, 20), st.integers(1, 500)), min_size=1, max_size=30))
def test_never_more_than_the_rate_and_what_may_come_at_once(
    rate: tuple[int, float], takes: list[tuple[float, int]]
) -> None:
    bucket = Bucket(*rate, now=100.0)
    now, begun = 100.0, []
    for pause, wanted in takes:
        now += pause
        n = min(wanted, max(1, int(bucket.capacity)))
        now += bucket.take(now, n)  # whoever takes waits as long as it is told
        begun.append((now, n))
    for i, (start, _) in enumerate(begun):
        together = 0
        for at, n in begun[i:]:
            together += n
            assert together <= bucket.rate * (at - start) * (1 + 1e-6) + bucket.capacity + 1e-3


@given(rates, st.integers(1, 1000))
def test_who_always_wants_more_gets_the_whole_rate(rate: tuple[int, float], n: int) -> None:
    bucket = Bucket(*rate, now=0.0)
    now = 0.0
    for _ in range(20):
        now += bucket.take(now, n)
    begun = 20 * n
    assert begun + 1e-6 >= (bucket.rate * now + min(bucket.capacity, begun)) * (1 - 1e-9) - 1e-3


@pytest.mark.parametrize(
    ("events", "per", "at_once"),
    [(100, 1.0, 10), (1, 5.0, 1), (3600, 3600.0, 1), (5, 0.01, 5), (10_000, 1.0, 1000)],
)
def test_what_may_come_at_once(events: int, per: float, at_once: int) -> None:
    bucket = Bucket(events, per, now=0.0)
    assert bucket.available(0.0) == at_once
    assert bucket.available(1e9) == at_once, "a pause does not make it more"
    assert bucket.capacity <= max(1, events / per * BURST)


def test_what_is_owed_is_paid_off_in_time() -> None:
    bucket = Bucket(100, 1.0, now=0.0)
    assert bucket.take(0.0, 10) == 0.0
    assert bucket.take(0.0) == pytest.approx(0.01)
    assert bucket.take(0.0) == pytest.approx(0.02)
    assert bucket.wait(0.015) == pytest.approx(0.005)
    assert bucket.available(0.015) == 0
    assert bucket.wait(0.03) == 0.0
    assert bucket.available(0.03) == 1


def test_giving_back() -> None:
    bucket = Bucket(100, 1.0, now=0.0)
    assert bucket.take(0.0, 50) == pytest.approx(0.4)
    bucket.give_back(0.0, 50)
    assert bucket.available(0.0) == 10
    bucket.give_back(0.0, 50)
    assert bucket.available(0.0) == 10


@given(
    rates,
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1), st.integers(0, 20)), min_size=1, max_size=20),
)
def test_with_another_share_nothing_comes_that_was_not_allowed(
    rate: tuple[int, float], steps: list[tuple[float, float, int]]
) -> None:
    """Whatever the shares are, what begins is at most what they allow, and each change brings nothing."""
    bucket = Bucket(*rate, now=0.0)
    now, allowed, begun = 0.0, bucket.capacity, 0
    for pause, share, wanted in steps:
        now += pause
        allowed += bucket.rate * pause
        n = min(wanted, bucket.available(now))
        bucket.take(now, n)
        begun += n
        assert begun <= allowed * (1 + 1e-9) + 1e-6
        before = bucket.available(now)
        bucket.resize(now, share)
        assert bucket.available(now) <= before


def test_without_any_share_nothing_begins() -> None:
    bucket = Bucket(100, 1.0, now=0.0, share=0.0)
    assert bucket.take(0.0) == 0.0, "the one that may come at once"
    assert bucket.take(0.0) == math.inf
    bucket.resize(5.0, 0.5)
    assert bucket.wait(5.0) == pytest.approx(0.02)


def test_a_clock_that_stands_still_or_is_behind_changes_nothing() -> None:
    bucket = Bucket(100, 1.0, now=10.0)
    bucket.take(10.0, 10)
    assert bucket.available(9.0) == 0
    assert bucket.available(10.0) == 0

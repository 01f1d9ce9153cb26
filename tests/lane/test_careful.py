from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.careful import LONGEST, SHORTEST, CarefulPeriod


def length(period: CarefulPeriod, now: float) -> float:
    """For how long after `now` it lasts."""
    low, high = 0.0, 2 * LONGEST
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if period.over(now + middle) else (middle, high)
    return high


def test_nothing_to_be_careful_about_at_first() -> None:
    assert CarefulPeriod().over(0.0)


def test_it_doubles_each_time_up_to_a_limit() -> None:
    period, now, lengths = CarefulPeriod(), 0.0, []
    for _ in range(12):
        period.went_back(now)
        lengths.append(round(length(period, now), 3))
        now += lengths[-1]
    assert lengths == [min(SHORTEST * 2**n, LONGEST) for n in range(12)]


def test_after_a_long_time_without_failures_it_starts_from_the_shortest() -> None:
    period = CarefulPeriod()
    period.went_back(0.0)
    period.went_back(1.0)
    period.went_back(1.0 + 2.0 + 20.1)
    assert round(length(period, 23.1), 3) == SHORTEST


def test_a_failure_in_the_period_prolongs_it_and_one_after_it_does_not() -> None:
    period = CarefulPeriod()
    period.went_back(0.0)
    period.failed(0.9)
    assert not period.over(1.3)
    assert period.over(1.5)
    period.failed(2.0)
    assert period.over(2.0)


@given(st.lists(st.tuples(st.floats(0, 1_000), st.booleans()), max_size=50))
def test_it_never_lasts_longer_than_its_limit(steps: list[tuple[float, bool]]) -> None:
    period, now = CarefulPeriod(), 0.0
    for elapsed, back in steps:
        now += elapsed
        (period.went_back if back else period.failed)(now)
        assert period.over(now + LONGEST)
        assert not back or not period.over(now + SHORTEST / 2)

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.share import PARTS, DeadLetterShare

steps = st.lists(
    st.tuples(st.floats(0, 30), st.integers(0, 50), st.floats(0, 1)), min_size=1, max_size=60
)  # pause, events, how many of them die


@given(steps, st.floats(0, 1), st.integers(1, 60))
def test_as_if_every_event_were_remembered(
    steps: list[tuple[float, int, float]], limit: float, at_least: int
) -> None:
    share = DeadLetterShare(limit, at_least)
    now = 1000.0
    remembered: list[tuple[float, int, int]] = []
    for pause, events, part in steps:
        now += pause
        dead = int(events * part)
        share.event(now, events)
        for _ in range(dead):
            share.dead_letter(now)
        remembered.append((now, events, dead))

        recent = [(e, d) for at, e, d in remembered if now // 1 - at // 1 < PARTS]
        all_events, all_dead = sum(e for e, _ in recent), sum(d for _, d in recent)
        assert (share.events, share.dead_letters) == (all_events, all_dead)
        expected = limit < 1 and all_dead >= at_least and all_dead > limit * all_events
        assert share.exceeded(now) == expected
    assert not share.exceeded(now + 60), "nothing is held against it for longer than a minute"


def test_a_few_dead_letters_prove_nothing() -> None:
    share = DeadLetterShare(0.5)
    for n in range(99):
        share.event(n / 10)
        share.dead_letter(n / 10)
    assert not share.exceeded(9.9)
    share.event(9.9)
    share.dead_letter(9.9)
    assert share.exceeded(9.9)
    share.event(9.9, 100)
    assert not share.exceeded(9.9), "half of them is not more than half"
    share.event(9.9)
    share.dead_letter(9.9)
    assert share.exceeded(9.9)


def test_all_may_become_dead_letters_if_the_limit_says_so() -> None:
    share = DeadLetterShare(1.0, at_least=1)
    share.event(0.0, 5)
    for _ in range(5):
        share.dead_letter(0.0)
    assert not share.exceeded(0.0)


def test_none_may_if_the_limit_says_so() -> None:
    share = DeadLetterShare(0.0, at_least=1)
    share.event(0.0, 1000)
    assert not share.exceeded(0.0)
    share.dead_letter(0.0)
    assert share.exceeded(0.0)


@given(st.lists(st.floats(0, 0.3), max_size=300), st.floats(0.001, 5))
def test_memory_is_bounded(pauses: list[float], span: float) -> None:
    share = DeadLetterShare(0.5, span=span)
    now = 0.0
    for pause in pauses:
        now += pause
        share.event(now)
        share.dead_letter(now)
        assert len(share._counts) <= PARTS

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.refusals import PATIENCE, Refusals
from reflow_kafka.log.api import TopicPartition

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def lane(bad: dict[TopicPartition, set[int]], ends: dict[TopicPartition, int], capacity: int) -> list[object]:
    """What a lane does that commits as much as it may; returns the culprits in order."""
    refusals, done, dead = Refusals(), dict.fromkeys(ends, 0), []
    for _ in range(10_000):
        if done == ends:
            assert refusals.limit is None
            return dead
        at, events, last, letters = dict(done), 0, None, []
        while events < min(refusals.limit or capacity, capacity) and at != ends:
            tp = min((tp for tp in ends if at[tp] < ends[tp]), key=lambda tp: at[tp])
            if refusals.reason(tp, at[tp]) is not None:
                letters.append((tp, at[tp]))
            last = (tp, at[tp])
            at[tp] += 1
            events += 1
        results = {(tp, n) for tp in ends for n in range(done[tp], at[tp])} - set(letters)
        if any(n in bad[tp] for tp, n in results):
            assert refusals.refused(events, last, at, "too large")
            continue
        refusals.accepted(at)
        done, dead = at, dead + letters
    raise AssertionError(f"no end: {done} of {ends}")


@given(bad=st.sets(st.integers(0, 60)), other=st.sets(st.integers(0, 30)), capacity=st.integers(1, 50))
def test_exactly_the_culprits_are_found(bad: set[int], other: set[int], capacity: int) -> None:
    dead = lane({A: bad, B: other}, {A: 61, B: 31}, capacity)
    assert sorted(dead) == sorted([(A, n) for n in bad] + [(B, n) for n in other])  # type: ignore[type-var]


def test_a_commit_without_events_cannot_be_helped() -> None:
    assert not Refusals().refused(0, None, {A: 3}, "refused")


def test_a_dead_letter_that_is_refused_too_cannot_be_helped() -> None:
    refusals = Refusals()
    assert refusals.refused(1, (A, 7), {A: 8}, "refused")
    assert refusals.reason(A, 7) == "refused"
    assert not refusals.refused(1, (A, 7), {A: 8}, "refused")


def test_what_is_past_is_forgotten() -> None:
    refusals = Refusals()
    refusals.refused(8, (A, 7), {A: 8, B: 2}, "refused")
    assert refusals.limit == 4
    refusals.accepted({A: 4, B: 2})
    refusals.accepted({A: 8, B: 2})
    assert refusals.limit is None


def test_an_event_that_waits_for_long_does_not_keep_commits_small() -> None:
    refusals = Refusals()
    assert refusals.refused(1, (A, 7), {A: 8}, "refused")
    for _ in range(20):
        refusals.accepted({A: 3})
    assert refusals.limit is None
    assert refusals.reason(A, 7) == "refused", "it is still to come"
    assert refusals.refused(1, (A, 7), {A: 8}, "refused"), "nobody was looking for it"
    assert not refusals.refused(1, (A, 7), {A: 8}, "refused")


def test_commits_grow_only_once_a_culprit_is_found() -> None:
    """Those of others are accepted again and again, while the suspects wait to come together once more."""
    refusals = Refusals()
    refusals.refused(16, (A, 7), {A: 16, B: 2}, "refused")
    for n in range(100):
        refusals.accepted({A: 0, B: 2 + n})
        assert refusals.limit == 8
    refusals.refused(1, (A, 7), {A: 8, B: 2}, "refused")
    refusals.accepted({A: 0, B: 200})
    assert refusals.limit == 2


def test_suspects_that_never_come_are_given_up() -> None:
    refusals = Refusals()
    refusals.refused(16, (A, 7), {A: 16}, "refused")
    for _ in range(PATIENCE + 20):
        refusals.accepted({A: 0})
    assert refusals.limit is None

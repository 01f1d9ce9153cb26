"""Events of several inputs are taken in the order of their timestamps, and nothing waits without reason."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.order import InOrder
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local import LocalRecord

INPUTS = [TopicPartition(name, 0) for name in "abc"]
A, B, C = INPUTS


def records(times: Sequence[int]) -> list[LocalRecord]:
    return [LocalRecord(n, at, None, None, []) for n, at in enumerate(times)]


def order(*inputs: tuple[list[int], bool]) -> InOrder:
    """Inputs with the timestamps at hand, and whether there is more in the log."""
    there = dict(zip(INPUTS, inputs, strict=False))
    made = InOrder({tp: side for side, tp in enumerate(there)}, lambda tp: there[tp][1])
    for tp, (times, _) in there.items():
        if times:
            made.give(tp, records(times))
    return made


def taken(made: InOrder, most: int = 100) -> list[tuple[str, list[int]]]:
    """By input, the timestamps of what is taken."""
    return [(tp.topic, [record.timestamp for record in some]) for tp, some, _ in made.take(most)]


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        ([], []),
        ([([5], False)], [("a", [5])]),
        ([([], False), ([], False)], []),
        ([([5], True), ([4], True)], [("b", [4])]),  # then it may go on with another 4
        ([([5], True), ([4], False)], [("b", [4]), ("a", [5])]),
        ([([5], False), ([5], False)], [("b", [5]), ("a", [5])]),  # of the same time: what is on the right
        ([([-5, 0], False), ([0, 1], False)], [("a", [-5]), ("b", [0]), ("a", [0]), ("b", [1])]),
        ([([5, 6], True), ([], False)], [("a", [5, 6])]),  # idle, or read to its end
        ([([5, 6], True), ([], True)], []),  # something older may come
        ([([5], True), ([4], False), ([], True)], []),
        ([([1, 2, 3, 2, 4], True), ([3, 9], True)], [("a", [1, 2]), ("b", [3]), ("a", [3, 2, 4])]),
        ([([1, 4], True), ([2, 5], True), ([3], True)], [("a", [1]), ("b", [2]), ("c", [3])]),
    ],
)
def test_the_oldest_goes_first(
    inputs: list[tuple[list[int], bool]], wanted: list[tuple[str, list[int]]]
) -> None:
    assert taken(order(*inputs)) == wanted


def test_a_batch_ends_with_its_last_event() -> None:
    made = order(([1, 2, 4], False), ([3], False))
    made.give(A, records([5]))
    assert [(piece.partition, piece.last) for piece in made.take(2)] == [(A, False)]
    assert [(piece.partition, piece.last) for piece in made.take(9)] == [(B, True), (A, True), (A, True)]
    assert not made


def test_nothing_is_at_hand_after_going_back() -> None:
    made = order(([1, 2], False), ([3], False))
    made.take(1)
    made.clear()
    assert not made
    assert not made.ready()
    made.give(A, records([7, 8]))
    assert taken(made) == [("a", [7, 8])]


@given(
    sides=st.lists(st.lists(st.integers(-5, 5), max_size=6), min_size=1, max_size=3),
    counts=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), max_size=20),
)
def test_they_come_in_order_as_far_as_each_input_is_whatever_is_given_back(
    sides: list[list[int]], counts: list[tuple[int, int]]
) -> None:
    made = order(*((sorted(side), False) for side in sides))
    found: list[tuple[int, int, int]] = []
    for most, kept in [*counts, (100, 100)]:
        pieces = made.take(most)
        assert sum(len(piece.records) for piece in pieces) <= most
        again = []
        for piece in pieces:
            now, later = piece.divided(kept)
            kept = max(kept - len(piece.records), 0)
            found += [
                (record.timestamp, -INPUTS.index(now.partition), record.offset) for record in now.records
            ]
            if later.records:
                again.append(later)
        for piece in reversed(again):
            made.give_back(piece)
    wanted = [(at, -side, n) for side, times in enumerate(sides) for n, at in enumerate(sorted(times))]
    assert found == sorted(wanted)
    assert not made

"""How many calls of a worker may be in progress."""

from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.concurrency import LONG_TURN, PER_TURN, Concurrency

LONG, SHORT = 2 * LONG_TURN, LONG_TURN / 2


def test_a_stage_that_wants_few_gets_them_at_once_and_keeps_them():
    concurrency = Concurrency(10)
    assert concurrency.limit == 10
    concurrency.turned(LONG, ended=10, running=10)
    assert concurrency.limit == 10


def test_it_grows_to_what_the_stage_allows_while_turns_are_short():
    concurrency = Concurrency(1000)
    for _ in range(100):
        concurrency.turned(SHORT, ended=500, running=concurrency.limit)
    assert concurrency.limit == 1000


def test_it_grows_in_long_turns_that_are_not_its_doing():
    concurrency = Concurrency(1000)
    for _ in range(100):
        concurrency.turned(LONG, ended=PER_TURN, running=concurrency.limit)
    assert concurrency.limit == 1000


def test_it_does_not_grow_unless_it_is_reached():
    concurrency = Concurrency(1000)
    concurrency.turned(SHORT, ended=1, running=PER_TURN - 1)
    assert concurrency.limit == PER_TURN


def test_it_falls_by_as_many_as_end_too_much():
    concurrency = Concurrency(1000)
    for _ in range(100):
        concurrency.turned(SHORT, ended=0, running=concurrency.limit)
    concurrency.turned(LONG, ended=PER_TURN + 300, running=1000)
    assert concurrency.limit == 700
    concurrency.turned(LONG, ended=PER_TURN + 200, running=500)
    assert concurrency.limit == 300


@given(
    most=st.integers(1, 5000),
    turns=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1), st.floats(0, 1.5))),
)
def test_it_stays_in_its_bounds(most, turns):
    concurrency = Concurrency(most)
    for seconds, running, ended in turns:
        calls = int(running * concurrency.limit)
        concurrency.turned(seconds, int(ended * calls), calls)
        assert min(most, PER_TURN) <= concurrency.limit <= most

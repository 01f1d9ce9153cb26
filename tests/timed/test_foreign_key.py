"""A table whose rows refer to those of another: three programs with lanes between them, in any order."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.definition.references import Answer, Reference
from reflow_kafka.serde.keys import encode_key
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.state.shelf import Shelf, Shelves, as_is
from reflow_kafka.state.store import LaneStores, StoreMark
from reflow_kafka.timed.foreign_key import Answers, How, Meetings, References
from reflow_kafka.timed.program import NEVER
from tests.timed.driver import STORE, Driver, Out

JSON = edge_codec(Any)
REFERENCE, ANSWER = edge_codec(Reference), edge_codec(Answer)
LEFT, RIGHT = 0, 1


class Join:
    """The three stages; the middle one has lanes, and what is under way in each comes when it is told to."""

    def __init__(
        self, how: How, lanes: int = 1, on: Any = lambda row: row, shown: Any = lambda row: row
    ) -> None:
        def shelf(stores: LaneStores, shelves: Shelves, prefix: bytes) -> Shelf[bytes]:
            return shelves.add(Shelf(stores, STORE, prefix, as_is, as_is))

        def references(*place: Any) -> References:
            return References(shelf(*place, b"r"), shelf(*place, b"n"), JSON, lambda row: encode_key(on(row)))

        def meetings(*place: Any) -> Meetings:
            return Meetings(shelf(*place, b"r"), shelf(*place, b"f"), JSON)

        def answers(*place: Any) -> Answers:
            return Answers(shelf(*place, b"r"), shelf(*place, b"x"), (JSON, JSON), how)

        self.references = Driver(references)
        self.meetings = [Driver(meetings) for _ in range(lanes)]
        self.answers = Driver(answers, handler=lambda left, right: [shown(left), right])
        self.to_meet: list[deque[tuple[int, Out]]] = [deque() for _ in range(lanes)]
        self.to_answer: list[deque[Out]] = [deque() for _ in range(lanes)]

    def left(self, key: str, row: Any, timestamp: int = 0) -> None:
        for out in self.references.event(row, key=key.encode(), timestamp=timestamp) or ():
            self._meet(0, out, REFERENCE.decode(REFERENCE.encode(out.value)))

    def right(self, key: Any, row: Any, timestamp: int = 0) -> None:
        self._meet(1, Out(row, encode_key(key), timestamp), row)

    def _meet(self, side: int, out: Out, value: Any) -> None:
        assert out.key is not None
        lane = sum(out.key) % len(self.meetings)
        self.to_meet[lane].append((side, Out(value, out.key, out.timestamp)))

    def meet(self, lane: int) -> None:
        """The middle stage takes the next of a lane."""
        if self.to_meet[lane]:
            side, out = self.to_meet[lane].popleft()
            found = self.meetings[lane].event(out.value, key=out.key, timestamp=out.timestamp, side=side)
            self.to_answer[lane] += found or ()

    def answer(self, lane: int) -> list[Out]:
        """The last stage takes the next of a lane."""
        if not self.to_answer[lane]:
            return []
        out = self.to_answer[lane].popleft()
        value = ANSWER.decode(ANSWER.encode(out.value))
        return self.answers.event(value, key=out.key, timestamp=out.timestamp) or []

    def run(self) -> list[str]:
        """Everything that is under way; the results as text, a tombstone without anything behind the key."""
        found = []
        for lane in range(len(self.meetings)):
            while self.to_meet[lane]:
                self.meet(lane)
            while self.to_answer[lane]:
                found += self.answer(lane)
        return [shown(out) for out in found]


def shown(out: Out) -> str:
    key = (out.key or b"").decode()
    return key if out.value is None else f"{key},{out.value[0]},{out.value[1]}"


@pytest.mark.parametrize("how", ["inner", "left"])
def test_the_table_of_kafka_streams(how: How) -> None:
    """A tombstone is emitted for a result that has been; the documented table repeats it at 3."""
    join = Join(how, on=lambda row: row["on"], shown=lambda row: row["on"])
    inner = {1: ["k,1,foo"], 2: ["k"], 4: ["k,3,bar"], 5: ["k"], 6: ["k,1,foo"], 9: ["q,10,baz", "r,10,baz"]}
    changed = {2: ["k,2,None"], 3: ["k,3,None"], 5: ["k,None,None"], 7: ["q,10,None"], 8: ["r,10,None"]}
    wanted = inner if how == "inner" else inner | changed
    steps: list[Any] = [
        [("k", 1), (1, "foo")], [("k", 2)], [("k", 3)], [(3, "bar")], [("k", None)], [("k", 1)], [("q", 10)],
        [("r", 10)], [(10, "baz")],
    ]  # fmt: skip
    join.right(1, "foo")
    found = {}
    for at, (change, *_) in enumerate(steps, 1):
        if isinstance(change[0], str):
            join.left(change[0], {"on": change[1]})
        else:
            join.right(*change)
        if out := join.run():
            found[at] = out
    assert found == wanted


def test_rows_that_go_take_their_results_along() -> None:
    join = Join("inner")
    join.left("k", 1)
    join.right(1, "foo")
    assert join.run() == ["k,1,foo"]
    join.right(1, None)
    assert join.run() == ["k"]
    join.right(1, "bar")
    assert join.run() == ["k,1,bar"]
    join.left("k", None)
    assert join.run() == ["k"]
    join.left("k", None)
    join.right(1, None)
    join.right(1, None)
    assert join.run() == []
    assert join.meetings[0].stored() == {}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        pytest.param([("k", None, 60)], [("k", 100)], id="the left row goes"),
        pytest.param([("k", "", 60)], [("k,,None", 100)], id="it refers to nothing"),
        pytest.param([("k", "b", 60)], [("k,b,2", 100)], id="it refers to an older row"),
        pytest.param([("k", "c", 60)], [("k,c,None", 100)], id="it refers to a row that is not there"),
        pytest.param([("k", None, 120)], [("k", 120)], id="it goes later"),
        pytest.param([("k", "b", 120)], [("k,b,2", 120)], id="it refers to an older row later"),
        pytest.param([("a", None, 60)], [("k,a,None", 100)], id="the right row goes back in time"),
        pytest.param([("a", "3", 60)], [("k,a,3", 100)], id="its next one is older"),
        pytest.param(
            [("a", None, 120), ("k", "b", 60)],
            [("k,a,None", 120), ("k,b,2", 120)],
            id="the right row goes, and the left one changes",
        ),
        pytest.param(
            [("k", None, 60), ("k", "b", 70)],
            [("k", 100), ("k,b,2", 100)],
            id="the left row goes and comes back",
        ),
        pytest.param(
            [("k", None, 60), ("a", None, 130), ("k", "b", 140)],
            [("k", 100), ("k,b,2", 140)],
            id="what it does not refer to any more counts no more",
        ),
    ],
)
@pytest.mark.parametrize("how", ["inner", "left"])
def test_a_result_has_the_later_time_and_is_no_older_than_the_one_before(
    how: How, changes: list[Any], wanted: list[Any]
) -> None:
    join = Join(how, on=lambda row: row or None)
    join.right("a", "1", timestamp=100)
    join.right("b", "2", timestamp=10)
    join.right("k", "the row of another", timestamp=500)
    join.left("k", "a", timestamp=50)
    join.run()
    for key, row, timestamp in changes:
        (join.left if key == "k" else join.right)(key, row, timestamp)
        join.run()
        join.answers.commit()
        join.answers.restart()
    found = [(shown(out), out.timestamp) for out in join.answers.out]
    gone = [("k" if how == "inner" and text.endswith("None") else text, at) for text, at in wanted]
    assert found == [("k,a,1", 100), *gone]


def test_of_a_left_row_that_is_gone_the_time_of_its_result_is_known_as_long_as_time_is_behind_it() -> None:
    join = Join("inner")
    join.right(1, "foo", timestamp=100)
    join.right(2, "bar", timestamp=10)
    join.left("k", 1, timestamp=50)
    join.left("k", None, timestamp=60)
    join.run()
    join.answers.advance(100)
    join.left("k", 2, timestamp=70)
    assert join.run() == ["k,2,bar"]
    assert join.answers.out[-1].timestamp == 100
    join.left("k", None, timestamp=80)
    join.run()
    join.answers.advance(101)
    assert join.answers.stored() == {}


def test_a_result_that_was_stored_without_a_time_is_taken_back() -> None:
    join = Join("inner")
    join.right(1, "foo", timestamp=100)
    join.left("k", 1, timestamp=50)
    join.run()
    answers = join.answers
    short = [(key, value[:9]) for key, value in answers.stored().items()]
    answers.stores.write({STORE: short}, StoreMark("incarnation", {STORE: 1}, 0))
    answers.restart()
    join.left("k", None, timestamp=60)
    assert join.run() == ["k"]
    assert answers.out[-1].timestamp == 60


def test_what_is_gone_is_forgotten_once_nothing_older_can_come() -> None:
    join = Join("left")
    join.references.advance(50)
    join.left("k", 1, timestamp=70)
    join.left("k", None, timestamp=10)
    join.run()
    join.answers.advance(70)
    assert join.answers.stored() != {}
    join.answers.advance(71)
    assert join.answers.stored() == {}


def test_what_is_gone_again_is_not_forgotten_as_early_as_what_was_gone_before() -> None:
    join = Join("inner")
    join.right(1, "foo")
    join.left("k", 1, timestamp=10)
    join.left("k", None, timestamp=20)
    join.run()
    join.left("k", 1, timestamp=30)
    join.meet(0)
    overtaken = join.to_answer[0].popleft()
    join.left("k", None, timestamp=40)
    join.run()
    join.answers.advance(30)
    join.to_answer[0].append(overtaken)
    assert join.answer(0) == []
    join.answers.advance(41)
    assert join.answers.stored() == {}


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("last", ["b", "", None])
def test_an_answer_that_was_overtaken_is_ignored(how: How, last: str | None) -> None:
    join = Join(how, lanes=3, on=lambda row: row or None)
    join.right("a", "1")
    join.right("b", "2")
    join.left("k", "a")
    for lane in (0, 1, 2):
        join.meet(lane)
        join.meet(lane)
    join.left("k", last)
    lane_of_a, *others = (b"a"[0] % 3, b"b"[0] % 3, b"k"[0] % 3)
    overtaken = join.to_answer[lane_of_a].popleft()
    for lane in {lane_of_a, *others}:
        while join.to_meet[lane]:
            join.meet(lane)
        while join.to_answer[lane]:
            join.answer(lane)
    found = list(join.answers.out)
    join.to_answer[lane_of_a].append(overtaken)
    assert join.answer(lane_of_a) == []
    wanted = {"b": "k,b,2", "": "k,,None" if how == "left" else None, None: None}[last]
    assert [shown(out) for out in found] == ([] if wanted is None else [wanted])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("left"), st.sampled_from("kq"), st.sampled_from([None, "", "a", "b", "c"])),
        st.tuples(st.just("right"), st.sampled_from("abc"), st.sampled_from([None, "1", "2"])),
        st.tuples(st.just("meet"), st.integers(0, 2)),
        st.tuples(st.just("answer"), st.integers(0, 2)),
        st.tuples(st.just("restart")),
    ),
    max_size=60,
)


@given(how=st.sampled_from(["inner", "left"]), steps=STEPS)
def test_whatever_overtakes_what_the_end_is_the_join_of_both_tables(how: How, steps: list[Any]) -> None:
    join = Join(how, lanes=3, on=lambda row: row or None)
    left: dict[str, str] = {}
    right: dict[str, str] = {}
    result: dict[str, Any] = {}

    def take(found: list[Out]) -> None:
        for out in found:
            key = (out.key or b"").decode()
            if out.value is None:
                del result[key]  # there is nothing to retract that has not been
            else:
                result[key] = out.value

    for now, step in enumerate(steps):
        if step[0] == "left":
            join.left(step[1], step[2], timestamp=now)
            left.pop(step[1], None) if step[2] is None else left.update({step[1]: step[2]})
        elif step[0] == "right":
            join.right(step[1], step[2], timestamp=now)
            right.pop(step[1], None) if step[2] is None else right.update({step[1]: step[2]})
        elif step[0] == "meet":
            join.meet(step[1])
        elif step[0] == "answer":
            take(join.answer(step[1]))
        else:
            for driver in (join.references, *join.meetings, join.answers):
                driver.commit()
                driver.restart()
    for lane in range(3):
        while join.to_meet[lane]:
            join.meet(lane)
        while join.to_answer[lane]:
            take(join.answer(lane))
    wanted = {key: [row, right.get(row)] for key, row in left.items()}
    assert result == {key: row for key, row in wanted.items() if how == "left" or row[1] is not None}
    join.answers.advance(NEVER)
    assert len(join.answers.stored()) == len(left)

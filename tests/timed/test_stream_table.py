"""A stream and a table: the row of now, or the one that held at the event's time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.state.shelf import Shelf, Shelves, as_is
from reflow_kafka.state.store import LaneStores
from reflow_kafka.timed.program import LONG_AGO, NEVER
from reflow_kafka.timed.stream_table import QUIET, AsOf, How, Latest, decode_history, encode_history
from tests.timed.driver import STORE, Driver, values

JSON = edge_codec(Any)
L, R = 0, 1


def pair(left: Any, right: Any) -> list[Any]:
    return [left, right]


def latest(how: How) -> Driver:
    def make(stores: LaneStores, shelves: Shelves) -> Latest:
        return Latest(shelves.add(Shelf(stores, STORE, b"r", as_is, as_is)), JSON, how)

    return Driver(make, handler=pair)


def as_of(how: How, grace: int = 0, handler: Any = pair) -> Driver:
    def make(stores: LaneStores, shelves: Shelves) -> AsOf:
        rows = shelves.add(Shelf(stores, STORE, b"r", encode_history, decode_history))
        agenda = shelves.add(Shelf(stores, STORE, b"x", as_is, as_is))
        return AsOf(rows, agenda, (JSON, JSON), how, grace)

    return Driver(make, handler=handler)


# ---- the table of Kafka Streams

INPUT = [
    (1, L, None), (2, R, None), (3, L, "A"), (4, R, "a"), (5, L, "B"), (6, R, "b"), (7, L, None),
    (8, R, None), (9, L, "C"), (10, R, "c"), (11, R, None), (12, L, None), (13, R, None), (14, R, "d"),
    (15, L, "D"),
]  # fmt: skip
INNER = {5: ["B", "a"], 15: ["D", "d"]}
LEFT = INNER | {3: ["A", None], 9: ["C", None]}


@pytest.mark.parametrize(("how", "wanted"), [("inner", INNER), ("left", LEFT)])
@pytest.mark.parametrize("make", [latest, as_of])
def test_the_table_of_kafka_streams(make: Any, how: How, wanted: dict[int, Any]) -> None:
    join = make(how)
    found = {}
    for at, side, value in INPUT:
        out = join.event(value, timestamp=at, side=side) + join.advance(at + 1)
        if out:
            (found[at],) = values(out)
    assert found == wanted


# ---- latest


def test_the_row_of_now_counts_whatever_its_time() -> None:
    join = latest("inner")
    join.event("new", timestamp=100, side=R)
    join.event("old", timestamp=50, side=R)
    join.event("x", timestamp=10, side=L, headers=[("h", b"1")])
    (out,) = join.out
    assert (out.value, out.timestamp, out.headers) == (["x", "old"], 10, [("h", b"1")])


def test_a_deleted_row_leaves_nothing_behind() -> None:
    join = latest("left")
    join.event("a", side=R)
    join.event(None, side=R)
    join.event(None, side=R, key=b"never there")
    assert join.stored() == {}


# ---- as of


@pytest.mark.parametrize("base", [0, -100, 1_700_000_000_000])
@pytest.mark.parametrize(
    ("at", "row"), [(9, None), (10, "a"), (19, "a"), (20, "b"), (29, "b"), (30, None), (40, "c")]
)
def test_the_row_of_the_events_time_counts_whichever_comes_first(base: int, at: int, row: Any) -> None:
    rows = [(10, "a"), (20, "b"), (30, None), (40, "c")]
    for place in range(len(rows) + 1):
        join = as_of("left")
        for n, (since, value) in enumerate([*rows, (99, "z")]):
            if n == place:
                join.event("x", timestamp=base + at, side=L)
            join.event(value, timestamp=base + since, side=R)
        assert join.advance(base + at) == []
        assert values(join.advance(base + at + 1)) == [["x", row]]


def test_an_event_waits_for_the_grace() -> None:
    join = as_of("left", grace=5)
    join.event("x", timestamp=10)
    assert join.advance(15) == []
    join.event("a", timestamp=10, side=R)
    assert values(join.advance(16)) == [["x", "a"]]


def test_a_table_that_has_come_farther_is_enough() -> None:
    join = as_of("left")
    join.event("a", timestamp=10, side=R)
    join.event("x", timestamp=10)
    program(join).heard(10)
    assert values(join.advance(10)) == []
    program(join).heard(11)
    assert values(join.advance(10)) == [["x", "a"]]


@pytest.mark.parametrize(("grace", "wait"), [(0, QUIET), (30, QUIET + 30)])
def test_while_the_table_is_idle_time_goes_on_with_the_wall_clock(grace: int, wait: int) -> None:
    join = as_of("left", grace=grace)
    join.advance(9, now=100)
    join.event("x", timestamp=10)
    assert program(join).wake(100) is None
    assert program(join).heard(NEVER)
    assert not program(join).heard(NEVER)
    assert program(join).wake(100) == 100 + wait
    assert values(join.advance(now=100 + wait - 1)) == []
    assert values(join.advance(now=100 + wait)) == [["x", None]]
    assert program(join).wake(100 + wait) is None


def test_a_newer_event_shows_that_time_is_not_up() -> None:
    join = as_of("left")
    program(join).heard(NEVER)
    join.advance(now=100)
    join.event("x", timestamp=10)
    join.advance(now=600)
    join.event("y", timestamp=15)
    assert values(join.advance(now=600 + QUIET - 1)) == []
    assert values(join.advance(now=600 + QUIET)) == [["x", None], ["y", None]]


def test_after_a_restart_events_that_wait_are_not_forgotten() -> None:
    join = as_of("left")
    join.event("x", timestamp=10)
    join.commit()
    join.restart()
    program(join).heard(NEVER)
    assert values(join.advance(now=50)) == []
    assert program(join).wake(50) == 50 + QUIET
    assert values(join.advance(now=50 + QUIET)) == [["x", None]]


def test_after_a_restart_the_newest_event_that_waits_tells_the_time() -> None:
    join = as_of("left")
    join.event("x", timestamp=10)
    join.event("y", timestamp=10_000)
    join.commit()
    join.restart()
    program(join).heard(NEVER)
    assert values(join.advance(now=50)) == []
    assert values(join.advance(now=50 + QUIET)) == [["x", None], ["y", None]]


def test_what_is_put_off_wakes_nobody() -> None:
    join = as_of("left")
    join.advance(now=100)
    join.event("x", timestamp=10)
    join.event("y", timestamp=15)
    program(join).heard(NEVER)
    assert values(join.advance(now=100 + QUIET - 1, fail=1)) == []
    assert values(join.advance(now=100 + QUIET, fail=1)) == [["y", None]]
    assert program(join).wake(100 + QUIET) is None
    assert values(join.retry()) == [["x", None]]


def program(join: Driver) -> AsOf:
    assert isinstance(join.program, AsOf)
    return join.program


def test_of_two_rows_of_one_time_the_later_to_come_counts() -> None:
    join = as_of("inner")
    join.event("a", timestamp=10, side=R)
    join.event("b", timestamp=10, side=R)
    join.event("x", timestamp=10)
    assert values(join.advance(11)) == [["x", "b"]]


def test_events_come_in_order_of_their_times_and_of_arrival() -> None:
    join = as_of("left")
    for value, at in [("c", 3), ("a", 1), ("b", 2), ("d", 3)]:
        join.event(value, timestamp=at, headers=[("h", value.encode())])
    out = join.advance(10)
    assert [(o.value[0], o.timestamp, o.headers) for o in out] == [
        (v, at, [("h", v.encode())]) for v, at in [("a", 1), ("b", 2), ("c", 3), ("d", 3)]
    ]


def test_an_event_that_is_behind_does_not_wait_if_its_row_is_known() -> None:
    join = as_of("inner")
    join.event("a", timestamp=10, side=R)
    join.advance(20)
    join.event("b", timestamp=20, side=R)
    join.event("x", timestamp=15)
    assert values(join.out) == [["x", "a"]]


def test_an_event_whose_row_is_forgotten_is_late() -> None:
    join = as_of("left")
    for at in (10, 20, 30):
        join.event(str(at), timestamp=at, side=R)
    join.advance(40)
    join.event("40", timestamp=40, side=R)
    join.event("x", timestamp=25)
    join.event("y", timestamp=30)
    assert [(out.value, out.to) for out in join.out] == [("x", "late"), (["y", "30"], None)]


def test_a_deleted_row_is_forgotten_when_nobody_asks_for_it() -> None:
    join = as_of("left", grace=3)
    join.event("a", timestamp=10, side=R)
    join.event(None, timestamp=20, side=R)
    join.event("x", timestamp=19)
    assert values(join.advance(23)) == [["x", "a"]]
    assert b"rkey" in join.stored()
    join.advance(24)
    assert b"rkey" not in join.stored()


GONE = [(1, "a"), (5, None)]


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("rows", "after", "at", "wanted"),
    [
        pytest.param(GONE, [], 3, "late", id="the row that held is forgotten"),
        pytest.param(GONE, [], 0, "late", id="before the first row, which nobody knows any more"),
        pytest.param(GONE, [], 5, None, id="from the deletion on there is none"),
        pytest.param(GONE, [(70, "b")], 3, "late", id="a row that came back says nothing of before"),
        pytest.param(GONE, [(70, "b")], 65, None, id="but that there was none since the deletion"),
        pytest.param([*GONE, (60, "b")], [], 3, "late", id="a row that was there again in time"),
        pytest.param([(5, None)], [], 3, None, id="there never was one to forget"),
        pytest.param([], [], 3, None, id="there is nothing"),
    ],
)
def test_an_event_for_a_row_that_was_deleted_and_forgotten_is_late(
    how: How, restarts: bool, rows: list[Any], after: list[Any], at: int, wanted: str | None
) -> None:
    join = as_of(how)
    for since, row in rows:
        join.event(row, timestamp=since, side=R)
    join.advance(67)
    for since, row in after:
        join.event(row, timestamp=since, side=R)
    join.advance(80)
    if restarts:
        join.commit()
        join.restart()
    join.event("x", timestamp=at)
    none = [(["x", None], None)] if how == "left" else []
    assert [(out.value, out.to) for out in join.out] == ([("x", "late")] if wanted else none)


def test_of_rows_that_were_forgotten_stays_one_time_for_all_keys() -> None:
    join = as_of("left")
    for n in range(20):
        join.event("a", key=b"%d" % n, timestamp=0, side=R)
        join.event(None, key=b"%d" % n, timestamp=20 - n, side=R)
    join.advance(100)
    assert len(join.stored()) == 1
    join.event("x", key=b"other", timestamp=19)
    join.event("y", key=b"other", timestamp=20)
    assert [(out.value, out.to) for out in join.out] == [("x", "late"), (["y", None], None)]


def test_a_tombstone_counts_though_the_row_before_it_comes_later() -> None:
    join = as_of("left")
    join.event(None, timestamp=20, side=R)
    join.event("a", timestamp=10, side=R)
    join.event("x", timestamp=25)
    assert values(join.advance(26)) == [["x", None]]
    assert b"rkey" not in join.stored()
    join.event(None, timestamp=10, side=R)
    assert b"rkey" not in join.stored()


def test_a_row_that_came_back_stays() -> None:
    join = as_of("left")
    join.event("a", timestamp=10, side=R)
    join.event(None, timestamp=20, side=R)
    join.event("b", timestamp=30, side=R)
    join.advance(100)
    join.event("x", timestamp=100)
    assert values(join.advance(NEVER)) == [["x", "b"]]


def test_what_fails_still_finds_its_row_later() -> None:
    bad = {"x"}

    def handler(left: str, right: str | None) -> list[str | None]:
        if left in bad:
            raise ValueError(left)
        return [left, right]

    join = as_of("left", handler=handler)
    join.event("a", timestamp=10, side=R)
    join.event("x", timestamp=15)
    join.event(None, timestamp=20, side=R)
    join.advance(50)
    join.event("b", timestamp=30, side=R)
    join.event("c", timestamp=40, side=R)
    assert join.program.holds(50) == 15
    assert join.program.pending()
    bad.clear()
    assert values(join.retry()) == [["x", "a"]]
    assert join.program.holds(50) == 50
    assert not join.program.pending()


def test_what_is_given_up_is_told_of() -> None:
    join = as_of("left", handler=lambda left, right: 1 / 0)
    join.event("x", key=b"k", timestamp=15)
    join.event("y", key=b"k", timestamp=15)
    join.advance(50)
    (id,) = join.put_off
    assert join.give_up(id) == (b"k", b'"x"')
    join.advance()
    (id,) = join.put_off
    assert join.give_up(id) == (b"k", b'"y"')
    assert join.stored() == {}


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["stream", "row", "tombstone"]),
            st.sampled_from([b"a", b"b"]),
            st.integers(-10, 30),
        ),
        st.tuples(st.just("watermark"), st.integers(0, 8)),
        st.tuples(st.just("restart")),
    ),
    max_size=40,
)


@given(how=st.sampled_from(["inner", "left"]), grace=st.integers(0, 3), steps=STEPS)
def test_events_within_the_grace_meet_the_row_of_their_time(how: How, grace: int, steps: list[Any]) -> None:
    """The model knows all rows there have been, and answers when all up to an event's time have come."""
    join = as_of(how, grace)
    rows: list[tuple[bytes, int, int, Any]] = []
    waiting: list[tuple[int, int, bytes]] = []
    watermark = -10

    def held(key: bytes, at: int) -> Any:
        known = [(since, n, row) for k, since, n, row in rows if k == key and since <= at]
        return max(known)[2] if known else None

    def answers(asked: list[tuple[int, int, bytes]]) -> list[Any]:
        pairs = [[n, held(key, at)] for at, n, key in sorted(asked)]
        return [p for p in pairs if how == "left" or p[1] is not None]

    join.advance(watermark)
    for n, step in enumerate([*steps, ("watermark", None)]):
        if step[0] == "watermark":
            watermark = NEVER if step[1] is None else watermark + step[1]
            done = [e for e in waiting if e[0] + grace < watermark]
            waiting = [e for e in waiting if e not in done]
            assert sorted(map(repr, values(join.advance(watermark)))) == sorted(map(repr, answers(done)))
        elif step[0] == "restart":
            join.commit()
            join.restart()
        elif step[0] == "stream":
            _, key, at = step
            out = join.event(n, key=key, timestamp=at)
            if at + grace >= watermark:
                waiting.append((at, n, key))
                assert out == []
            else:  # it is behind: it meets the row that was there, or it is late
                late = [o.value for o in out or () if o.to == "late"]
                assert late == [n] or values(out) == answers([(at, n, key)])
        else:
            _, key, at = step
            at = max(at, watermark - grace)  # events may be behind, rows are not
            row = f"row {n}" if step[0] == "row" else None
            rows.append((key, at, n, row))
            join.event(row, key=key, timestamp=at, side=R)
    assert all(key[:1] == b"r" or key == b"xf" for key in join.stored())
    assert join.program.holds(NEVER) == NEVER
    assert join.program.holds(LONG_AGO) == LONG_AGO

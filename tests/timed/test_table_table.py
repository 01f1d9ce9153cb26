"""Two tables: the result is a table, with every row that goes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.state.shelf import Shelf, Shelves, as_is
from reflow_kafka.state.store import LaneStores
from reflow_kafka.timed.table_table import How, TableJoin
from tests.timed.driver import STORE, Driver

JSON = edge_codec(Any)
L, R = 0, 1


def driver(how: How) -> Driver:
    def make(stores: LaneStores, shelves: Shelves) -> TableJoin:
        left = shelves.add(Shelf(stores, STORE, b"r", as_is, as_is))
        right = shelves.add(Shelf(stores, STORE, b"R", as_is, as_is))
        return TableJoin((left, right), (JSON, JSON), how)

    return Driver(make, handler=lambda left, right: [left, right])


# ---- the table of Kafka Streams; "x" is a tombstone

INPUT = [
    (1, L, None), (2, R, None), (3, L, "A"), (4, R, "a"), (5, L, "B"), (6, R, "b"), (7, L, None),
    (8, R, None), (9, L, "C"), (10, R, "c"), (11, R, None), (12, L, None), (13, R, None), (14, R, "d"),
    (15, L, "D"),
]  # fmt: skip
INNER = {4: "Aa", 5: "Ba", 6: "Bb", 7: "x", 10: "Cc", 11: "x", 15: "Dd"}
LEFT = INNER | {3: "A-", 9: "C-", 11: "C-", 12: "x"}
OUTER = LEFT | {7: "-b", 8: "x", 14: "-d"}


@pytest.mark.parametrize(("how", "wanted"), [("inner", INNER), ("left", LEFT), ("outer", OUTER)])
def test_the_table_of_kafka_streams(how: How, wanted: dict[int, str]) -> None:
    join = driver(how)
    found = {}
    for at, side, value in INPUT:
        for out in join.event(value, timestamp=at, side=side) or ():
            found[at] = "x" if out.value is None else "".join(v or "-" for v in out.value)
    assert found == wanted


def test_a_result_has_the_later_time_of_its_rows() -> None:
    join = driver("inner")
    join.event("a", timestamp=20, side=R)
    join.event("A", timestamp=10, side=L, headers=[("h", b"1")])
    join.event(None, timestamp=15, side=L)
    assert [(out.timestamp, out.headers) for out in join.out] == [(20, [("h", b"1")]), (20, ())]


@pytest.mark.parametrize(
    ("how", "changes", "times"),
    [
        ("inner", [(L, "A", 50), (R, "a", 100), (L, None, 60)], [100, 100]),
        ("inner", [(L, "A", 50), (R, "a", 100), (R, "b", 60)], [100, 100]),
        ("inner", [(L, "A", 50), (R, "a", 100), (R, None, 110), (R, "b", 60)], [100, 110, 110]),
        ("left", [(L, "A", 50), (R, "a", 100), (R, None, 110), (L, None, 60)], [50, 100, 110, 110]),
        ("left", [(L, "A", 50), (R, "a", 100), (R, None, 90), (L, "B", 60)], [50, 100, 100, 100]),
        ("outer", [(R, "a", 100), (L, "A", 50), (L, None, 110), (R, None, 60)], [100, 100, 110, 110]),
    ],
)
def test_no_result_is_older_than_the_one_whose_place_it_takes(
    how: How, changes: list[tuple[int, Any, int]], times: list[int]
) -> None:
    join = driver(how)
    for side, value, at in changes:
        join.event(value, timestamp=at, side=side)
        join.commit()
        join.restart()
    assert [out.timestamp for out in join.out] == times


CHANGES = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b"]),
        st.sampled_from([L, R]),
        st.sampled_from([None, "1", "2"]),
        st.sampled_from(["", "", "commit", "restart", "fail"]),
    ),
    max_size=40,
)


@given(how=st.sampled_from(["inner", "left", "outer"]), changes=CHANGES)
def test_what_is_emitted_adds_up_to_the_join_of_both_tables(how: How, changes: list[Any]) -> None:
    join = driver(how)
    tables: tuple[dict[bytes, str], dict[bytes, str]] = ({}, {})
    result: dict[bytes, Any] = {}
    for key, side, value, then in changes:
        out = join.event(value, key=key, side=side, fail=1 if then == "fail" else None)
        if out is None:
            out = join.event(value, key=key, side=side)
        if value is None:
            tables[side].pop(key, None)
        else:
            tables[side][key] = value
        for change in out or ():
            if change.value is None:
                del result[key]  # there is nothing to retract that has not been
            else:
                result[key] = change.value
        left, right = tables
        keys = {"inner": left.keys() & right.keys(), "left": left.keys(), "outer": left.keys() | right.keys()}
        assert result == {k: [left.get(k), right.get(k)] for k in keys[how]}
        if then in ("commit", "restart"):
            join.commit()
        if then == "restart":
            join.restart()
    assert len(join.stored()) == len(tables[L]) + len(tables[R])

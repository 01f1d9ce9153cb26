"""Two streams: what meets within the time between them, and what stays alone once its window has passed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.state.shelf import Shelf, Shelves, as_is
from reflow_kafka.state.store import LaneStores
from reflow_kafka.timed import stream_join
from reflow_kafka.timed.program import LONG_AGO, NEVER
from reflow_kafka.timed.stream_join import How, Span, StreamJoin, decode_chunk, encode_chunk
from tests.timed.driver import STORE, Driver, Make, values

JSON = edge_codec(Any)
L, R = 0, 1
S = 1000


def made(how: How, span: Span) -> Make:
    def make(stores: LaneStores, shelves: Shelves) -> StreamJoin:
        def shelf(prefix: bytes) -> Any:
            return shelves.add(Shelf(stores, STORE, prefix, encode_chunk, decode_chunk))

        agenda = shelves.add(Shelf(stores, STORE, b"x", as_is, as_is))
        return StreamJoin((shelf(b"j"), shelf(b"J")), agenda, (JSON, JSON), how, span)

    return make


def driver(how: How, before: int, after: int, grace: int = 0) -> Driver:
    return Driver(made(how, Span(before, after, grace)), handler=lambda left, right: [left, right])


# ---- the table of Kafka Streams

INPUT = [
    (1, L, None), (2, R, None), (3, L, "A"), (4, R, "a"), (5, L, "B"), (6, R, "b"), (7, L, None),
    (8, R, None), (9, L, "C"), (10, R, "c"), (11, R, None), (12, L, None), (13, R, None), (14, R, "d"),
    (15, L, "D"), (40, L, "E"), (60, L, "F"), (80, R, "f"), (100, L, "G"),
]  # fmt: skip
INNER = {4: ["Aa"], 5: ["Ba"], 6: ["Ab", "Bb"], 9: ["Ca", "Cb"], 10: ["Ac", "Bc", "Cc"],
         14: ["Ad", "Bd", "Cd"], 15: ["Da", "Db", "Dc", "Dd"]}  # fmt: skip
LEFT_ = INNER | {60: ["E-"], 80: ["F-"]}
OUTER = LEFT_ | {100: ["-f"]}


@pytest.mark.parametrize(("how", "wanted"), [("inner", INNER), ("left", LEFT_), ("outer", OUTER)])
def test_the_table_of_kafka_streams(how: How, wanted: dict[int, list[str]]) -> None:
    """A window of 15 s and 5 s of grace: what is of 40 s can meet others until the watermark has passed 60 s.

    The documented table shows it with the event of 60 s, so one more ms passes after each event.
    """
    join = driver(how, 15 * S, 15 * S, 5 * S)
    found = {}
    for at, side, value in INPUT:
        out = join.event(value, timestamp=at * S, side=side) or []
        out += join.advance(at * S + 1)
        if out:
            found[at] = ["".join(v or "-" for v in event.value) for event in out]
    assert found == wanted


# ---- edges


@pytest.mark.parametrize("base", [0, -7, 5, 1_700_000_000_000])
@pytest.mark.parametrize(("right", "meets"), [(-4, False), (-3, True), (0, True), (5, True), (6, False)])
def test_both_ends_of_the_time_between_them_count(base: int, right: int, meets: bool) -> None:
    for first in (L, R):
        join = driver("inner", before=3, after=5)
        times = {L: base, R: base + right}
        join.event("l" if first == L else "r", timestamp=times[first], side=first)
        join.event("r" if first == L else "l", timestamp=times[1 - first], side=1 - first)
        assert values(join.out) == ([["l", "r"]] if meets else [])


def test_events_of_the_same_time_meet_at_a_time_between_of_nothing() -> None:
    join = driver("inner", 0, 0)
    join.event("l", timestamp=7, side=L)
    join.event("r", timestamp=7, side=R)
    join.event("s", timestamp=8, side=R)
    assert values(join.out) == [["l", "r"]]


def test_a_pair_has_the_later_time_and_the_headers_of_what_came_last() -> None:
    join = driver("left", 10, 10)
    join.event("l", timestamp=5, side=L, headers=[("of", b"left")])
    (out,) = join.event("r", timestamp=2, side=R, headers=[("of", b"right")]) or ()
    assert (out.timestamp, out.headers) == (5, [("of", b"right")])


def test_what_stays_alone_keeps_its_time_key_and_headers() -> None:
    join = driver("left", 10, 10)
    join.event("l", key=b"k\x00", timestamp=5, side=L, headers=[("of", b"left")])
    (out,) = join.advance(16)
    assert (out.value, out.key, out.timestamp, out.headers) == (["l", None], b"k\x00", 5, [("of", b"left")])


@pytest.mark.parametrize("grace", [0, 4])
def test_a_window_passes_after_its_last_moment_and_the_grace(grace: int) -> None:
    for side, on in ((L, 5), (R, 3)):
        join = driver("outer", before=3, after=5, grace=grace)
        join.event("x", timestamp=100, side=side)
        assert join.advance(100 + on + grace) == []
        assert len(join.advance(100 + on + grace + 1)) == 1
        assert join.advance(NEVER) == []
        assert join.stored() == {}


def test_an_event_is_late_when_its_window_has_passed() -> None:
    join = driver("left", before=3, after=5, grace=1)
    join.advance(107)
    join.event("late", timestamp=100, side=L)
    join.event("open", timestamp=101, side=L)
    assert [(out.value, out.to) for out in join.out] == [("late", "late")]
    assert values(join.advance(108)) == [["open", None]]


def test_what_was_emitted_alone_meets_nobody_any_more() -> None:
    """A left event's window is open longer than a right one's here."""
    join = driver("outer", before=0, after=100)
    join.event("r", timestamp=50, side=R)
    assert values(join.advance(51)) == [[None, "r"]]
    assert join.event("l", timestamp=20, side=L) == []
    assert values(join.advance(NEVER)) == [["l", None]]


def test_keys_do_not_meet() -> None:
    join = driver("inner", 10, 10)
    join.event("l", key=b"a", side=L)
    join.event("r", key=b"a\x00", side=R)
    assert join.out == []


def test_code_may_change_what_it_is_given() -> None:
    def handler(left: list[str], right: list[str]) -> str:
        left += right
        right.clear()
        return "".join(left)

    join = Driver(made("inner", Span(10, 10)), handler=handler)
    for name in "ab":
        join.event([name], side=R)
    join.event(["1"], side=L)
    join.event(["2"], side=L)
    assert values(join.out) == ["1a", "1b", "2a", "2b"]


def test_all_of_a_crowded_key_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    join = driver("outer", 1000, 1000)
    count = 3 * stream_join.FULL + 1
    for n in range(count):
        join.event(n, timestamp=n, side=L)
    assert all(len(value) < 64 * stream_join.FULL for value in join.stored().values())
    assert len(join.event("r", timestamp=500, side=R) or ()) == count
    for n in range(count):
        join.event(n, timestamp=n + 5000, side=L)
    assert values(join.advance(NEVER)) == [[n, None] for n in range(count)]
    assert join.stored() == {}


def test_large_values_do_not_share_a_chunk() -> None:
    join = driver("left", 1000, 1000)
    for n in range(5):
        join.event("x" * 30_000, timestamp=n, side=L)
    assert all(len(value) < 65_536 for value in join.stored().values())
    assert len(join.advance(NEVER)) == 5


def test_one_that_cannot_be_done_does_not_keep_back_other_keys() -> None:
    def handler(left: str, right: str | None) -> str:
        if left == "bad":
            raise ValueError(left)
        return left

    join = Driver(made("left", Span(5, 5)), handler=handler)
    join.event("bad", key=b"a", timestamp=1)
    join.event("same key", key=b"a", timestamp=2)
    join.event("other", key=b"b", timestamp=3)
    assert values(join.advance(100)) == ["other"]
    assert join.program.holds(100) <= 1
    (id,) = join.put_off
    assert join.give_up(id) == (b"a", b'"bad"')
    assert values(join.advance()) == ["same key"]
    assert values(join.advance(NEVER)) == []
    assert join.stored() == {}


@pytest.mark.parametrize(
    ("how", "grace", "holds"), [("inner", 0, 100), ("inner", 7, 93), ("left", 0, 95), ("outer", 2, 91)]
)
def test_it_holds_back_what_may_still_be_emitted(how: How, grace: int, holds: int) -> None:
    join = driver(how, before=9, after=5, grace=grace)
    assert join.program.holds(LONG_AGO) == LONG_AGO
    assert join.program.holds(NEVER) == NEVER
    assert join.program.holds(100) == 100 - grace
    join.event("l", timestamp=95, side=L)
    join.event("r", timestamp=93 - grace, side=R)
    assert join.program.holds(100) == holds
    assert join.program.pending() == (how != "inner")


# ---- against a plain model


@dataclass
class Model:
    """All events that have come, each with whether it has met another; nothing is ever forgotten."""

    how: How
    before: int
    after: int
    grace: int
    events: list[dict[str, Any]] = field(default_factory=list)

    def closed(self, event: dict[str, Any], watermark: int) -> bool:
        on = self.before if event["side"] else self.after
        return bool(watermark > event["at"] + on + self.grace)

    def event(self, key: bytes, side: int, at: int, value: Any, watermark: int) -> list[Any]:
        new = {"key": key, "side": side, "at": at, "value": value, "met": False, "done": False}
        if self.closed(new, watermark):
            return [("late", value)]
        out = []
        for other in sorted(self.events, key=lambda e: e["at"]):
            left, right = (other, new) if side else (new, other)
            if other["key"] != key or other["side"] == side or self.closed(other, watermark):
                continue
            if left["at"] - self.before <= right["at"] <= left["at"] + self.after:
                other["met"] = new["met"] = True
                out.append((left["value"], right["value"]))
        self.events.append(new)
        return out

    def advance(self, watermark: int) -> list[Any]:
        out = []
        for event in self.events:
            if not self.closed(event, watermark) or event["done"]:
                continue
            event["done"] = True
            kept = self.how == "outer" or (self.how == "left" and not event["side"])
            if kept and not event["met"]:
                out.append((None, event["value"]) if event["side"] else (event["value"], None))
        return out


EVENT = st.tuples(
    st.just("event"),
    st.sampled_from([b"", b"a", b"a\x00", b"b"]),
    st.integers(0, 1),
    st.integers(-25, 25),
    st.sampled_from([None, 1, 2]),
)
STEPS = st.lists(
    st.one_of(
        EVENT,
        EVENT,
        EVENT,
        st.tuples(st.just("watermark"), st.integers(0, 12), st.sampled_from([None, 1, 2])),
        st.tuples(st.just("commit")),
        st.tuples(st.just("goes back"), st.booleans()),
    ),
    max_size=40,
)


@given(
    how=st.sampled_from(["inner", "left", "outer"]),
    before=st.integers(0, 8),
    after=st.integers(0, 8),
    grace=st.integers(0, 4),
    full=st.integers(1, 3),
    steps=STEPS,
)
def test_it_does_as_the_model(
    how: How, before: int, after: int, grace: int, full: int, steps: list[Any]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_join, "FULL", full)
        join = Driver(made(how, Span(before, after, grace)), handler=lambda left, right: (left, right))
        model = Model(how, before, after, grace)
        watermark = -30
        join.advance(watermark)
        committed = deepcopy(model)
        for number, step in enumerate([*steps, ("end",)]):
            wanted: list[Any] = []
            found: list[Any] = []
            if step[0] == "event":
                _, key, side, at, fail = step
                out = join.event(number, key=key, side=side, timestamp=at, fail=fail)
                if out is None:
                    out = join.event(number, key=key, side=side, timestamp=at)
                wanted = model.event(key, side, at, number, watermark)
                found = [(o.to, o.value) if o.to else o.value for o in out or ()]
                assert found == wanted
                assert all(o.timestamp >= min(at, watermark) for o in out or ())
            elif step[0] == "commit":
                join.commit()
                committed = deepcopy(model)
            elif step[0] == "goes back":
                join.restart() if step[1] else join.rewind()
                model = deepcopy(committed)
                again = {out.value for out in join.advance()}
                assert again == set(model.advance(watermark))
            else:
                holds = join.program.holds(watermark)
                watermark = NEVER if step[0] == "end" else watermark + step[1]
                out = join.advance(watermark, fail=None if step[0] == "end" else step[2])
                out += join.retry()
                assert all(o.timestamp >= holds for o in out)
                assert sorted(map(repr, [o.value for o in out])) == sorted(
                    map(repr, model.advance(watermark))
                )
        assert join.stored() == {}

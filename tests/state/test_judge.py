from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.state.judge import Full, Lost, Tail, Verdict, judge
from reflow_kafka.state.store import StoreMark

case = pytest.param
NOW = 1_000_000_000
MAX = 1_000_000


def mark(caught_up: int = NOW - 1, incarnation: str = "here", **positions: int) -> StoreMark:
    return StoreMark(incarnation, positions, caught_up)


@pytest.mark.parametrize(
    ("found", "recorded", "starts", "ends", "verdict"),
    [
        case(None, {}, {"a": 0}, {"a": 0}, "no local state", id="first start"),
        case(None, {"a": 5}, {"a": 0}, {"a": 6}, "no local state", id="new machine"),
        case(None, {"a": 5}, {"a": 0}, {"a": 4}, Lost("a", 4, 5), id="log cut, nothing local"),
        case(mark(a=5), {"a": 5}, {"a": 0}, {"a": 4}, Lost("a", 4, 5), id="log cut"),
        case(mark(a=5), {"a": 5}, {"a": 0}, {"a": 0}, Lost("a", 0, 5), id="topic made anew"),
        case(mark(a=5), {"a": 5}, {"a": 0}, {"a": 6}, Tail({"a": 5}), id="complete"),
        case(mark(a=3), {"a": 5}, {"a": 0}, {"a": 6}, Tail({"a": 3}), id="behind"),
        case(mark(a=3), {"a": 5}, {"a": 3}, {"a": 6}, Tail({"a": 3}), id="at the log's start"),
        case(mark(a=3), {"a": 5}, {"a": 4}, {"a": 6}, "starts at 4", id="below the log's start"),
        case(mark(a=6), {"a": 5}, {"a": 0}, {"a": 9}, "beyond", id="ahead of the record"),
        case(mark(a=5), None, {"a": 0}, {"a": 6}, "no record", id="progress lost"),
        case(mark(incarnation="x", a=5), {"a": 5}, {"a": 0}, {"a": 6}, "history x", id="other history"),
        case(mark(NOW - MAX, a=4), {"a": 5}, {"a": 0}, {"a": 6}, "1000 s ago", id="too old"),
        case(mark(NOW - MAX + 1, a=4), {"a": 5}, {"a": 0}, {"a": 6}, Tail({"a": 4}), id="just in time"),
        case(mark(0, a=5), {"a": 5}, {"a": 0}, {"a": 6}, Tail({"a": 5}), id="old, nothing missed"),
        case(mark(0, a=5, b=1), {"a": 5, "b": 2}, {"a": 0, "b": 0}, {"a": 6, "b": 2}, "ago", id="one old"),
        case(mark(NOW + 10, a=4), {"a": 5}, {"a": 0}, {"a": 6}, Tail({"a": 4}), id="clock set back a bit"),
        case(mark(NOW + MAX, a=4), {"a": 5}, {"a": 0}, {"a": 6}, "ago", id="clock set back far"),
        case(
            mark(a=5), {"a": 5}, {"a": 0, "n": 2}, {"a": 5, "n": 9}, Tail({"a": 5, "n": 2}), id="new stage"
        ),
        case(
            mark(a=5, n=7), {"a": 5}, {"a": 0, "n": 2}, {"a": 5, "n": 9}, Tail({"a": 5, "n": 7}),
            id="new stage, restored but not yet recorded",
        ),
        case(mark(a=5, n=10), {"a": 5}, {"a": 0, "n": 0}, {"a": 5, "n": 9}, "beyond", id="new, ahead"),
        case(
            mark(a=5, gone=9), {"a": 5, "gone": 9}, {"a": 0}, {"a": 5}, Tail({"a": 5}), id="stage removed"
        ),
    ],
)  # fmt: skip
def test_verdicts(
    found: StoreMark | None,
    recorded: dict[str, int] | None,
    starts: dict[str, int],
    ends: dict[str, int],
    verdict: Verdict | str,
) -> None:
    judged = judge(found, "here", recorded, starts, ends, NOW, MAX)
    if isinstance(verdict, str):
        assert isinstance(judged, Full)
        assert verdict in judged.reason
    else:
        assert judged == verdict


OFFSETS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))
ALL = st.fixed_dictionaries({name: st.integers(0, 9) for name in "abc"})


@given(
    found=st.none() | st.builds(StoreMark, st.sampled_from(["here", "x"]), OFFSETS, st.integers(0, 2 * NOW)),
    recorded=st.none() | OFFSETS,
    starts=ALL,
    lengths=ALL,
)
def test_what_is_used_is_whole(
    found: StoreMark | None, recorded: dict[str, int] | None, starts: dict[str, int], lengths: dict[str, int]
) -> None:
    ends = {name: starts[name] + length for name, length in lengths.items()}
    verdict = judge(found, "here", recorded, starts, ends, NOW, MAX)
    known = recorded or {}
    lost = [name for name in known if ends[name] < known[name]]
    assert isinstance(verdict, Lost) == bool(lost)
    if isinstance(verdict, Tail):
        assert found is not None
        assert recorded is not None
        assert found.incarnation == "here"
        assert verdict.positions.keys() == starts.keys()
        for name, at in verdict.positions.items():
            assert at == found.positions.get(name, starts[name])
            assert starts[name] <= at <= ends[name]
            if name in found.positions:
                assert at <= known.get(name, ends[name])
                assert at == known.get(name, ends[name]) or NOW - found.caught_up < MAX


@given(recorded=ALL, shift=st.integers(0, 5))
def test_what_a_commit_leaves_is_used_again(recorded: dict[str, int], shift: int) -> None:
    """The store is written after the commit, or not at all if the process dies in between."""
    starts = dict.fromkeys(recorded, 0)
    ends = {name: end + shift for name, end in recorded.items()}
    for before in (recorded, {name: end // 2 for name, end in recorded.items()}):
        verdict = judge(StoreMark("here", before, NOW), "here", recorded, starts, ends, NOW + MAX - 1, MAX)
        assert verdict == Tail(before)

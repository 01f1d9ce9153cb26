"""The open windows of a key, of each kind."""

from __future__ import annotations

from typing import Any

import pytest

from reflow_kafka import Flow, State
from reflow_kafka.testing import FlowTest
from reflow_kafka.windows import Count, Hopping, Session, Sliding, Tumbling


def page(who: str, at: int) -> dict[str, Any]:
    return {"who": who, "at": at}


def add(older: int, younger: int) -> int:
    return older + younger


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (Tumbling(10, grace=60), {(0, 10_000): 2, (20_000, 30_000): 1}),
        (
            Hopping(20, 10, grace=60),
            {(-10_000, 10_000): 2, (0, 20_000): 2, (10_000, 30_000): 1, (20_000, 40_000): 1},
        ),
        (Session(5, grace=60, merge=add), {(1_000, 4_000): 2, (20_000, 20_000): 1}),
        (Count(5), {(1_000, 20_000): 3}),
        (
            Sliding(10, grace=60),
            {(-9_000, 1_000): 1, (-6_000, 4_000): 2, (1_001, 11_001): 1, (10_000, 20_000): 1},
        ),
    ],
)
def test_the_open_windows_of_a_key(kind: Any, wanted: dict[tuple[int, int], int]) -> None:
    flow = Flow("kinds")
    flow.source("pages", topic="pages", key="who", timestamp="at")

    @flow.stage(after="pages", state=lambda: 0, window=kind, on_close=lambda count, window: count.value)
    def counted(count: State[int], page: dict[str, Any]) -> None:
        count.value += 1

    with FlowTest(flow) as test:
        for who, at in (("ada", 1_000), ("ada", 4_000), ("bob", 4_000), ("ada", 20_000)):
            test.send("pages", page(who, at))
        found = test.state("counted", "ada")
        assert {(window.start, window.end): count for window, count in found.items()} == wanted
        assert {window.key for window in found} == {"ada"}
        assert test.state("counted", "eve") == {}
        test.end()
        assert test.state("counted", "ada") == {}

"""Stages that bring events together again, written so that they cannot work."""

from __future__ import annotations

from typing import Any

import pytest

from reflow_kafka import Batch, Event, Flow

from .cases import Cases, handle

CASES = Cases()


def pair(left: Any, right: Any) -> Any:
    return left, right


# ---- gather


@CASES.refused("handle", "write @flow.gather(after=...) or flow.gather(fn, after=...)")
def gather_without_upstream(flow: Any) -> None:
    flow.gather(handle, expect=2, within=1)


@CASES.refused("handle", "expect= is how many parts there are", "not None")
def nothing_expected(flow: Any) -> None:
    flow.gather(handle, after="rows", within=1)


@CASES.refused("handle", "a whole number from 1 on", "not 0")
def no_parts(flow: Any) -> None:
    flow.gather(handle, after="rows", expect=0, within=1)


@CASES.refused("handle", "a whole number from 1 on", "not True")
def expect_true(flow: Any) -> None:
    flow.gather(handle, after="rows", expect=True, within=1)


@CASES.refused("handle", "expect= must be a field's name or a plain function of the value; it is 2.5")
def half_a_part(flow: Any) -> None:
    flow.gather(handle, after="rows", expect=2.5, within=1)


@CASES.refused("handle", "expect= must be a field's name", "it does not take 1 argument")
def expect_without_argument(flow: Any) -> None:
    flow.gather(handle, after="rows", expect=lambda: 2, within=1)


@CASES.refused("handle", "within= is how long", "not None")
def no_time(flow: Any) -> None:
    flow.gather(handle, after="rows", expect=2)


@CASES.refused("handle", "from 1 ms to 100 years, not 0")
def no_time_at_all(flow: Any) -> None:
    flow.gather(handle, after="rows", expect=2, within=0)


@CASES.refused("handle", "id= must be a field's name or a plain function of the value; it is empty")
def empty_id(flow: Any) -> None:
    flow.gather(handle, after="rows", expect=2, within=1, id="")


@CASES.refused("handle", "unknown close_on='wall'; did you mean 'wall-clock'?")
def unknown_clock(flow: Any) -> None:
    flow.gather(handle, after="rows", expect=2, within=1, close_on="wall")


@CASES.refused("handle", "unknown option 'witin'; did you mean")
def unknown_option(flow: Any) -> None:
    flow.gather(handle, after="rows", expect=2, within=1, witin=2)


@CASES.refused("one", "it is given the list of all parts: annotate it list[dict], not dict")
def one_part_at_a_time(flow: Flow) -> None:
    @flow.gather(after="rows", expect=2, within=1)
    def one(part: dict) -> None: ...  # type: ignore[type-arg]


@CASES.refused("handle", "batch= is of no use", "one event after the other")
def gather_in_batches(flow: Any) -> None:
    flow.gather(handle, after="rows", expect=2, within=1, batch=Batch())


@CASES.refused("handle", "output 'timeout' exists without being declared")
def declared_timeout(flow: Flow) -> None:
    flow.gather(handle, after="rows", expect=2, within=1, outputs=["timeout"])


@CASES.refused("next", "'keep' declares no output 'timeout'")
def timeout_of_another_stage(flow: Flow) -> None:
    flow.stage(handle, name="next", after="keep.timeout")
    flow.spec()


# ---- zip


@CASES.refused("pair", "after=[left, right], not of 1")
def one_side(flow: Any) -> None:
    flow.zip(pair, after="rows")


@CASES.refused("pair", "after=[left, right], not of 3")
def three_sides(flow: Any) -> None:
    flow.zip(pair, after=["rows", "keep", "keep.big"])


@CASES.refused("pair", "it follows 'rows' twice")
def the_same_twice(flow: Flow) -> None:
    flow.zip(pair, after=["rows", "rows"])


@CASES.refused("handle", "called with (left, right) but takes (value: 'Any')")
def takes_one(flow: Flow) -> None:
    flow.zip(handle, after=["rows", "keep"])


@CASES.refused("both", "right is no event: take Event[] out of its annotation")
def takes_events(flow: Flow) -> None:
    @flow.zip(after=["rows", "keep"])
    def both(left: Any, right: Event[Any]) -> None: ...


@CASES.refused("both", "write (left, right, ctx)")
def context_first(flow: Flow) -> None:
    @flow.zip(after=["rows", "keep"])
    def both(ctx: Any, left: Any, right: Any) -> None: ...


@CASES.refused("both", "it takes int, but 'words' emits str")
def misfit_of_the_right(flow: Flow) -> None:
    @flow.stage(after="rows")
    def words(value: Any) -> str:
        return ""

    @flow.zip(after=["rows", words])
    def both(left: str, right: int) -> None: ...

    flow.spec()


@CASES.refused("pair", "limit= is how many events of a key one side may be ahead", "not 0")
def no_room(flow: Flow) -> None:
    flow.zip(pair, after=["rows", "keep"], limit=0)


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str) -> None:
    CASES.check(case)


def test_used_as_a_decorator_they_return_what_they_decorate() -> None:
    flow = Flow("test")
    flow.source("rows", topic="rows")
    assert flow.gather(after="rows", expect=2, within=1)(handle) is handle
    assert flow.zip(after=["rows", handle])(pair) is pair
    assert flow[pair].name == "pair"
    assert flow.gather(handle, after="rows", name="again", expect=2, within=1).name == "again"
    assert [stage.name for stage in flow.spec().stages] == ["rows", "handle", "pair", "again"]


def test_a_list_that_is_returned_for_a_set_is_one_value() -> None:
    flow = Flow("test")
    flow.source("rows", topic="rows")

    @flow.gather(after="rows", expect=2, within=1)
    def both(parts: list[Event[int]]) -> list[str]:
        return []

    spec = flow.spec().stage("both")
    assert (spec.accepts(), spec.result_type) == (int, list[str])

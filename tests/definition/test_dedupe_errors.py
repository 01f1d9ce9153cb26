"""Deduplication that cannot work is refused with what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from reflow_kafka import Flow
from reflow_kafka.definition.operators import Dedupe
from reflow_kafka.topology.planner import make_plan
from tests.definition.cases import Cases, base_flow, handle

cases = Cases()


@dataclass
class Row:
    id: str


@cases.refused("once", "it has no upstream", "flow.dedupe(name, after=...)")
def no_upstream(flow: Flow) -> None:
    flow.dedupe("once", within=60)  # type: ignore[call-overload]


@cases.refused("once", "within= is how far", "from 1 ms to 100 years, not None")
def no_time(flow: Flow) -> None:
    flow.dedupe("once", after="rows")  # type: ignore[call-overload]


@cases.refused("once", "within= is how far", "not 0")
def no_time_at_all(flow: Flow) -> None:
    flow.dedupe("once", after="rows", within=0)


@cases.refused("once", "within= is how far", "to 100 years, not 1e+300")
def longer_than_any_log_lasts(flow: Flow) -> None:
    flow.dedupe("once", after="rows", within=1e300)


@cases.refused("once", "by= must be a field's name or a plain function of the value", "is empty")
def an_empty_field(flow: Flow) -> None:
    flow.dedupe("once", after="rows", within=1, by="")


@cases.refused("once", "by= must be a field's name or a plain function", "is 5")
def a_number_as_field(flow: Flow) -> None:
    flow.dedupe("once", after="rows", within=1, by=5)  # type: ignore[call-overload]


@cases.refused("once", "key= must be a field's name")
def a_number_as_key(flow: Flow) -> None:
    flow.dedupe("once", after="rows", within=1, key=5)  # type: ignore[call-overload]


@cases.refused("once", "unknown option 'wihtin'", "did you mean 'within'?")
def a_typing_error(flow: Flow) -> None:
    flow.dedupe("once", after="rows", wihtin=1)  # type: ignore[call-overload]


@cases.refused(None, "first argument is the name of the stage")
def no_name(flow: Flow) -> None:
    flow.dedupe(handle, after="rows", within=1)  # type: ignore[call-overload]


@cases.refused("after_rows", "it takes int, but 'once' emits Row")
def what_follows_takes_something_else(flow: Flow) -> None:
    def after_rows(value: int) -> Any:
        return value

    flow.source("typed", topic="typed", type=Row)
    flow.dedupe("once", after="typed", within=1, by="id")
    flow.stage(after_rows, after="once")


@cases.refused("handle", "declares no output 'duplicate'")
def duplicates_of_another_stage(flow: Flow) -> None:
    flow.stage(handle, after="keep.duplicate")


@pytest.mark.parametrize("case", cases)
def test_it_is_refused(case: str) -> None:
    cases.check(case)


@pytest.mark.parametrize(
    ("options", "key", "by"),
    [
        ({}, None, None),
        ({"by": "id"}, "id", None),
        ({"key": "group"}, "group", None),
        ({"by": "id", "key": "group"}, "group", "id"),
        ({"by": "id", "key": None}, "id", None),
    ],
)
def test_an_id_is_the_key_unless_a_key_is_given(options: Any, key: Any, by: Any) -> None:
    flow = base_flow()
    flow.dedupe("once", after="rows", within=1.5, **options)
    stage = flow.spec().stage("once")
    assert (stage.key_of(), stage.operator) == (key, Dedupe(by=by, within=1500))


def test_types_go_through_it() -> None:
    flow = Flow("f")
    rows = flow.source("rows", topic="rows", type=Row)
    once = flow.dedupe("once", after=rows, by="id", within=1)
    flow.stage(handle, after=once)
    flow.stage(handle, name="twice", after=once.output("duplicate"))
    nodes = {node.name: node for node in make_plan(flow.spec(), {"rows": 1}).nodes}
    assert [nodes[name].inputs[0].type for name in ("once", "handle", "twice")] == [Row, Row, Row]

"""Joins and tables that cannot work are refused with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from reflow_kafka import Batch, Event, Flow
from tests.definition.cases import Cases, base_flow, handle

cases = Cases()


def meet(left: Any, right: Any) -> Any:
    return left


def tables(flow: Flow) -> None:
    flow.table("first", topic="first")
    flow.table("second", topic="second")


@cases.refused("meet", "unknown how='lef'", "'left'")
def an_unknown_how(flow: Flow) -> None:
    flow.join("rows", "keep", how="lef", within=1)(meet)  # type: ignore[arg-type]


@cases.refused("meet", "there is no 'kept' yet: define what is joined before", "'keep'")
def a_name_to_come(flow: Flow) -> None:
    flow.join("rows", "kept", within=1)(meet)


@cases.refused("meet", "one stage on each side")
def several_on_a_side(flow: Flow) -> None:
    flow.join("rows", ["keep", "rows"], within=1)(meet)  # type: ignore[arg-type]


@cases.refused("meet", "it follows 'rows' twice")
def one_stage_on_both_sides(flow: Flow) -> None:
    flow.join("rows", "rows", within=1)(meet)


@cases.refused("meet", "add within=60", "flow.table(...)")
def streams_without_a_time(flow: Flow) -> None:
    flow.join("rows", "keep")(meet)


@cases.refused("meet", "within= is a time in seconds", "not -1")
def a_time_below_zero(flow: Flow) -> None:
    flow.join("rows", "keep", within=(1, -1))(meet)


@cases.refused("meet", "within= is a time, or (before, after)")
def three_times(flow: Flow) -> None:
    flow.join("rows", "keep", within=(1, 2, 3))(meet)  # type: ignore[arg-type]


@cases.refused("meet", "grace= is a time in seconds", "'x'")
def a_grace_that_is_no_time(flow: Flow) -> None:
    flow.join("rows", "keep", within=1, grace="x")(meet)  # type: ignore[arg-type]


@cases.refused("meet", "on= names the row of a table", "key=")
def streams_with_a_row(flow: Flow) -> None:
    flow.join("rows", "keep", within=1, on="id")(meet)


@cases.refused("meet", "as_of= says which row")
def streams_with_as_of(flow: Flow) -> None:
    flow.join("rows", "keep", within=1, as_of="latest")(meet)


@cases.refused("meet", "the stream comes first", "flow.join('rows', 'first')")
def a_table_before_a_stream(flow: Flow) -> None:
    tables(flow)
    flow.join("first", "rows")(meet)


@cases.refused("meet", "within= is the time between events", "take it out")
def a_table_with_a_time(flow: Flow) -> None:
    tables(flow)
    flow.join("rows", "first", within=1)(meet)


@cases.refused("meet", 'how="outer"', 'how="left"')
def all_rows_with_a_stream(flow: Flow) -> None:
    tables(flow)
    flow.join("rows", "first", how="outer")(meet)


@cases.refused("meet", "unknown as_of='now'", "'latest'")
def an_unknown_as_of(flow: Flow) -> None:
    tables(flow)
    flow.join("rows", "first", as_of="now")(meet)  # type: ignore[arg-type]


@cases.refused("meet", "grace= is for how long events are waited for")
def a_grace_for_nothing(flow: Flow) -> None:
    tables(flow)
    flow.join("rows", "first", as_of="latest", grace=1)(meet)


@cases.refused("meet", "take key= out")
def two_keys(flow: Flow) -> None:
    tables(flow)
    flow.join("rows", "first", on="id", key="id")(meet)


@cases.refused("meet", "on= must be a field's name", "does not take 1 argument")
def a_function_of_two_as_key(flow: Flow) -> None:
    tables(flow)
    flow.join("rows", "first", on=meet)(meet)


@cases.refused("meet", "on= must be a field's name", "is empty")
def an_empty_key(flow: Flow) -> None:
    tables(flow)
    flow.join("rows", "first", on="")(meet)


@cases.refused("meet", "a row to which none refers", 'how="left"')
def all_rows_referred_to(flow: Flow) -> None:
    tables(flow)
    flow.join("first", "second", how="outer", on="id")(meet)


@cases.refused("meet", "as_of= says which row")
def tables_with_as_of(flow: Flow) -> None:
    tables(flow)
    flow.join("first", "second", as_of="latest")(meet)


@cases.refused("meet", "when= is of no use", "a stage before it")
def a_filter(flow: Flow) -> None:
    flow.join("rows", "keep", within=1, when=bool)(meet)


@cases.refused("meet", "copartitioned=True takes topics as they are", "key=")
def copartitioned_with_a_key(flow: Flow) -> None:
    flow.join("rows", "keep", within=1, key="id", copartitioned=True)(meet)


@cases.refused("t", "unknown option 'auto_offset_reset'")
def a_table_that_does_not_begin_at_the_beginning(flow: Flow) -> None:
    flow.table("t", topic="u", auto_offset_reset="latest")  # type: ignore[call-overload]


@cases.refused("meet", "copartitioned= is True or False", "1")
def copartitioned_by_a_number(flow: Flow) -> None:
    flow.join("rows", "keep", within=1, copartitioned=1)(meet)  # type: ignore[arg-type]


@cases.refused("handle", "called with (left, right)")
def a_handler_of_one(flow: Flow) -> None:
    flow.join("rows", "keep", within=1)(handle)


def takes_events(left: Event[Any], right: Any) -> Any:
    return left


@cases.refused("takes_events", "left is no event: take Event[] out", "ask ctx")
def a_handler_of_events(flow: Flow) -> None:
    flow.join("rows", "keep", within=1)(takes_events)


@cases.refused("may_take_an_event", "right is no event: take Event[] out", "ask ctx")
def a_handler_of_an_event_or_nothing(flow: Flow) -> None:
    def may_take_an_event(left: Any, right: Event[Any] | None) -> None: ...

    flow.join("rows", "keep", how="left", within=1)(may_take_an_event)


@cases.refused("meet", "batch= is of no use", "a stage of its own")
def a_batch(flow: Flow) -> None:
    flow.join("rows", "keep", within=1, batch=Batch())(meet)  # type: ignore[call-arg]


def of_numbers(left: int, right: Any) -> Any:
    return left


@cases.refused("of_numbers", "it takes int", "'texts' emits str")
def a_left_side_of_another_type(flow: Flow) -> None:
    flow.source("texts", topic="texts", type=str)
    flow.join("texts", "rows", within=1)(of_numbers)


def to_numbers(left: Any, right: int) -> Any:
    return left


@cases.refused("to_numbers_meetings", "it takes int", "'texts' emits str")
def referred_rows_of_another_type(flow: Flow) -> None:
    tables(flow)
    flow.table("texts", topic="texts", type=str)
    flow.join("first", "texts", on="id")(to_numbers)


@cases.refused("rows_of", "from topic=..., or from a stage", "neither")
def a_table_of_nothing(flow: Flow) -> None:
    flow.table("rows_of")  # type: ignore[call-overload]


@cases.refused("rows_of", "from topic=..., or from a stage", "both")
def a_table_of_both(flow: Flow) -> None:
    flow.table("rows_of", topic="rows_of", after="rows")  # type: ignore[call-overload]


@cases.refused("rows_of", "follows one stage")
def a_table_of_several(flow: Flow) -> None:
    flow.table("rows_of", after=["rows", "keep"])  # type: ignore[call-overload]


@cases.refused("meet", "unknown option 'after': what is joined stands in front, flow.join(left, right, ...)")
def an_upstream_by_name(flow: Any) -> None:
    flow.join("rows", "keep", after="rows", within=5)(meet)


@cases.refused("rows_of", "unknown option 'on_error'; there is 'after', 'key', 'partitions', 'topic', 'type'")
def errors_of_a_table_after_a_stage(flow: Any) -> None:
    flow.table("rows_of", after="rows", on_error="skip")


@cases.refused("prices_too", "unknown option 'on_error'")
def errors_of_a_table_over_a_topic(flow: Any) -> None:
    flow.table("prices_too", topic="prices-too", on_error="skip")


@cases.refused("rows_of", "unknown option 'format'")
def a_format_after_a_stage(flow: Flow) -> None:
    flow.table("rows_of", after="rows", format="str")  # type: ignore[call-overload]


@cases.refused(None, "the table's name")
def a_table_without_a_name(flow: Flow) -> None:
    flow.table(meet, topic="rows_of")  # type: ignore[call-overload]


@cases.refused("meet", "is a global table", "everywhere.get(key)")
def a_global_table(flow: Flow) -> None:
    flow.join("rows", flow.global_table("everywhere", topic="everywhere"))(meet)


@cases.refused(None, "that of a parameter of handlers", "'no-name'")
def a_global_table_that_no_handler_can_take(flow: Flow) -> None:
    flow.global_table("no-name", topic="everywhere")


@cases.refused("everywhere", "from one topic", "None")
def a_global_table_of_nothing(flow: Flow) -> None:
    flow.global_table("everywhere")  # type: ignore[call-overload]


@cases.refused("everywhere", "unknown option 'after'")
def a_global_table_after_a_stage(flow: Flow) -> None:
    flow.global_table("everywhere", topic="everywhere", after="rows")  # type: ignore[call-overload]


@cases.refused("everywhere", "key= must be a field's name", "is empty")
def a_global_table_with_an_empty_key(flow: Flow) -> None:
    flow.global_table("everywhere", topic="everywhere", key="")


@cases.refused(None, "'everywhere' is defined already")
def two_global_tables_of_one_name(flow: Flow) -> None:
    flow.global_table("everywhere", topic="everywhere")
    flow.global_table("everywhere", topic="elsewhere")


@cases.refused(None, "'keep' has the name of a stage")
def a_global_table_of_a_stages_name(flow: Flow) -> None:
    flow.global_table("keep", topic="everywhere")


@cases.refused("everywhere", "taken by a global table")
def a_stage_of_a_global_tables_name(flow: Flow) -> None:
    flow.global_table("everywhere", topic="everywhere")
    flow.source("everywhere", topic="elsewhere")


@pytest.mark.parametrize("case", cases)
def test_it_is_refused(case: str) -> None:
    cases.check(case)


def test_what_is_joined_may_be_an_output_a_handle_or_an_object() -> None:
    flow = base_flow()
    tables(flow)
    first = flow["first"]

    @flow.stage(after="rows")
    def seen(value: Any) -> Any:
        return value

    flow.join(seen, "keep.big", within=1, name="a")(meet)
    flow.join(flow["seen"], first, name="b")(meet)
    flow.join("first", "second", name="c", on="id")(meet)
    names = [stage.name for stage in flow.spec().stages]
    assert names[-5:] == ["a", "b", "c_references", "c_meetings", "c"]

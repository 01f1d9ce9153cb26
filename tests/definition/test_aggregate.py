"""Aggregating and reducing stages: their handlers, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from reflow_kafka import Context, Count, Event, Flow, Session, State, Tumbling
from reflow_kafka import aggregations as agg
from reflow_kafka.definition.aggregate import Aggregate
from reflow_kafka.definition.spec import FlowSpec, StageSpec
from reflow_kafka.value import CLEARED
from reflow_kafka.windows import Window

from .cases import Cases, handle

CASES = Cases()


def at(timestamp: int, key: bytes = b"k") -> Context:
    ctx = Context()
    ctx.timestamp, ctx.key_bytes = timestamp, key
    return ctx


# ---- the handlers


def test_states_of_all_aggregations_are_kept_by_name() -> None:
    aggregate = Aggregate({"n": agg.Count(), "last": agg.Latest("v")})
    state = State(aggregate.make())
    assert aggregate.running(state, {"v": 1}, ctx=at(5)) == {"key": "k", "n": 1, "last": 1}
    assert aggregate.running(state, {"v": 2}, ctx=at(3)) == {"key": "k", "n": 2, "last": 1}
    assert state.value == {"n": 2, "last": [5, 1]}
    window = Window(0, 10, "k")
    assert aggregate.close(state, window) == {"key": "k", "start": 0, "end": 10, "n": 2, "last": 1}


def test_sessions_merge_each_by_its_name() -> None:
    aggregate = Aggregate({"n": agg.Count(), "all": agg.Collect()})
    merged = aggregate.merge({"n": 1, "all": ["a"]}, {"n": 2, "all": ["b", "c"]})
    assert merged == {"n": 3, "all": ["a", "b", "c"]}


def test_aggregations_come_and_go_with_versions_of_a_flow() -> None:
    aggregate = Aggregate({"n": agg.Count(), "new": agg.Sum()})
    assert aggregate.results({"n": 3, "old": 1}) == {"n": 3, "new": 0}
    assert aggregate.merge({"n": 3}, {"n": 1, "new": 4}) == {"n": 4, "new": 4}
    state = State({"n": 3})
    aggregate.silent(state, 5)
    assert state.value == {"n": 4, "new": 5}


def test_tombstones_have_nothing_to_aggregate_and_begin_nothing() -> None:
    aggregate = Aggregate({"n": agg.Count()})
    state = State(aggregate.make())
    assert aggregate.running(state, None, ctx=at(0)) is None
    assert state.value is CLEARED
    state = State({"n": 1})
    assert aggregate.running(state, None, ctx=at(0)) is None
    assert state.value == {"n": 1}


class Own:
    """Says nothing about the time."""

    make = add = merge = result = staticmethod(lambda *_: 0)


@pytest.mark.parametrize(
    ("aggregation", "by_time"), [(agg.Mean(), False), (agg.Latest(), True), (Own(), True)]
)
def test_only_those_that_ask_for_the_time_are_told(aggregation: Any, by_time: bool) -> None:
    spec = stage(lambda flow: flow.aggregate("all", after="rows", of={"it": aggregation}, window=Tumbling(1)))
    assert spec.handler is not None
    assert spec.handler.by_name == (("ctx",) if by_time else ())


# ---- what they become


def stage(define: Any) -> StageSpec:
    flow = Flow("test")
    flow.source("rows", topic="rows")
    name = define(flow).name
    spec: FlowSpec = flow.spec()
    return spec.stage(name)


@dataclass
class Trip:
    miles: float


def longer(a: Trip, b: Trip) -> Trip:
    return max(a, b, key=lambda trip: trip.miles)


def test_types_of_a_fold_are_those_of_the_function() -> None:
    spec = stage(lambda flow: flow.reduce(longer, after="rows"))
    assert (spec.name, spec.accepts(), spec.result_type) == ("longer", Trip, Trip)
    assert spec.state is not None
    assert (spec.state.type, spec.state.boxed, spec.operator) == (Trip | None, True, None)
    closed = stage(lambda flow: flow.reduce(longer, after="rows", window=Tumbling(1), emit="close"))
    assert (closed.accepts(), closed.result_type) == (Trip, Trip)


def test_a_fold_is_found_by_its_function() -> None:
    flow = Flow("test")
    flow.source("rows", topic="rows")
    assert flow.reduce(after="rows")(longer) is longer
    assert flow[longer].name == "longer"


def test_results_are_dicts() -> None:
    for options in ({}, {"window": Tumbling(1)}, {"window": Tumbling(1), "emit": "update"}):
        spec = stage(lambda flow: flow.aggregate("all", after="rows", of={"n": agg.Count()}, **options))  # noqa: B023
        assert spec.result_type == dict[str, Any]


# ---- what is refused


@CASES.refused("all", 'of={"mean": Mean("temp_f"), "count": Count()}, not None')
def nothing_aggregated(flow: Any) -> None:
    flow.aggregate("all", after="rows", of=None)


@CASES.refused(
    "all", "such as Mean('mean'), or an object with methods make, add, merge and result, not 'mean'"
)
def no_aggregation(flow: Any) -> None:
    flow.aggregate("all", after="rows", of={"mean": "mean"})


@CASES.refused("all", "such as Mean('n')")
def a_window_in_its_place(flow: Any) -> None:
    flow.aggregate("all", after="rows", of={"n": Count(5)})


@CASES.refused("all", "such as Mean('n')")
def the_class(flow: Any) -> None:
    flow.aggregate("all", after="rows", of={"n": agg.Count})


@CASES.refused("all", "texts other than 'end', 'key', 'start', not 'key'")
def a_name_that_is_taken(flow: Flow) -> None:
    flow.aggregate("all", after="rows", of={"key": agg.Count()})


@CASES.refused("all", 'emit="close" needs a window that closes')
def closed_without_a_window(flow: Flow) -> None:
    flow.aggregate("all", after="rows", of={"n": agg.Count()}, emit="close")


@CASES.refused("all", "unknown emit='closed'; did you mean 'close'?")
def unknown_emit(flow: Any) -> None:
    flow.aggregate("all", after="rows", of={"n": agg.Count()}, window=Tumbling(1), emit="closed")


@CASES.refused("all", "take merge= out of Session(...)")
def merged_otherwise(flow: Flow) -> None:
    flow.aggregate("all", after="rows", of={"n": agg.Count()}, window=Session(1, merge=lambda a, b: a))


@CASES.refused("all", "window= is one of Tumbling(...)", "not 5")
def no_window(flow: Any) -> None:
    flow.aggregate("all", after="rows", of={"n": agg.Count()}, window=5)


@CASES.refused("all", "unknown option 'windw'; did you mean 'window'?")
def unknown_option(flow: Any) -> None:
    flow.aggregate("all", after="rows", of={"n": agg.Count()}, windw=Tumbling(1))


@CASES.refused("all", "unknown option 'state'")
def a_state_of_its_own(flow: Any) -> None:
    flow.aggregate("all", after="rows", of={"n": agg.Count()}, state=dict)


@CASES.refused("all", "it has no upstream")
def aggregate_after_nothing(flow: Any) -> None:
    flow.aggregate("all", after=None, of={"n": agg.Count()})


@CASES.refused(None, "the first argument is the stage's name, not 5")
def no_name(flow: Any) -> None:
    flow.aggregate(5, after="rows", of={"n": agg.Count()})


@CASES.refused("all", "ttl= goes with a state for each key", "window=")
def ttl_of_windows(flow: Flow) -> None:
    flow.aggregate("all", after="rows", of={"n": agg.Count()}, window=Tumbling(1), ttl=5)


@CASES.refused("handle", "a plain function of the value so far and the next one; it does not take 2")
def fold_of_one(flow: Any) -> None:
    flow.reduce(handle, after="rows")


@CASES.refused("both", "it is async")
def fold_that_waits(flow: Any) -> None:
    @flow.reduce(after="rows")
    async def both(a: Any, b: Any) -> Any: ...


@CASES.refused("later", "value is no event: take Event[] out", "use a stage with state=")
def fold_of_events(flow: Any) -> None:
    @flow.reduce(after="rows")
    def later(total: dict[str, Any], value: Event[dict[str, Any]]) -> Any: ...


@CASES.refused("later", "total is no event: take Event[] out", "use a stage with state=")
def fold_into_an_event(flow: Any) -> None:
    @flow.reduce(after="rows")
    def later(total: Event[dict[str, Any]], value: dict[str, Any]) -> Any: ...


@CASES.refused("handle", "write @flow.reduce(after=...) or flow.reduce(fn, after=...)")
def fold_without_upstream(flow: Any) -> None:
    flow.reduce(handle)


@CASES.refused("handle", "unknown option 'batch'")
def fold_of_batches(flow: Any) -> None:
    flow.reduce(handle, after="rows", batch=5)


@CASES.refused("add", "it takes int, but 'words' emits str")
def fold_of_misfits(flow: Flow) -> None:
    @flow.stage(after="rows")
    def words(value: Any) -> str:
        return ""

    @flow.reduce(after=words)
    def add(a: int, b: int) -> int:
        return a + b

    flow.spec()


@pytest.mark.parametrize("case", CASES)
def test_refused(case: str) -> None:
    CASES.check(case)

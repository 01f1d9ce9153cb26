"""Timers, times to live and stores that cannot work are refused with what to write instead."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reflow_kafka import Batch, Flow, KeyValue, State, Timer, Tumbling
from reflow_kafka.definition.operators import Keyed
from tests.definition.cases import Cases, base_flow, handle

cases = Cases()


def fold(state: dict[str, Any], value: Any) -> None:
    return None


def add(state: State[int], value: Any) -> None:
    return None


def fires(state: Any, timer: Timer) -> Any:
    return state


def ends(timer: Timer) -> Any:
    return timer.name


@cases.refused(
    "handle", "ttl= forgets states, and the stage has none", "give it state=", "KeyValue(dict, ttl=...)"
)
def a_time_to_live_of_nothing(flow: Flow) -> None:
    flow.stage(handle, after="rows", ttl=60)


@cases.refused("fold", "ttl= is how long", "from 1 ms to 100 years, not 0")
def no_time_to_live(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, ttl=0)


@cases.refused("fold", "ttl= is how long", "not '1h'")
def a_time_to_live_as_text(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, ttl="1h")  # type: ignore[arg-type]


@cases.refused("handle", "stores= gives names to types", "not ['seen']")
def a_list_of_stores(flow: Flow) -> None:
    flow.stage(handle, after="rows", stores=["seen"])  # type: ignore[arg-type]


@cases.refused("handle", "lower-case letters, digits and underscores, not 'Seen'")
def a_bad_name_of_a_store(flow: Flow) -> None:
    flow.stage(handle, after="rows", stores={"Seen": dict})


@cases.refused("handle", "lower-case letters", "not 1")
def no_name_of_a_store(flow: Flow) -> None:
    flow.stage(handle, after="rows", stores={1: dict})  # type: ignore[dict-item]


@cases.refused("handle", "store 'seen' is given {}", "give the type of its values")
def a_value_as_a_store(flow: Flow) -> None:
    flow.stage(handle, after="rows", stores={"seen": {}})


@cases.refused("handle", "store 'seen' is given", "give the type of its values")
def a_function_as_a_store(flow: Flow) -> None:
    flow.stage(handle, after="rows", stores={"seen": lambda: 0})


@cases.refused("handle", "the values of store 'seen' cannot be stored", "list[Flow]")
def a_store_of_what_cannot_be_stored(flow: Flow) -> None:
    flow.stage(handle, after="rows", stores={"seen": list[Flow]})


@cases.refused("handle", "parameter 'timer' of on_timer= is neither", "by position: [state,] timer")
def on_timer_wants_a_state(flow: Flow) -> None:
    def fires(state, timer: Timer) -> Any:  # type: ignore[no-untyped-def]
        return state

    flow.stage(handle, after="rows", on_timer=fires)


@cases.refused("fold", "on_timer= is called with (state, timer) but takes (timer: 'Timer')")
def on_timer_takes_too_little(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, on_timer=ends)


@cases.refused("add", "on_timer= takes the state as the handler does", "State[...]")
def on_timer_takes_another_state(flow: Flow) -> None:
    def fires(state: int, timer: Timer) -> Any:
        return state

    flow.stage(add, after="rows", state=int, on_timer=fires)


@cases.refused("handle", "on_timer= takes a State, so the stage needs state=")
def on_timer_takes_a_state_that_is_not_there(flow: Flow) -> None:
    def fires(state: State[int]) -> Any:
        return state

    flow.stage(handle, after="rows", on_timer=fires)


@cases.refused("handle", "on_timer= is a function, not a class")
def a_class_as_on_timer(flow: Flow) -> None:
    class Ends:
        def __call__(self, timer: Timer) -> Any:
            return timer

    flow.stage(handle, after="rows", on_timer=Ends)


@cases.refused("fold", "cannot be called")
def no_on_timer(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, on_timer="fires")  # type: ignore[arg-type]


@cases.refused("fold", "parameter 'pool' of on_timer= is neither 'ctx' nor a resource")
def on_timer_wants_something_unknown(flow: Flow) -> None:
    def fires(state: Any, timer: Timer, *, pool: Any) -> Any:
        return pool

    flow.stage(fold, after="rows", state=dict, on_timer=fires)


@cases.refused("fold", "ttl= goes with a state for each key", "window=", "another stage")
def a_time_to_live_with_windows(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, ttl=60, window=Tumbling(60))


@cases.refused("fold", "on_timer= goes with a state for each key", "window=")
def timers_with_windows(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, on_timer=fires, window=Tumbling(60))


@cases.refused("fold", "batch= is of no use", "a stage of its own")
def timers_of_batches(flow: Flow) -> None:
    def fold(state: dict[str, Any], values: list[Any]) -> None:
        return None

    flow.stage(fold, after="rows", state=dict, ttl=60, batch=Batch(per_key=True))


@cases.refused("fetch", "concurrency= is of no use", "a stage of its own")
def timers_of_many_at_once(flow: Flow) -> None:
    async def fetch(value: Any) -> Any:
        return value

    flow.stage(fetch, after="rows", on_timer=ends, concurrency=10)


@cases.refused("after_fold", "'fold' emits int", "takes str")
def what_follows_a_timer_takes_something_else(flow: Flow) -> None:
    def fires(state: Any, timer: Timer) -> int:
        return timer.at

    def after_fold(value: str) -> Any:
        return value

    flow.stage(fold, after="rows", state=dict, on_timer=fires)
    flow.stage(after_fold, after="fold")


@cases.refused("fold", "store 'seen'", "KeyValue(int)")
def a_store_of_nothing_in_particular(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, stores={"seen": KeyValue})


@pytest.mark.parametrize("case", cases)
def test_it_is_refused(case: str) -> None:
    cases.check(case)


def test_timers_and_stores_are_part_of_the_stage() -> None:
    flow = base_flow()
    stores = {"orders": list[str], "seen": KeyValue(int, ttl=timedelta(minutes=1)), "any": Any}
    flow.stage(fold, after="rows", state=dict, on_timer=fires, ttl=5, stores=stores)
    stage = flow.spec().stage("fold")
    kinds = {"orders": KeyValue(list[str]), "seen": KeyValue(int, ttl=60), "any": KeyValue(Any)}
    assert stage.operator == Keyed(ttl=5, stores=kinds, timers=True)
    assert stage.codes["on_timer"].target is fires


@pytest.mark.parametrize("options", [{}, {"ttl": None, "on_timer": None, "stores": None}, {"stores": {}}])
def test_without_them_a_stage_is_what_it_was(options: Any) -> None:
    flow = base_flow()
    flow.stage(fold, after="rows", state=dict, **options)
    assert flow.spec().stage("fold").operator is None

"""Windows that cannot work are refused with what to write instead."""

from __future__ import annotations

from typing import Any

import pytest

from reflow_kafka import Batch, Count, Event, Flow, Session, State, Tumbling, Window
from reflow_kafka.definition.operators import Windowed
from tests.definition.cases import Cases, base_flow, handle

cases = Cases()


def fold(state: dict[str, Any], value: Any) -> None:
    return None


def add(state: State[int], value: Any) -> None:
    return None


def close(state: Any, window: Any) -> Any:
    return state


@cases.refused("handle", "on_close= belongs to a window", "window=Tumbling(60)")
def on_close_without_a_window(flow: Flow) -> None:
    flow.stage(handle, after="rows", on_close=close)


@cases.refused("handle", "close_on= belongs to a window")
def close_on_without_a_window(flow: Flow) -> None:
    flow.stage(handle, after="rows", close_on="wall-clock")


@cases.refused("fold", "window= is one of Tumbling(...)", "not 60")
def a_number(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, window=60)  # type: ignore[arg-type]


@cases.refused("fold", "not the class Tumbling itself")
def a_class(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, window=Tumbling)  # type: ignore[arg-type]


@cases.refused("handle", "Add state=", "flow.aggregate(...)")
def no_state(flow: Flow) -> None:
    flow.stage(handle, after="rows", window=Tumbling(60))


@cases.refused("fold", "two sessions", "merge=")
def sessions_without_merge(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, window=Session(60))


@cases.refused("fold", "unknown close_on='wall'", "'wall-clock'")
def an_unknown_clock(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, window=Tumbling(60), close_on="wall")  # type: ignore[arg-type]


@cases.refused("fold", "unknown close_on=''", "'wall-clock'")
def closed_by_nothing(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, window=Tumbling(60), close_on="")  # type: ignore[arg-type]


@cases.refused("fold", "close_on=", "'wall-clock'")
def closed_by_an_array(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, window=Tumbling(60), close_on=[])  # type: ignore[arg-type]


@cases.refused("fold", "closes with its last event", "take close_on= out")
def counts_by_a_clock(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, window=Count(3), close_on="wall-clock")


@cases.refused("fold", "called with (state, window) but takes (state)")
def on_close_takes_too_little(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, window=Tumbling(60), on_close=lambda state: state)


@cases.refused("add", "takes the state as the handler does", "State[...]")
def on_close_takes_another_state(flow: Flow) -> None:
    def closing(state: int, window: Any) -> Any:
        return state

    flow.stage(add, after="rows", state=int, window=Tumbling(60), on_close=closing)


@cases.refused("fold", "window is no event: take Event[] out", "ask ctx")
def on_close_takes_an_event(flow: Flow) -> None:
    def closing(state: dict[str, Any], window: Event[Window]) -> None: ...

    flow.stage(fold, after="rows", state=dict, window=Tumbling(60), on_close=closing)


@cases.refused("fold", "parameter 'pool' of on_close= is neither 'ctx' nor a resource")
def on_close_wants_something_unknown(flow: Flow) -> None:
    def closing(state: Any, window: Any, *, pool: Any) -> Any:
        return pool

    flow.stage(fold, after="rows", state=dict, window=Tumbling(60), on_close=closing)


@cases.refused("fold", "batch= is of no use", "a stage of its own")
def windows_of_batches(flow: Flow) -> None:
    def fold(state: dict[str, Any], values: list[Any]) -> None:
        return None

    flow.stage(fold, after="rows", state=dict, window=Tumbling(60), batch=Batch(per_key=True))


@cases.refused("handle", "'fold' has windows, timers or joins", "take chain=True out")
def chained_to_a_window(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, window=Tumbling(60), on_close=close)
    flow.stage(handle, after="fold", chain=True)


@cases.refused("handle", "declares no output 'late'")
def late_without_a_window(flow: Flow) -> None:
    flow.stage(handle, after="keep.late")


@cases.refused("fold", "output 'late' exists without being declared")
def late_declared(flow: Flow) -> None:
    flow.stage(fold, after="rows", state=dict, window=Tumbling(60), outputs=["late"])


@pytest.mark.parametrize("case", cases)
def test_it_is_refused(case: str) -> None:
    cases.check(case)


def test_a_window_is_part_of_the_stage() -> None:
    flow = base_flow()
    flow.stage(fold, after="rows", state=dict, window=Tumbling(60), on_close=close)
    flow.stage(handle, after="fold.late")
    stage = flow.spec().stage("fold")
    assert stage.operator == Windowed(window=Tumbling(60))
    assert stage.codes["on_close"].target is close

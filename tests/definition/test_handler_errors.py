"""Handlers, states and types that cannot work, and what a person is told about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from reflow_kafka import Event, Flow, State

from .cases import Cases, handle

CASES = Cases()


@dataclass
class Row:
    a: int


@dataclass
class Other:
    b: int


@dataclass(frozen=True)
class Frozen:
    a: int = 0


# ---- handlers


@CASES.refused("handle", "called with (value) but takes ()")
def handler_of_nothing(flow: Any) -> None:
    flow.stage(lambda: None, name="handle", after="rows")


@CASES.refused("handle", "called with (state, value) but takes (value: 'Any')")
def handler_without_state(flow: Flow) -> None:
    flow.stage(handle, after="rows", state=list)


@CASES.refused("ticks", "called with (state) but takes ()")
def generator_without_position(flow: Flow) -> None:
    @flow.source(state=list)
    def ticks() -> Iterator[int]:
        yield 1


@CASES.refused("ticks", "parameter 'position' of its handler is neither 'ctx' nor a resource", "the position")
def generator_without_state(flow: Flow) -> None:
    @flow.source()
    def ticks(position: list[int]) -> Iterator[int]:
        yield 1


@CASES.refused("add", "parameter 'pol' of its handler", "did you mean 'pool'?", "@flow.resource or a default")
def unknown_parameter(flow: Flow) -> None:
    @flow.resource
    def pool() -> object: ...

    @flow.stage(after="rows")
    def add(value: Any, pol: object) -> None: ...


@CASES.refused("lookup", "parameter 'pool' of its handler is neither 'ctx' nor a resource")
def unknown_parameter_of_a_constructor(flow: Flow) -> None:
    @flow.stage(after="rows")
    class Lookup:
        def __init__(self, pool: object) -> None: ...
        def __call__(self, value: Any) -> None: ...


@CASES.refused("add", "data come first by position: write (value, ctx)")
def context_first(flow: Flow) -> None:
    @flow.stage(after="rows")
    def add(ctx: Any, value: Any) -> None: ...


@CASES.refused("add", "parameter 'pool' is positional only")
def positional_only(flow: Flow) -> None:
    @flow.stage(after="rows")
    def add(value: Any, pool: object, /) -> None: ...


@CASES.refused("nothing", "class Nothing has no __call__ method")
def class_without_call(flow: Flow) -> None:
    @flow.stage(after="rows")
    class Nothing: ...


@CASES.refused("handle", "3 cannot be called")
def handler_number(flow: Any) -> None:
    flow.stage(3, name="handle", after="rows")


@CASES.refused("add", "takes a State, so the stage needs state=")
def state_that_nobody_makes(flow: Flow) -> None:
    @flow.stage(after="rows")
    def add(total: State[int], value: Any = None) -> None: ...


# ---- state


@CASES.refused("add", "immutable (int)", "State[int]", ".value")
def immutable_state(flow: Flow) -> None:
    @flow.stage(after="rows", state=int)
    def add(total: int, value: Any) -> None: ...


@CASES.refused("add", "immutable (Frozen)", "State[Frozen]")
def frozen_state(flow: Flow) -> None:
    @flow.stage(after="rows", state=Frozen)
    def add(total: Frozen, value: Any) -> None: ...


@CASES.refused("add", "state=0 is a value", "state=int or state=lambda: 0")
def state_value(flow: Any) -> None:
    @flow.stage(after="rows", state=0)
    def add(total: Any, value: Any) -> None: ...


@CASES.refused("add", "state= cannot be called without arguments: TypeError")
def state_with_arguments(flow: Any) -> None:
    @flow.stage(after="rows", state=Row)
    def add(total: Row, value: Any) -> None: ...


@CASES.refused("add", "state= must be a class or a plain function without arguments")
def state_async(flow: Flow) -> None:
    async def make() -> list[int]:
        return []

    @flow.stage(after="rows", state=make)
    def add(total: Any, value: Any) -> None: ...


@CASES.refused("add", "state= makes a value of type int, but the handler takes str")
def state_of_another_type(flow: Any) -> None:
    @flow.stage(after="rows", state=int)
    def add(total: State[str], value: Any) -> None: ...


@CASES.refused("add", "cannot be stored", "use a dataclass")
def state_that_is_no_data(flow: Flow) -> None:
    @flow.stage(after="rows", state=object)
    def add(total: Any, value: Any) -> None: ...


@CASES.refused("add", "state", "defaultdict", "use a dataclass")
def state_that_changes(flow: Flow) -> None:
    @flow.stage(after="rows", state=lambda: defaultdict(int))
    def add(total: Any, value: Any) -> None: ...


@CASES.refused("ticks", "immutable (int)", "State[int]")
def immutable_position(flow: Flow) -> None:
    @flow.source(state=int)
    def ticks(position: int) -> Iterator[int]:
        yield position


# ---- types


@CASES.refused("late", "it takes str, but 'typed' emits int")
def mismatched_types(flow: Any) -> None:
    @flow.stage(after="rows")
    async def typed(value: Any) -> AsyncIterator[Event[int] | None]:
        yield None

    @flow.stage(after=typed)
    def late(value: str) -> None: ...


@CASES.refused("late", "it takes Other, but 'more' emits Row")
def mismatched_source(flow: Any) -> None:
    more = flow.source("more", topic="more", type=Row)

    @flow.sink(after=["rows", more])
    def late(event: Event[Other]) -> None: ...


@CASES.refused("late", "'silent' emits nothing: its handler is annotated to return None")
def after_nothing(flow: Flow) -> None:
    @flow.stage(after="rows")
    def silent(value: Any) -> None: ...

    flow.stage(handle, name="late", after=silent)


@CASES.refused("late", "the events it takes cannot be written and read", "Flow")
def type_that_no_edge_carries(flow: Flow) -> None:
    @flow.stage(after="rows")
    def late(value: Flow) -> None: ...


@pytest.mark.parametrize("case", CASES)
def test_is_refused(case: str) -> None:
    CASES.check(case)

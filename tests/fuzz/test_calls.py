"""Stages of every kind: if the arguments go together they run, if one is anything else that is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reflow_kafka import Flow
from reflow_kafka.errors import DefinitionError, ReflowError
from reflow_kafka.testing import FlowTest
from tests.fuzz.arguments import objects
from tests.fuzz.calls import CALLS
from tests.fuzz.effort import examples

START = 1_700_000_000_000
values = st.fixed_dictionaries(
    {
        "k": st.sampled_from("abc"),
        "n": st.integers(1, 4),
        "parts": st.just(2),
        "at": st.integers(START, START + 20_000),
    }
)
events = st.lists(st.tuples(st.sampled_from(["s", "t", "rows", "others"]), values), max_size=8)


def a_flow() -> Flow:
    """Streams and tables that stages of any kind can follow."""
    flow = Flow("fuzzed", partitions=2)
    flow.source("s", topic="t1", key="k", timestamp="at", out_of_orderness=5)
    flow.source("t", topic="t2", key="k", timestamp="at", out_of_orderness=5)
    flow.table("rows", topic="t3", key="k", timestamp="at")
    flow.table("others", topic="t4", key="k")
    return flow


def given_for(kind: str, data: st.DataObject) -> dict[str, Any]:
    """Arguments that go together."""
    call = CALLS[kind]
    return data.draw(st.fixed_dictionaries(dict(call.needed), optional=dict(call.more)))


def run(flow: Flow, happening: list[tuple[str, Any]], crash: bool) -> list[Any]:
    """All that happens to a flow; returns its dead letters."""
    flow.stage(lambda value: None, name="end", after=["s", "t", "rows", "others"])
    with FlowTest(flow, start=START) as test:
        for source, value in happening:
            test.send(source, value)
        if crash:
            test.restart(lose_state=True)
        test.advance(60, event_time=START + 60_000)
        test.end()
        return test.dead_letters()


@pytest.mark.parametrize("kind", CALLS)
@examples(6)
@given(data=st.data(), happening=events, crash=st.booleans())
def test_what_goes_together_runs(
    kind: str, data: st.DataObject, happening: list[tuple[str, Any]], crash: bool
) -> None:
    flow = a_flow()
    CALLS[kind].define(flow, name=kind, **given_for(kind, data))
    assert run(flow, happening, crash) == []


@pytest.mark.parametrize("kind", CALLS)
@examples(12)
@given(data=st.data(), happening=events)
def test_one_argument_that_is_anything(
    kind: str, data: st.DataObject, happening: list[tuple[str, Any]]
) -> None:
    call, flow = CALLS[kind], a_flow()
    arguments = {"name": kind, **given_for(kind, data)}
    spoilt = data.draw(st.sampled_from(["name", *call.needed, *call.more]))
    arguments[spoilt] = data.draw(objects)
    # Of this class nothing can be made: its lanes try for ten minutes, which takes a test a minute.
    assume(arguments[spoilt] is not type)
    with said():
        call.define(flow, **arguments)
        run(flow, happening, crash=False)


@contextmanager
def said() -> Iterator[None]:
    """Nothing is wrong, or it is said what, and where if that can be seen in the definition."""
    try:
        yield
    except ReflowError as error:
        told = error.message if isinstance(error, DefinitionError) else str(error)
        where = error.where if isinstance(error, DefinitionError) else "fuzz"
        if not told or "fuzz" not in where:
            raise AssertionError(f"this tells too little: {error!r}") from error

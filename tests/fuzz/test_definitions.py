"""Definitions with arguments of any kind: a `DefinitionError` that names stage or line, or a sound flow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reflow_kafka import (
    Batch,
    Flow,
    Hopping,
    KeyValue,
    Rate,
    Retry,
    Session,
    Sliding,
    Tumbling,
    aggregations,
    windows,
)
from reflow_kafka.aggregations import Count
from reflow_kafka.errors import DefinitionError
from reflow_kafka.sketches import ApproxDistinct, Quantiles
from reflow_kafka.topology.planner import make_plan
from tests.fuzz.arguments import ANNOTATIONS, handlers, objects, plain, states, two
from tests.fuzz.effort import examples

AGGREGATIONS = [
    getattr(aggregations, name)
    for name in ("Count", "Sum", "Mean", "Min", "Max", "First", "Last", "Earliest", "Latest", "Collect")
]


def options(**given: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: good | objects for name, good in given.items()})


good_names = st.sampled_from(["a", "b", "c", "s"])
upstreams = st.one_of(
    good_names, st.lists(good_names, max_size=3), st.sampled_from(["a.error", "b.side", "a.nowhere", "a.b.c"])
)
running = {
    "key": st.sampled_from(["k", plain]),
    "when": st.just(plain),
    "partitions": st.integers(1, 4),
    "on_error": st.sampled_from(["stop", "skip", two]),
    "timeout": st.just(1.0),
    "concurrency": st.integers(1, 3),
    "batch": st.just(Batch()),
    "run_in": st.sampled_from(["thread", "process", "loop"]),
    "rate": st.just(Rate(1)),
    "retry": st.just(Retry()),
    "chain": st.booleans(),
}
folding = {
    "window": st.sampled_from([Tumbling(1), Session(1)]),
    "emit": st.sampled_from(["close", "update"]),
    "close_on": st.just("wall-clock"),
    "ttl": st.just(1.0),
}
steps = st.one_of(
    st.tuples(
        st.just("stage"),
        handlers,
        options(name=good_names, after=upstreams, outputs=st.just(["side"]), state=states, **running),
    ),
    st.tuples(
        st.just("source"),
        good_names | objects,
        options(
            topic=st.sampled_from(["t", "u"]),
            type=st.sampled_from(ANNOTATIONS),
            format=st.just("json"),
            key=st.just("k"),
            timestamp=st.just("t"),
            auto_offset_reset=st.just("latest"),
            name=good_names,
            state=states,
        ),
    ),
    st.tuples(
        st.just("sink"),
        good_names | objects,
        options(after=upstreams, topic=st.just("o"), name=good_names, format=st.just("str"), **running),
    ),
    st.tuples(
        st.just("gather"),
        handlers,
        options(
            name=good_names,
            after=upstreams,
            expect=st.sampled_from([2, "n", plain]),
            within=st.just(1),
            id=st.just("id"),
            close_on=st.just("wall-clock"),
            **running,
        ),
    ),
    st.tuples(
        st.just("zip"), handlers, options(name=good_names, after=upstreams, limit=st.just(5), **running)
    ),
    st.tuples(st.just("reduce"), handlers, options(name=good_names, after=upstreams, **folding, **running)),
    st.tuples(
        st.just("aggregate"),
        good_names | objects,
        st.fixed_dictionaries(
            {"of": st.just({"n": Count()}) | objects, "after": upstreams | objects},
            optional={name: good | objects for name, good in {**folding, **running}.items()},
        ),
    ),
    st.tuples(st.just("reply"), st.none(), options(after=upstreams, name=good_names, when=st.just(plain))),
    st.tuples(st.just("resource"), handlers, options(per=st.sampled_from(["engine", "worker"]))),
    st.tuples(st.just("get"), objects, st.just({})),
    st.tuples(st.just("output"), good_names, st.fixed_dictionaries({"name": objects})),
    st.tuples(
        st.just("unknown"),
        st.just(plain),
        st.fixed_dictionaries({}, optional={"nmae": objects, "afte": objects}),
    ),
)


def define(flow: Flow, kind: str, subject: Any, given: dict[str, Any]) -> None:
    if kind == "get":
        flow[subject]
    elif kind == "output":
        output = flow[subject].output(given["name"])
        flow.sink("after", after=output, topic="beside")
    elif kind == "reply":
        flow.reply(**{"after": None, **given})
    elif kind == "unknown":
        flow.stage(subject, after="s", **given)
    elif kind == "resource" or subject is None:
        getattr(flow, kind)(subject, **{n: v for n, v in given.items() if kind != "resource" or n == "per"})
    elif kind == "sink":
        flow.sink(subject, **{"after": "s", **given})
    else:
        getattr(flow, kind)(subject, **given)


@contextmanager
def sound_or_refused(about: str = "") -> Iterator[None]:
    """Nothing is wrong, or it is said where, what, and about which thing."""
    try:
        yield
    except DefinitionError as error:
        _check(error, about)


def _check(error: DefinitionError, about: str) -> None:
    assert "test_definitions.py:" in str(error)
    assert error.message
    assert about in str(error)


@examples(300)
@given(steps=st.lists(steps, max_size=4), good=st.booleans())
def test_any_arguments(steps: list[Any], good: bool) -> None:
    flow = Flow("fuzzed", partitions=2)
    if good:
        flow.source("s", topic="t")
    for kind, subject, arguments in steps:
        with sound_or_refused():
            define(flow, kind, subject, arguments)
    with sound_or_refused():
        for format in ("tree", "json", "mermaid", "dot", "text"):
            assert flow.describe(format)  # type: ignore[arg-type]
        make_plan(flow.spec(), {"t": 2, "u": 3, "o": 1, "beside": 1})


@examples(150)
@example(given={"partitions": 10**12})
@example(given={"dead_letter_limit": 10**400})
@example(given={"name": "a" * 300})
@given(
    given=options(
        name=st.just("fuzzed"),
        partitions=st.integers(1, 3),
        retry=st.just(Retry()),
        on_error=st.just("skip"),
        dead_letter_limit=st.just(0.5),
    )
)
def test_arguments_of_a_flow(given: dict[str, Any]) -> None:
    with sound_or_refused():
        flow = Flow(**{"name": "fuzzed", **given})
        flow.stage(plain, after=flow.source("s", topic="t"), state=dict)
        make_plan(flow.spec(), {"t": 1})


NEEDED: dict[Any, dict[str, Any]] = {
    Rate: {"events": 1},
    Tumbling: {"size": 1},
    Hopping: {"size": 2, "every": 1},
    Sliding: {"size": 1},
    Session: {"gap": 1},
    windows.Count: {"size": 1},
    KeyValue: {"type": int},
    aggregations.TopK: {"k": 1},
    Quantiles: {"of": "a", "ranks": [0.5]},
}
MORE: dict[Any, tuple[str, ...]] = {
    Retry: ("attempts", "backoff", "factor", "max_backoff", "jitter", "on"),
    Batch: ("max_events", "max_bytes", "within", "per_key"),
    Rate: ("per",),
    Tumbling: ("grace",),
    Hopping: ("grace",),
    Sliding: ("grace",),
    Session: ("grace", "merge"),
    windows.Count: (),
    KeyValue: ("ttl",),
    aggregations.TopK: ("of", "by"),
    Quantiles: ("size",),
    ApproxDistinct: ("of", "precision"),
    **dict.fromkeys(AGGREGATIONS, ("of",)),
}


@pytest.mark.parametrize("kind", MORE, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@examples(60)
@given(data=st.data())
def test_arguments_of_options(kind: Any, data: st.DataObject) -> None:
    needed = NEEDED.get(kind, {})
    given = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys([*needed, *MORE[kind]], objects)))
    with sound_or_refused(kind.__name__):
        kind(**{**needed, **given})


@examples(100)
@given(after=st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=8))
def test_any_graph(after: list[list[int]]) -> None:
    """Upstreams at random, forward, backward and of itself: a ring is named, the rest can be planned."""
    flow = Flow("graph", partitions=1)
    flow.source("n0", topic="t")
    for number, upstreams in enumerate(after, 1):
        with sound_or_refused():
            flow.stage(plain, name=f"n{number}", after=[f"n{u}" for u in upstreams])
    with sound_or_refused():
        make_plan(flow.spec(), {"t": 1})

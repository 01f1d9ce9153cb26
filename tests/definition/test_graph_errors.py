"""Names and graphs that cannot work, and what a person is told about them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from reflow_kafka import DefinitionError, Flow

from .cases import Cases, base_flow, handle

CASES = Cases()


# ---- names


@CASES.refused("handle", "its name is taken by the stage at", "name=")
def duplicate_name(flow: Flow) -> None:
    flow.stage(handle, after="rows")
    flow.stage(handle, after="rows")


@CASES.refused("doIt", "lower-case letters, digits and underscores", "name='do_it'")
def bad_name(flow: Flow) -> None:
    def doIt(value: Any) -> Any: ...

    flow.stage(doIt, after="rows")


@CASES.refused("Größe", "lower-case letters", "choose one with name=")
def bad_source_name(flow: Flow) -> None:
    flow.source("Größe", topic="t")


@CASES.refused("changelog", "reserved")
def reserved_name(flow: Flow) -> None:
    flow.stage(handle, name="changelog", after="rows")


@CASES.refused("dead-letters", "reserved")
def reserved_sink_name(flow: Flow) -> None:
    flow.sink("dead-letters", after="rows", topic="t")


@CASES.refused(None, "has no name of its own", "name=")
def nameless_lambda(flow: Flow) -> None:
    flow.stage(lambda value: value, after="rows")


@CASES.refused(None, "has no name of its own", "name=")
def nameless_partial(flow: Flow) -> None:
    flow.stage(functools.partial(handle), after="rows")


@CASES.refused("b_c", "topic 'test.a.b_c' clashes with 'test.a_b.c'")
def names_equal_in_kafka(flow: Flow) -> None:
    flow.stage(handle, name="a", after="rows")
    flow.stage(handle, name="a_b", after="rows")
    flow.stage(handle, name="c", after="a_b")
    flow.stage(handle, name="b_c", after="a")


@CASES.refused("x" * 250, "longer than Kafka allows (249)")
def topic_name_too_long(flow: Flow) -> None:
    flow.stage(handle, name="x" * 250, after="rows")


@CASES.refused("rows", "two names, 'rows' and name='more'")
def two_names(flow: Any) -> None:
    flow.source("rows", topic="t", name="more")


@CASES.refused(None, "name= is a text, not 3")
def name_no_text(flow: Any) -> None:
    flow.stage(handle, name=3, after="rows")


# ---- the graph


@CASES.refused("late", "its upstream 'kep' is no stage of this flow; did you mean 'keep'?")
def unknown_upstream(flow: Flow) -> None:
    flow.stage(handle, name="late", after="kep")


@CASES.refused("late", "'zzz' is no stage of this flow; there is 'keep', 'late', 'rows'")
def unknown_upstream_like_none(flow: Flow) -> None:
    flow.stage(handle, name="late", after="zzz")


@CASES.refused("a", "round in a circle: a → b → a")
def cycle(flow: Flow) -> None:
    flow.stage(handle, name="a", after=["b", "rows"])
    flow.stage(handle, name="b", after="a")
    flow.stage(handle, name="after_the_circle", after="b")


@CASES.refused("a", "round in a circle: a → a")
def cycle_of_one(flow: Flow) -> None:
    flow.stage(handle, name="a", after="a")


@CASES.refused("late", "nothing can follow 'out', a sink; follow what the sink follows")
def after_a_sink(flow: Flow) -> None:
    flow.sink("out", after="keep", topic="out")
    flow.stage(handle, name="late", after="out")


@CASES.refused("late", "nothing can follow 'out', a sink")
def after_the_errors_of_a_sink(flow: Flow) -> None:
    flow.sink("out", after="keep", topic="out")
    flow.stage(handle, name="late", after="out.error")


@CASES.refused("handle", "has no upstream: say with after= whose events it takes")
def no_upstream(flow: Any) -> None:
    flow.stage(name="handle")(handle)


@CASES.refused("handle", "has no upstream")
def empty_merge(flow: Flow) -> None:
    flow.stage(handle, after=[])


@CASES.refused("out", "has no upstream")
def sink_without_upstream(flow: Any) -> None:
    flow.sink("out", topic="out")


@CASES.refused("handle", "follows 'rows' twice")
def upstream_twice(flow: Flow) -> None:
    flow.stage(handle, after=["rows", flow["rows"]])


@CASES.refused("late", "'keep' declares no output 'bigg' (outputs=[...]); did you mean 'big'?")
def undeclared_output(flow: Flow) -> None:
    flow.stage(handle, name="late", after=flow["keep"].output("bigg"))


@CASES.refused("late", "'rows' declares no output 'late'")
def output_of_a_source(flow: Flow) -> None:
    flow.stage(handle, name="late", after="rows.late")


# ---- what after= may be


@CASES.refused("handle", "it has no upstream: write @flow.stage(after=...)")
def bare_stage(flow: Any) -> None:
    flow.stage(handle)


@CASES.refused("rows", "it has no upstream: write @flow.stage(after=...)")
def upstream_without_its_option(flow: Any) -> None:
    flow.stage("rows")


@CASES.refused("ticks", "write @flow.source() with parentheses, or flow.source(ticks, name=...)")
def bare_source(flow: Any) -> None:
    def ticks() -> Iterator[int]: ...

    flow.source(ticks)


@CASES.refused("handle", "it has no upstream: write @flow.sink(after=...)")
def bare_sink(flow: Any) -> None:
    flow.sink(handle)


@CASES.refused("late", "handle is no stage of flow 'test': decorate it first")
def after_an_unknown_object(flow: Flow) -> None:
    flow.stage(handle, name="late", after=handle)


@CASES.refused("late", "handle is several stages, 'one', 'two': use a name or a handle")
def after_an_object_registered_twice(flow: Flow) -> None:
    flow.stage(handle, name="one", after="rows")
    flow.stage(handle, name="two", after="rows")
    flow.stage(handle, name="late", after=handle)


@CASES.refused("handle", "<stage rows of flow 'other'> is of another flow", "a topic")
def after_a_handle_of_another_flow(flow: Flow) -> None:
    flow.stage(handle, after=Flow("other").source("rows", topic="rows"))


@CASES.refused("handle", "3 is no stage of flow 'test'")
def after_nonsense(flow: Any) -> None:
    flow.stage(handle, after=3)


@CASES.refused(None, "flow 'test' has no stage 'kep'; did you mean 'keep'?")
def handle_of_an_unknown_stage(flow: Flow) -> None:
    flow["kep"]


# ---- resources


@CASES.refused(None, "resource 'pool' is defined already at", "rename one of them")
def duplicate_resource(flow: Flow) -> None:
    def pool() -> object: ...

    flow.resource(pool)
    flow.resource(pool)


@CASES.refused(None, "a resource cannot be called 'ctx'")
def resource_named_ctx(flow: Flow) -> None:
    @flow.resource
    def ctx() -> object: ...


@CASES.refused(None, "a resource is a named function or generator function, not")
def nameless_resource(flow: Flow) -> None:
    flow.resource(lambda: None)


@CASES.refused(None, 'per= is "engine" or "worker", not \'lane\'')
def resource_per_lane(flow: Any) -> None:
    @flow.resource(per="lane")
    def pool() -> object: ...


@CASES.refused(None, "resources take each other in a circle: a → b → a")
def resource_cycle(flow: Flow) -> None:
    @flow.resource
    def a(b: object) -> object: ...

    @flow.resource
    def b(a: object) -> object: ...


@CASES.refused(None, "resource 'a' takes 'bb', which is no resource", "'a'")
def unknown_resource(flow: Flow) -> None:
    @flow.resource
    def a(bb: object) -> object: ...


@CASES.refused(None, "resource 'a' lives as long as the engine, so it cannot take 'b'", 'per="worker"')
def resource_outlives_another(flow: Flow) -> None:
    @flow.resource
    def a(b: object) -> object: ...

    @flow.resource(per="worker")
    def b() -> object: ...


@pytest.mark.parametrize("case", CASES)
def test_is_refused(case: str) -> None:
    CASES.check(case)


def test_the_base_is_in_order() -> None:
    """So that each case fails for its own reason."""
    assert [stage.name for stage in base_flow().spec().stages] == ["rows", "keep"]


@pytest.mark.parametrize("name", ["Weather", "my_flow", "1st", "", "a.b", None])
def test_flow_names(name: Any) -> None:
    with pytest.raises(
        DefinitionError, match=r"test_graph_errors\.py:\d+: a flow's name is lower-case letters"
    ):
        Flow(name)


@pytest.mark.parametrize("partitions", [0, -1, 1.5, "8", True, 100_001])
def test_flow_partitions(partitions: Any) -> None:
    with pytest.raises(DefinitionError, match="a whole number from 1 to 100,000"):
        Flow("test", partitions=partitions)


def test_flow_on_error() -> None:
    wrong: Any = "explode"
    with pytest.raises(DefinitionError, match="unknown on_error='explode'"):
        Flow("test", on_error=wrong)


def test_flow_without_source() -> None:
    flow = Flow("test")
    with pytest.raises(DefinitionError, match=r"test_graph_errors\.py:\d+: flow 'test' has no source"):
        flow.spec()
    flow.stage(handle, name="a", after="b")
    with pytest.raises(DefinitionError, match="has no source"):
        flow.spec()

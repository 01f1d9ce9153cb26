"""`Flow`: decorators, calls and handles, and the specs that come of them."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reflow_kafka import Batch, Context, DefinitionError, Event, Flow, Rate, Retry, Stage, State
from reflow_kafka.definition.spec import UNSET, Shape, SinkSpec, StateBy, UpstreamRef


@dataclass
class Row:
    a: int


@dataclass
class Last24:
    temps: list[float] = field(default_factory=list)


class Nowhere:
    """A connector that is only configured."""

    async def parts(self) -> Sequence[str]:
        return [""]

    async def open(self, *args: Any) -> Any:
        raise NotImplementedError


def keep(value: Any) -> Any:
    return value


def names(refs: tuple[UpstreamRef, ...]) -> list[str]:
    return [str(ref) for ref in refs]


@pytest.fixture
def flow() -> Flow:
    flow = Flow("test")
    flow.source("rows", topic="rows")
    return flow


def test_the_weather_flow() -> None:
    flow = Flow("weather", partitions=4)
    readings = flow.source("readings", topic="weather-readings", key="station")

    @flow.stage(after=readings, state=Last24)
    def average(last: Last24, reading: dict[str, Any]) -> dict[str, Any]:
        last.temps = [*last.temps, reading["temp_f"]][-24:]
        return {**reading, "average": sum(last.temps) / len(last.temps)}

    @flow.stage(after=average, when=lambda r: r["temp_f"] > r["average"] + 15)
    async def alert(reading: dict[str, Any]) -> dict[str, Any]:
        return reading

    flow.sink("alerts", after=alert, topic="weather-alerts")

    spec = flow.spec()
    assert (spec.name, spec.partitions) == ("weather", 4)
    assert [(s.name, s.kind, names(s.after)) for s in spec.stages] == [
        ("readings", "source", []),
        ("average", "stage", ["readings"]),
        ("alert", "stage", ["average"]),
        ("alerts", "sink", ["alert"]),
    ]
    source, stage, filtered, sink = spec.stages
    assert source.source is not None
    assert (source.source.topics, source.key) == (("weather-readings",), "station")
    assert stage.handler is not None
    assert stage.state is not None
    assert (stage.handler.target, stage.handler.state_by, stage.state.type) == (
        average,
        StateBy.OBJECT,
        Last24,
    )
    assert filtered.handler is not None
    assert filtered.handler.shape is Shape.COROUTINE
    assert filtered.when is not None
    assert filtered.when({"temp_f": 80, "average": 60})
    assert sink.sink is not None
    assert (sink.sink.topic, sink.key) == ("weather-alerts", UNSET)
    assert average(Last24(), {"temp_f": 3.0}) == {"temp_f": 3.0, "average": 3.0}


# ---- decorators and calls


def test_decorators_return_what_they_decorate(flow: Flow) -> None:
    def generator() -> Iterator[int]: ...
    def factory() -> object: ...

    assert flow.stage(after="rows")(keep) is keep
    assert flow.source()(generator) is generator
    assert flow.sink(after="rows", name="out")(keep) is keep
    assert flow.resource(factory) is factory
    assert flow.stage(after="rows")(Lookup) is Lookup

    def other() -> object: ...

    assert flow.resource(per="worker")(other) is other


class Lookup:
    def __call__(self, value: Any) -> Any: ...


class RateLimiter(Lookup): ...


def test_calls_return_handles(flow: Flow) -> None:
    def generator() -> Iterator[int]: ...

    handles = [
        flow.source("more", topic="more"),
        flow.source(generator, name="ticks"),
        flow.stage(keep, after="rows"),
        flow.sink("out", after="rows", topic="out"),
        flow.sink(keep, after="rows", name="kept"),
    ]
    assert all(isinstance(h, Stage) for h in handles)
    assert [h.name for h in handles] == ["more", "ticks", "keep", "out", "kept"]
    assert [s.kind for s in flow.spec().stages[1:]] == ["source", "source", "stage", "sink", "sink"]


def test_names(flow: Flow) -> None:
    flow.stage(Lookup, after="rows")
    flow.stage(RateLimiter, after="rows")
    flow.stage(Lookup(), name="instance", after="rows")
    flow.stage(functools.partial(keep), name="partial", after="rows")
    flow.stage(lambda value: value, name="anonymous", after="rows")
    assert [s.name for s in flow.spec().stages] == [
        "rows",
        "lookup",
        "rate_limiter",
        "instance",
        "partial",
        "anonymous",
    ]


def test_where_is_the_line_of_the_definition(flow: Flow) -> None:
    here = sys._getframe().f_lineno

    @flow.stage(after="rows")
    def one(value: Any) -> Any: ...

    flow.stage(keep, after="rows")
    lines = [int(s.where.rpartition(":")[2]) for s in flow.spec().stages[1:]]
    assert lines == [here + 2, here + 5]
    assert Path(flow.spec().stages[1].where.rpartition(":")[0]).resolve() == Path(__file__)


# ---- after=


def test_after_takes_handles_names_objects_and_lists(flow: Flow) -> None:
    handle = flow.stage(keep, after="rows", outputs=["big"])
    flow.stage(Lookup, after=keep)
    flow.stage(keep, name="by_handle", after=handle)
    flow.stage(keep, name="by_output", after=handle.output("big"))
    flow.stage(keep, name="by_class", after=Lookup)
    flow.stage(keep, name="merged", after=[Lookup, "later", flow["keep"].output("big"), "keep.error", handle])
    flow.stage(keep, name="later", after=("rows",))
    assert {s.name: names(s.after) for s in flow.spec().stages} == {
        "rows": [],
        "keep": ["rows"],
        "lookup": ["keep"],
        "by_handle": ["keep"],
        "by_output": ["keep.big"],
        "by_class": ["lookup"],
        "merged": ["lookup", "later", "keep.big", "keep.error", "keep"],
        "later": ["rows"],
    }


class Rules:
    def check(self, value: Any) -> Any:
        return value


def test_bound_methods_are_matched_by_object_and_function(flow: Flow) -> None:
    one, two = Rules(), Rules()
    flow.stage(one.check, name="one", after="rows")
    flow.stage(two.check, name="two", after=one.check)
    assert flow[two.check].name == "two"
    with pytest.raises(DefinitionError, match="is no stage of flow 'test'"):
        flow[Rules().check]


def test_one_function_in_two_flows() -> None:
    flows = [Flow("a"), Flow("b")]
    for flow in flows:
        flow.source("rows", topic="rows")
        flow.stage(keep, after="rows")
        flow.sink("out", after=keep, topic="out")
    assert [flow[keep].flow.name for flow in flows] == ["a", "b"]


def test_handles(flow: Flow) -> None:
    flow.stage(keep, after="rows", outputs=["big"])
    assert flow[keep] == flow["keep"] == flow[flow["keep"]]
    assert flow["keep.big"] == flow[keep].output("big")
    assert flow["keep"] != Flow("other").source("keep", topic="t")
    assert repr(flow["keep.big"]) == "<stage keep.big of flow 'test'>"
    assert repr(flow) == "<flow 'test'>"


# ---- options


def test_options_of_a_stage(flow: Flow) -> None:
    def failed(error: Exception, event: Event[Any]) -> Any: ...

    flow.stage(keep, after="rows", key=None, partitions=1, outputs=["big", "small"], on_error=failed)
    stage = flow.spec().stage("keep")
    assert (stage.key, stage.partitions, stage.outputs, stage.on_error) == (None, 1, ("big", "small"), failed)


def test_the_flow_decides_what_a_stage_does_not() -> None:
    flow = Flow("test", on_error="stop")
    flow.source("rows", topic="rows")
    flow.stage(keep, after="rows")
    flow.sink("out", after=keep, topic="out", on_error="skip")
    assert [s.on_error for s in flow.spec().stages] == ["stop", "stop", "skip"]
    assert [s.partitions for s in flow.spec().stages] == [None, None, None]


def test_options_of_a_topic_source(flow: Flow) -> None:
    flow.source(
        "more",
        topic=["a", "b"],
        type=Row,
        key="a",
        timestamp="a",
        auto_offset_reset="latest",
    )
    stage = flow.spec().stage("more")
    source = stage.source
    assert source is not None
    assert (stage.type, stage.key) == (Row, "a")
    assert (source.topics, source.timestamp, source.format) == (("a", "b"), "a", "json")
    assert source.auto_offset_reset == "latest"


def test_connectors(flow: Flow) -> None:
    source, sink = Nowhere(), Nowhere()
    flow.source("more", source, key="a")
    flow.sink("out", sink, after="more", key="a", partitions=1)
    spec = flow.spec()
    assert spec.stage("more").source is not None
    assert spec.stage("more").source.connector is source  # type: ignore[union-attr]
    assert spec.stage("out").sink.connector is sink  # type: ignore[union-attr]
    assert (spec.stage("out").key, spec.stage("out").partitions) == ("a", 1)


def test_a_sink_over_a_function(flow: Flow) -> None:
    @flow.sink(after="rows", key="a", partitions=2)
    async def insert(event: Event[Row], ctx: Context) -> None: ...

    stage = flow.spec().stage("insert")
    assert (stage.kind, stage.key, stage.partitions) == ("sink", "a", 2)
    assert stage.sink is not None
    assert (stage.sink.topic, stage.sink.connector) == (None, None)
    assert stage.handler is not None
    assert (stage.handler.takes_event, stage.handler.value_type, stage.handler.by_name) == (
        True,
        Row,
        ("ctx",),
    )


def test_a_sink_into_topics_chosen_by_value(flow: Flow) -> None:
    def choose(value: Any) -> str: ...

    flow.sink("out", after="rows", topic=choose, format="str")
    sink = flow.spec().stage("out").sink
    assert sink is not None
    assert (sink.topic, sink.format) == (choose, "str")


@dataclass
class Position:
    at: int = 0


def test_a_source_over_a_generator(flow: Flow) -> None:
    @flow.source(state=Position, key="n", timestamp=lambda e: e["n"])
    async def ticks(position: Position, ctx: Context) -> AsyncIterator[Row]:
        yield Row(1)

    @flow.source(state=int)
    def boxed(position: State[int]) -> Iterator[Event[Row] | None]:
        yield None

    stage = flow.spec().stage("ticks")
    assert stage.source is not None
    assert stage.handler is not None
    assert stage.state is not None
    assert (stage.type, stage.key, stage.source.position) == (Row, "n", Position)
    assert (stage.state.type, stage.state.boxed) == (Position, False)
    assert (stage.handler.shape, stage.handler.by_name) == (Shape.ASYNC_GENERATOR, ("ctx",))
    boxed_stage = flow.spec().stage("boxed")
    assert boxed_stage.type is Row
    assert boxed_stage.state is not None
    assert boxed_stage.state.boxed


# ---- resources


def test_resources_are_filled_by_name(flow: Flow) -> None:
    @flow.resource
    def settings() -> dict[str, str]: ...

    @flow.resource(per="worker")
    async def pool(settings: dict[str, str], size: int = 3) -> AsyncIterator[object]:
        yield object()

    @flow.stage(after="rows")
    class Insert:
        def __init__(self, pool: object, size: int = 3) -> None: ...
        def __call__(self, row: Row, *, settings: Any, ctx: Context, more: Any = None) -> None: ...

    spec = flow.spec()
    assert {name: (r.per, r.by_name) for name, r in spec.resources.items()} == {
        "settings": ("engine", ()),
        "pool": ("worker", ("settings",)),
    }
    handler = spec.stage("insert").handler
    assert handler is not None
    assert (handler.by_name, handler.init_by_name) == (("settings", "ctx"), ("pool",))


def test_resources_may_come_after_those_who_take_them(flow: Flow) -> None:
    @flow.stage(after="rows")
    def add(value: Any, cache: Any = None) -> None: ...

    def by_name() -> tuple[str, ...]:
        handler = flow.spec().stage("add").handler
        assert handler is not None
        return handler.by_name

    assert by_name() == ()
    flow.resource(cache)
    assert by_name() == ("cache",)


def cache() -> object: ...


# ---- the whole


def test_the_spec_is_made_again_only_after_a_change(flow: Flow) -> None:
    first = flow.spec()
    assert flow.spec() is first
    flow.stage(keep, after="rows")
    assert flow.spec() is not first
    assert len(first.stages) == 1


def test_a_refused_stage_leaves_no_trace(flow: Flow) -> None:
    with pytest.raises(DefinitionError):
        flow.stage(keep, after="rows", partitions=0)
    flow.stage(keep, after="rows")
    assert flow[keep].name == "keep"


def test_a_long_chain(flow: Flow) -> None:
    previous: Any = "rows"
    for i in range(2000):
        previous = flow.stage(keep, name=f"s{i}", after=previous)
    assert len(flow.spec().stages) == 2001


def test_describe_and_topology(flow: Flow) -> None:
    flow.stage(keep, after="rows")
    assert "keep" in flow.describe()
    assert [str(edge.upstream) for edge in flow.topology().edges] == ["rows"]


@pytest.mark.parametrize("heavy", ["aiokafka", "rocksdict", "asyncio", "click", "rich", "pydantic"])
def test_a_definition_imports_nothing_heavy(heavy: str) -> None:
    program = (
        "import sys; from reflow_kafka import Flow; f = Flow('x'); f.source('a', topic='a'); f.spec(); "
        f"sys.exit({heavy!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_version() -> None:
    from importlib.metadata import version

    import reflow_kafka

    assert reflow_kafka.__version__ == version("reflow-kafka")
    with pytest.raises(AttributeError, match="has no attribute 'Missing'"):
        _ = reflow_kafka.Missing


# ---- how handlers are run


async def fetch(row: Any) -> Any:
    return row


def test_how_a_handler_is_run(flow: Flow) -> None:
    flow.stage(fetch, after="rows", concurrency=100, timeout=timedelta(seconds=5), rate=Rate(10))
    flow.stage(keep, name="thread", after="rows", run_in="thread", concurrency=4, timeout=2)
    flow.stage(keep, name="batched", after="rows", batch=Batch(10), retry=Retry(None))
    flow.stage(keep, name="chained", after="batched", chain=True)
    flow.sink(fetch, name="put", after="rows", concurrency=3)
    stages = {stage.name: stage for stage in flow.spec().stages}
    found = stages["fetch"]
    assert (found.concurrency, found.timeout, found.rate) == (100, 5.0, Rate(10))
    assert (found.retry, found.batch, found.run_in, found.chain) == (Retry(), None, "loop", False)
    assert (stages["thread"].run_in, stages["thread"].timeout) == ("thread", 2.0)
    assert (stages["batched"].batch, stages["batched"].retry) == (Batch(10), Retry(None))
    assert stages["chained"].chain
    assert stages["put"].concurrency == 3
    assert flow.spec().dead_letter_limit == 0.5


def test_a_flow_says_how_its_stages_fail() -> None:
    flow = Flow("test", retry=Retry(7), dead_letter_limit=1)
    flow.source("rows", topic="rows")
    flow.stage(keep, after="rows")
    flow.stage(keep, name="other", after="rows", retry=Retry(2))
    flow.sink(keep, name="function", after="rows")
    flow.sink("connector", Nowhere(), after="rows", batch=Batch(5))
    flow.sink("patient", Nowhere(), after="rows", retry=Retry(9))
    attempts = {stage.name: stage.retry.attempts for stage in flow.spec().stages if stage.kind != "source"}
    assert attempts == {"keep": 7, "other": 2, "function": 7, "connector": None, "patient": 9}
    assert flow.spec().stage("connector").batch == Batch(5)
    assert flow.spec().dead_letter_limit == 1


def test_a_reply_stage_answers_what_follows_it(flow: Flow) -> None:
    stage = flow.stage(keep, after="rows")
    assert flow.reply(after=[stage, "keep.error"]).name == "reply"
    flow.reply(after=keep, name="other", when=bool)
    one, other = (flow.spec().stage(name) for name in ("reply", "other"))
    assert (one.kind, [str(ref) for ref in one.after], one.when) == ("sink", ["keep", "keep.error"], None)
    assert (one.sink, other.when) == (SinkSpec(reply=True), bool)


def test_what_cannot_be_a_reply_stage(flow: Flow) -> None:
    flow.reply(after="rows")
    with pytest.raises(DefinitionError, match="its name is taken by the sink"):
        flow.reply(after="rows")
    wrong: Any = 7
    with pytest.raises(DefinitionError, match="name= is a text, not 7"):
        flow.reply(after="rows", name=wrong)
    with pytest.raises(DefinitionError, match="when= must be a plain function"):
        flow.reply(after="rows", name="third", when=wrong)
    flow.stage(keep, after="reply")
    with pytest.raises(DefinitionError, match="nothing can follow 'reply', a sink"):
        flow.spec()

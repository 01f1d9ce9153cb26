"""Flows written by hand as specs, and random ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from reflow_kafka.definition.spec import (
    ANY,
    FlowSpec,
    Handler,
    Shape,
    SinkSpec,
    SourceSpec,
    StageSpec,
    StateBy,
    StateSpec,
    UpstreamRef,
)
from reflow_kafka.options import FOREVER
from reflow_kafka.topology.plan import Node
from reflow_kafka.topology.planner import make_plan


def ref(text: str) -> UpstreamRef:
    stage, _, output = text.partition(".")
    return UpstreamRef(stage, output or None)


def handler(name: str, takes: Any = ANY, gives: Any = ANY) -> Handler:
    def function(value: Any) -> Any:
        return value

    function.__name__ = function.__qualname__ = name
    return Handler(
        target=function,
        kind="function",
        shape=Shape.PLAIN,
        state_by=StateBy.NONE,
        takes_event=False,
        by_name=(),
        init_by_name=(),
        value_type=takes,
        result_type=gives,
    )


def source(name: str, *topics: str, **options: Any) -> StageSpec:
    parts = {n: options.pop(n) for n in ("timestamp", "format", "connector", "position") if n in options}
    return StageSpec(name, "source", "flow.py:1", source=SourceSpec(topics=topics, **parts), **options)


def stage(
    name: str, *after: str, takes: Any = ANY, gives: Any = ANY, state: Any = None, **options: Any
) -> StageSpec:
    return StageSpec(
        name,
        "stage",
        "flow.py:2",
        after=tuple(map(ref, after)),
        handler=handler(name, takes, gives),
        state=None if state is None else StateSpec(state, state, boxed=False),
        **options,
    )


def reply(*after: str, **options: Any) -> StageSpec:
    return StageSpec(
        "reply", "sink", "flow.py:4", after=tuple(map(ref, after)), sink=SinkSpec(reply=True), **options
    )


def sink(name: str, *after: str, topic: Any = None, connector: Any = None, **options: Any) -> StageSpec:
    run_by = None if topic or connector else handler(name, options.pop("takes", ANY))
    if connector:
        options.setdefault("retry", FOREVER)
    return StageSpec(
        name,
        "sink",
        "flow.py:3",
        after=tuple(map(ref, after)),
        handler=run_by,
        sink=SinkSpec(topic=topic, connector=connector),
        **options,
    )


def flow(*stages: StageSpec, name: str = "f", partitions: int = 8) -> FlowSpec:
    return FlowSpec(name, partitions, stages)


def nodes_of(*stages: StageSpec, counts: dict[str, int | None] | None = None) -> dict[str, Node]:
    return {n.name: n for n in make_plan(flow(*stages), counts or {}).all_nodes}


@dataclass
class Last24:
    temps: list[float] = field(default_factory=list)


class PrintSink:
    """Stands for a connector."""


WEATHER = flow(
    source("readings", "weather-readings", key="station"),
    stage("average", "readings", takes=dict, gives=dict, state=Last24),
    stage("alert", "average", takes=dict, gives=dict, when=lambda r: r["temp_f"] > r["average"] + 15),
    sink("alerts", "alert", topic="weather-alerts"),
    name="weather",
)


def is_large(order: Any) -> bool:
    return order["total"] > 100


SHOP = flow(
    source("web", "web-orders", type=dict),
    source("phone", "phone-orders", type=dict, timestamp="at"),
    stage("check", "web", "phone", key="customer", state=dict, outputs=("large", "odd")),
    stage("price", "check", partitions=1),
    stage("audit", "check.large", "check.odd", "price", takes=dict),
    sink("books", "price", "audit", topic="books", key="id"),
    sink("mail", "check.error", "price", connector=PrintSink(), when=is_large),
    sink("log", "audit"),
    name="shop",
    partitions=4,
)


@st.composite
def flows(draw: st.DrawFn) -> FlowSpec:
    """Any flow that the checks would let pass: acyclic, every stage following one defined before it."""
    sources = [
        source(
            f"s{i}",
            *(f"in-{i}-{j}" for j in range(draw(st.integers(1, 2)))),
            key=draw(st.sampled_from([None, "id"])),
            type=draw(st.sampled_from([ANY, dict, str])),
        )
        for i in range(draw(st.integers(1, 3)))
    ]
    upstreams = [s.name for s in sources]
    rest: list[StageSpec] = []
    for i in range(draw(st.integers(0, 6))):
        declared = tuple(draw(st.sets(st.sampled_from(["big", "small"]))))
        after = draw(st.lists(st.sampled_from(upstreams), min_size=1, max_size=3, unique=True))
        chain = after[0].startswith("p") and draw(st.booleans())
        rest.append(
            stage(
                f"p{i}",
                *(after[:1] if chain else after),
                chain=chain,
                state=draw(st.sampled_from([None, dict])),
                key=None if chain else draw(st.sampled_from([None, "id"])),
                when=draw(st.sampled_from([None, is_large])),
                partitions=None if chain else draw(st.sampled_from([None, 1, 16])),
                takes=draw(st.sampled_from([ANY, dict, Last24])),
                outputs=declared,
            )
        )
        upstreams += [f"p{i}", *(f"p{i}.{name}" for name in (*declared, "error"))]
    for i in range(draw(st.integers(0, 3))):
        after = draw(st.lists(st.sampled_from(upstreams), min_size=1, max_size=3, unique=True))
        kinds = [{"topic": f"out-{i}"}, {"topic": str}, {"connector": PrintSink()}, {}]
        rest += [sink(f"k{i}", *after, **draw(st.sampled_from(kinds)))]
    if draw(st.booleans()):
        rest.append(reply(*draw(st.lists(st.sampled_from(upstreams), min_size=1, max_size=3, unique=True))))
    return flow(*draw(st.permutations([*sources, *rest])), partitions=draw(st.integers(1, 12)))


counts_of = st.dictionaries(
    st.sampled_from([f"in-{i}-{j}" for i in range(3) for j in range(2)] + ["out-0"]), st.integers(1, 40)
)

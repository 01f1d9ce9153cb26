from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from reflow_kafka.definition.spec import ANY, FlowSpec
from reflow_kafka.errors import DefinitionError
from reflow_kafka.topology.direct import is_topic_sink
from reflow_kafka.topology.graph import Topology
from reflow_kafka.topology.plan import Node, Plan, external_topics
from reflow_kafka.topology.planner import make_plan
from reflow_kafka.topology.topics import TopicKind, topic_specs
from tests.topology.flows import (
    SHOP,
    WEATHER,
    Last24,
    PrintSink,
    counts_of,
    flow,
    flows,
    is_large,
    nodes_of,
    reply,
    sink,
    source,
    stage,
)


def node(plan: Plan, name: str) -> Node:
    return next(n for n in plan.all_nodes if n.name == name)


def test_the_weather_flow() -> None:
    plan = make_plan(WEATHER, {"weather-readings": 3, "weather-alerts": 2})
    assert [(n.name, n.role, n.lanes, n.changelog) for n in plan.nodes] == [
        ("readings", "forward", 3, None),
        ("average", "handler", 8, "weather.average.changelog"),
        ("alert", "handler", 8, None),
    ]
    readings, average, alert = plan.nodes
    assert [(i.topic, i.partitions, i.internal) for i in readings.inputs] == [("weather-readings", 3, False)]
    assert [(o.topic, o.key) for o in readings.outputs] == [("weather.readings.average", "station")]
    assert [(i.topic, i.type) for i in average.inputs] == [("weather.readings.average", dict)]
    assert average.outputs[0].when is not None
    assert [(o.topic, o.partitions, o.stage, o.internal) for o in alert.outputs] == [
        ("weather-alerts", 2, "alerts", False)
    ]
    assert (plan.lanes, plan.group, plan.progress_topic) == (8, "weather", "weather.progress")
    assert [n.name for n in plan.nodes_of(3)] == ["average", "alert"]
    assert external_topics(WEATHER) == {"weather-readings": "source", "weather-alerts": "sink"}


def test_a_topic_read_and_written_counts_as_source() -> None:
    spec = flow(source("s", "loop"), stage("a", "s"), sink("k", "a", topic="loop"), sink("f", "a", topic=str))
    assert external_topics(spec) == {"loop": "source"}


# ---- topics, lanes, keys


def test_partition_counts() -> None:
    plan = make_plan(SHOP, {"web-orders": 3, "phone-orders": None, "books": 20})
    assert {n.name: n.lanes for n in plan.nodes} == {
        "web": 3,
        "phone": 4,
        "check": 4,
        "price": 1,
        "audit": 4,
        "mail": 4,
        "log": 4,
    }
    assert plan.lanes == 4  # nothing runs for a partition that is only written
    specs = {t.name: (t.partitions, t.kind) for t in topic_specs(plan)}
    assert specs["shop.check.price"] == (1, TopicKind.EDGE)
    assert specs["shop.check.changelog"] == (4, TopicKind.CHANGELOG)
    assert specs["shop.dead-letters"] == (4, TopicKind.DEAD_LETTERS)
    assert specs["shop.progress"] == (4, TopicKind.PROGRESS)
    assert specs["books"] == (20, TopicKind.EXTERNAL)
    assert specs["web-orders"] == (3, TopicKind.EXTERNAL)


def test_named_outputs_and_keys() -> None:
    outputs = node(make_plan(SHOP), "check").outputs
    assert [(o.topic, o.stage, o.name) for o in outputs] == [
        ("shop.check.price", "price", None),
        ("shop.check.large.audit", "audit", "large"),
        ("shop.check.odd.audit", "audit", "odd"),
        ("shop.check.error.mail", "mail", "error"),
    ]
    assert [(o.topic, o.key) for o in node(make_plan(SHOP), "audit").outputs] == [
        ("books", "id"),
        ("shop.audit.log", None),
    ]
    nodes = nodes_of(source("s", "t", key="a"), stage("x", "s", key="b"), stage("y", "s"), stage("z", "y"))
    assert [o.key for o in nodes["s"].outputs] == ["b", "a"]
    assert [o.key for o in nodes["y"].outputs] == [None]


def test_sources_of_other_kinds() -> None:
    nodes = nodes_of(
        source("files", connector=PrintSink()),
        replace(source("ticks"), handler=stage("ticks").handler),
        replace(source("counter", position=int), handler=stage("counter").handler),
        sink("out", "files", "ticks", "counter", topic=str),
    )
    assert [(n.role, n.lanes, n.changelog, n.inputs) for n in nodes.values()] == [
        ("connector-source", 8, "f.files.changelog", ()),
        ("generator", 1, None, ()),
        ("generator", 1, "f.counter.changelog", ()),
    ]
    assert nodes["files"].outputs[0].partitions == 0
    assert nodes["files"].outputs[0].topic is str


def test_replies_go_into_one_topic_of_the_flow() -> None:
    spec = flow(source("s", "t"), stage("a", "s", gives=int), stage("b", "s"), reply("a", "b", "b.error"))
    plan = make_plan(spec, {"t": 3})
    assert [n.name for n in plan.nodes] == ["s", "a", "b"]
    assert plan.reply_topic == "f.replies"
    (answer,) = node(plan, "a").outputs
    assert (answer.topic, answer.partitions, answer.type, answer.internal) == ("f.replies", 8, int, True)
    assert [(o.name, o.topic) for o in node(plan, "b").outputs] == [
        (None, "f.replies"),
        ("error", "f.replies"),
    ]
    assert [(t.partitions, t.kind) for t in topic_specs(plan) if t.name == "f.replies"] == [
        (8, TopicKind.REPLIES)
    ]
    assert external_topics(spec) == {"t": "source"}
    assert make_plan(flow(source("s", "t"), stage("a", "s"))).reply_topic is None


def test_a_source_can_be_answered_itself() -> None:
    (forward,) = make_plan(flow(source("s", "t", key="id"), reply("s"))).nodes
    assert (forward.role, [o.topic for o in forward.outputs]) == ("forward", ["f.replies"])


def test_a_topic_of_others_cannot_be_the_one_of_replies() -> None:
    with pytest.raises(DefinitionError, match=r"topic f\.replies .* meets the flow's own topic f\.replies"):
        make_plan(flow(source("s", "f.replies"), stage("a", "s"), reply("a")))


# ---- types


@pytest.mark.parametrize(
    ("source_type", "gives", "takes", "wanted"),
    [
        (ANY, ANY, ANY, ANY),
        (ANY, dict, ANY, dict),
        (ANY, dict, Last24, Last24),
        (ANY, type(None), ANY, ANY),
        (dict, ANY, ANY, ANY),
    ],
)
def test_an_edge_has_the_type_of_its_end_else_of_its_start(
    source_type: Any, gives: Any, takes: Any, wanted: Any
) -> None:
    nodes = nodes_of(
        source("s", "t", type=source_type), stage("a", "s", gives=gives), stage("b", "a", takes=takes)
    )
    assert nodes["a"].outputs[0].type is nodes["b"].inputs[0].type is wanted


def test_error_carries_the_input_and_other_outputs_are_untyped() -> None:
    stages = [stage("a", "s", gives=int, outputs=("big",)), stage("b", "a.error"), stage("c", "a.big")]
    nodes = nodes_of(source("s", "t", type=Last24), *stages)
    assert [o.type for o in nodes["a"].outputs] == [Last24, ANY]
    nodes = nodes_of(
        source("s", "t", type=Last24), replace(stages[0], handler=stage("a", takes=dict).handler), *stages[1:]
    )
    assert [o.type for o in nodes["a"].outputs] == [dict, ANY]


def test_sinks_have_their_own_type_and_format() -> None:
    own = replace(sink("k", "a", topic="u", type=Last24))
    assert own.sink is not None
    own = replace(own, sink=replace(own.sink, format="bytes"))
    nodes = nodes_of(source("s", "t"), stage("a", "s", gives=dict), own, sink("l", "a", topic="v"))
    assert [(o.type, o.format) for o in nodes["a"].outputs] == [(Last24, "bytes"), (dict, "json")]


def test_a_source_read_as_text_is_text_even_if_forwarded() -> None:
    nodes = nodes_of(source("s", "t"), stage("a", "s", takes=str), stage("b", "s", takes=str))
    assert nodes["s"].inputs[0].type is str
    nodes = nodes_of(source("s", "t"), stage("a", "s", takes=str), stage("b", "s", takes=dict))
    assert nodes["s"].inputs[0].type is ANY


# ---- chains


CHAINED = (
    source("s", "t", key="id"),
    stage("a", "s", outputs=("big",), partitions=3),
    stage("b", "a", chain=True, takes=Last24, gives=dict, state=Last24, when=is_large),
    stage("c", "b", chain=True, state=dict),
    stage("d", "a.big", chain=True),
    stage("e", "c"),
    sink("k", "c", topic="u"),
    sink("f", "d", chain=True),
)


def test_a_chained_stage_has_no_topic_and_no_worker() -> None:
    plan = make_plan(flow(*CHAINED), {"u": 5})
    assert [n.name for n in plan.nodes] == ["s", "a", "e"]
    assert [n.name for n in plan.all_nodes] == ["s", "a", "b", "c", "d", "f", "e"]
    host = plan.nodes[1]
    assert [n.name for n in host.chain] == ["a", "b", "c", "d", "f"]
    assert {(n.role, n.lanes) for n in host.chain} == {("handler", 3)}
    to_b, to_d = host.outputs
    assert (to_b.topic, to_b.partitions, to_b.stage, to_b.name) == ("", 0, "b", None)
    assert (to_b.key, to_b.when, to_b.type, to_b.format) == (None, is_large, Last24, "json")
    assert (to_d.topic, to_d.stage, to_d.name) == ("", "d", "big")
    b, c = node(plan, "b"), node(plan, "c")
    assert to_b.chained is b
    assert (b.inputs, b.changelog, b.outputs[0].chained, b.outputs[0].type) == ((), "f.b.changelog", c, dict)
    assert [(o.topic, o.partitions, o.chained) for o in c.outputs] == [("f.c.e", 8, None), ("u", 5, None)]
    assert [(i.topic, i.upstream) for i in node(plan, "e").inputs] == [("f.c.e", "c")]


def test_hosts_of_stages() -> None:
    plan = make_plan(flow(*CHAINED))
    assert {n.name: plan.host(n.name).name for n in plan.all_nodes} == {
        "s": "s",
        "e": "e",
        **dict.fromkeys("abcdf", "a"),
    }
    assert [n.name for n in plan.all_nodes_of(2)] == ["s", "a", "b", "c", "d", "f", "e"]
    assert [n.name for n in plan.all_nodes_of(3)] == ["s", "e"]
    with pytest.raises(KeyError):
        plan.host("k")


def test_topics_of_a_chain() -> None:
    specs = {t.name: (t.partitions, t.kind) for t in topic_specs(make_plan(flow(*CHAINED), {"u": 5}))}
    assert {name for name, (_, kind) in specs.items() if kind is TopicKind.EDGE} == {"f.s.a", "f.c.e"}
    assert specs["f.b.changelog"] == specs["f.c.changelog"] == (3, TopicKind.CHANGELOG)
    assert specs["u"] == (5, TopicKind.EXTERNAL)
    assert "" not in specs


def test_names_of_chained_changelogs_collide_too() -> None:
    stages = [stage("a", "s"), stage("b", "a", chain=True, state=dict)]
    with pytest.raises(DefinitionError, match=r"meets the flow's own topic f\.b\.changelog"):
        make_plan(flow(source("s", "t"), *stages, sink("k", "b", topic="f.b.changelog")))


# ---- what is refused


def test_names_that_collide_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"topics f\.a\.b\.c and f\.a\.b_c are the same to Kafka"):
        make_plan(
            flow(source("s", "t"), stage("a", "s", outputs=("b",)), stage("c", "a.b"), stage("b_c", "a"))
        )
    with pytest.raises(DefinitionError, match=r"meets the flow's own topic f\.a\.b"):
        make_plan(flow(source("s", "t"), stage("a", "s"), stage("b", "a"), sink("k", "b", topic="f.a.b")))
    with pytest.raises(DefinitionError, match="Kafka allows 249"):
        make_plan(flow(source("s", "t"), stage("a" * 150, "s"), stage("b" * 150, "a" * 150)))
    with pytest.raises(DefinitionError, match="follows the same output twice"):
        make_plan(flow(source("s", "t", key="id"), stage("a", "s", "s")))


def test_a_topic_has_one_source() -> None:
    with pytest.raises(DefinitionError, match="'t' is already read by source 's'"):
        make_plan(flow(source("s", "t"), source("r", "u", "t"), stage("a", "s", "r")))
    with pytest.raises(DefinitionError, match="already read by source"):
        make_plan(flow(source("s", "t", "t"), stage("a", "s")))


# ---- any flow


@given(flows(), counts_of)
def test_every_edge_is_written_once_and_read_once(spec: FlowSpec, counts: dict[str, int | None]) -> None:
    plan = make_plan(spec, counts)
    graph = Topology.of(spec)
    outputs = [o for n in plan.all_nodes for o in n.outputs]
    edges = [o for o in outputs if o.internal and o.chained is None and o.topic != plan.reply_topic]
    read = Counter(i.topic for n in plan.nodes for i in n.inputs)
    written = Counter(o.topic for o in edges)
    internal = {i.topic: i for n in plan.nodes for i in n.inputs if i.internal}
    assert set(read.values()) | set(written.values()) <= {1}
    assert written.keys() == internal.keys()
    for n in plan.all_nodes:
        for output in n.outputs:
            if output in edges:
                far = internal[str(output.topic)]
                assert (far.partitions, far.type, far.format) == (
                    output.partitions,
                    output.type,
                    output.format,
                )
                assert far.upstream == n.name
    for s in graph.sources:  # every topic of a source is read, by it or by who follows it
        assert s.source is not None
        assert all(read[topic] == 1 for topic in s.source.topics)


@given(flows(), counts_of)
def test_lanes_cover_every_partition_read(spec: FlowSpec, counts: dict[str, int | None]) -> None:
    plan = make_plan(spec, counts)
    for n in plan.nodes:
        assert n.lanes == max((i.partitions for i in n.inputs), default=n.lanes)
        assert n.lanes <= plan.lanes
        assert all(o.partitions > 0 or callable(o.topic) or o.chained for o in n.outputs)
    assert plan.lanes in {n.lanes for n in plan.nodes}


@given(flows())
def test_every_stage_runs_or_needs_not_to(spec: FlowSpec) -> None:
    plan = make_plan(spec)
    running = Counter(n.name for n in plan.all_nodes)
    assert set(running.values()) <= {1}
    for s in spec.stages:
        direct = s.name not in running
        if s.kind == "stage" or (s.sink is not None and not is_topic_sink(s)):
            assert not direct
            assert bool(node(plan, s.name).inputs) != s.chain
            assert (node(plan, s.name).changelog is not None) == (s.state is not None)
        elif s.kind == "sink":
            assert direct
            assert s.name in {o.stage for n in plan.all_nodes for o in n.outputs}
        elif direct:
            (reader,) = (n for n in plan.nodes if s.name in {i.upstream for i in n.inputs})
            assert len(reader.inputs) == 1 or all(n.stage.state is None for n in reader.chain)


@given(flows(), counts_of)
def test_names_are_unique(spec: FlowSpec, counts: dict[str, int | None]) -> None:
    names = [t.name for t in topic_specs(make_plan(spec, counts))]
    assert len({name.replace(".", "_") for name in names}) == len(names)

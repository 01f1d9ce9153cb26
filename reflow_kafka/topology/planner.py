"""Makes the plan of a checked flow: the rules by which stages become nodes, and edges topics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from reflow_kafka.definition.spec import ANY, FlowSpec, StageSpec
from reflow_kafka.errors import DefinitionError
from reflow_kafka.topology.direct import is_reply, is_topic_sink, read_directly, why_not_directly
from reflow_kafka.topology.fingerprint import fingerprint
from reflow_kafka.topology.graph import Edge, Topology
from reflow_kafka.topology.plan import Input, Node, Output, Plan, Role, external_topics
from reflow_kafka.topology.topics import (
    changelog_topic,
    check_names,
    dead_letter_topic,
    edge_topic,
    parked_topic,
    progress_topic,
    reply_topic,
)
from reflow_kafka.topology.types import accepted_type, edge_type, source_type


def make_plan(flow: FlowSpec, counts: Mapping[str, int | None] = MappingProxyType({})) -> Plan:
    """The plan of a checked flow, its nodes in topological order.

    Args:
        flow: the flow.
        counts: partition counts of its external topics; one that is missing, or None, is to be created
            with the flow's. That of the topic of parked events tells whether there may be any.

    Raises:
        DefinitionError: names of topics collide, or two sources read one topic.
    """
    _check_sources(flow)
    graph = Topology.of(flow)
    planner = _Planner(graph, counts, _leading_to_time(graph))
    nodes = planner.nodes()
    internal = [progress_topic(flow.name), dead_letter_topic(flow.name)]
    internal += [i.topic for node in nodes for i in node.inputs if i.internal]
    parks = (
        any(n.waits for node in nodes for n in node.chain) or counts.get(parked_topic(flow.name)) is not None
    )
    internal += [parked_topic(flow.name)] if parks else []
    internal += [reply_topic(flow.name)] if any(map(is_reply, flow.stages)) else []
    internal += [n.changelog for node in nodes for n in node.chain if n.changelog is not None]
    check_names(internal, external_topics(flow))
    lanes = max((node.lanes for node in nodes), default=1)
    tables = {table.topic: planner.count(table.topic) for table in flow.tables.values()}
    return Plan(
        flow=flow, nodes=nodes, lanes=lanes, parks=parks, tables=tables, hash=_hash(flow, nodes, lanes)
    )


def _leading_to_time(graph: Topology) -> frozenset[str]:
    leading: set[str] = set()
    for name in reversed(graph.order):
        if any(s.operator is not None or s.name in leading for s in graph.downstreams(name)):
            leading.add(name)
    return frozenset(leading)


def _check_sources(flow: FlowSpec) -> None:
    """A group has one position per partition, so a topic can be read by one source only."""
    reader: dict[str, StageSpec] = {}
    for stage in flow.stages:
        for topic in stage.source.topics if stage.source is not None else ():
            other = reader.setdefault(topic, stage)
            if other is not stage or (stage.source is not None and stage.source.topics.count(topic) > 1):
                raise DefinitionError(
                    f"topic {topic!r} is already read by source {other.name!r}:"
                    " let several stages follow one source",
                    stage=stage.name,
                    where=stage.where,
                )


def _check_copartitioned(graph: Topology, stage: StageSpec, inputs: tuple[Input, ...]) -> None:
    """What is taken as it is must be topics that are divided alike."""
    for upstream in stage.after:
        if (reason := why_not_directly(graph, graph.stages[upstream.stage])) is not None:
            raise DefinitionError(
                f"copartitioned=True takes topics as they are, in the order of their timestamps, and "
                f"{str(upstream)!r} {reason}: take copartitioned= out, and a topic is made for it",
                stage=stage.name,
                where=stage.where,
            )
    if len({entry.partitions for entry in inputs}) > 1:
        found = ", ".join(f"{entry.topic!r} {entry.partitions}" for entry in inputs)
        raise DefinitionError(
            f"copartitioned=True, but its inputs have different numbers of partitions ({found}), so keys "
            "would not meet: take it out, and they are partitioned anew",
            stage=stage.name,
            where=stage.where,
        )


def _hash(flow: FlowSpec, nodes: tuple[Node, ...], lanes: int) -> str:
    """What decides where events and state lie, and how they are written. The code of handlers does not
    count, so that a corrected handler can be rolled out engine by engine; neither do retries, resources and
    the settings of connectors.
    """
    return fingerprint((flow.name, flow.partitions, lanes, [_described(node) for node in nodes]))


def _described(node: Node) -> tuple[Any, ...]:
    return (
        node.name,
        node.role,
        node.lanes,
        node.changelog,
        None if node.stage.state is None else (node.stage.state.type, node.stage.state.boxed),
        node.stage.operator,
        [_fields(topic) for topic in node.inputs],
        [_fields(topic) for topic in node.outputs],
        *(_described(output.chained) for output in node.outputs if output.chained is not None),
    )


def _fields(topic: Input | Output) -> list[Any]:
    return [getattr(topic, field.name) for field in fields(topic) if field.name not in ("chained", "side")]


@dataclass(frozen=True, slots=True)
class _Planner:
    """The rules by which stages become nodes, and edges topics."""

    graph: Topology
    counts: Mapping[str, int | None]
    leading: frozenset[str]
    """Stages which a timed stage follows, directly or not."""

    def nodes(self) -> tuple[Node, ...]:
        stages = (self.graph.stages[name] for name in self.graph.order)
        return tuple(self.host(s) for s in stages if self.has_worker(s))

    def has_worker(self, stage: StageSpec) -> bool:
        return not (is_topic_sink(stage) or stage.chain or read_directly(self.graph, stage))

    def host(self, stage: StageSpec) -> Node:
        """A stage with a worker of its own."""
        partitions = self.graph.flow.partitions
        if stage.source is None:
            edges = self.graph.into(stage.name)
            inputs = tuple(
                replace(i, side=side) for side, edge in enumerate(edges) for i in self.inputs(edge)
            )
            if stage.copartitioned:
                _check_copartitioned(self.graph, stage, inputs)
            is_connector = stage.sink is not None and stage.sink.connector is not None
            lanes = max((i.partitions for i in inputs), default=1)
            return self.node(stage, "connector-sink" if is_connector else "handler", inputs, lanes)
        if stage.source.topics:
            inputs = self.external_inputs(stage, source_type(self.graph, stage))
            return self.node(stage, "forward", inputs, max(i.partitions for i in inputs))
        if stage.source.schedule is not None:  # one firing in the whole flow
            return self.node(stage, "connector-source", (), 1)
        if stage.source.connector is not None:  # it divides itself into parts, spread over lanes
            return self.node(stage, "connector-source", (), stage.partitions or partitions)
        return self.node(stage, "generator", (), stage.partitions or 1)

    def node(self, stage: StageSpec, role: Role, inputs: tuple[Input, ...], lanes: int) -> Node:
        remembers = role == "connector-source" or stage.remembers
        if stage.source is not None and stage.source.position is not None:
            remembers = True
        return Node(
            stage=stage,
            role=role,
            inputs=inputs,
            outputs=tuple(self.output(edge, lanes) for edge in self.graph.out_of(stage.name)),
            changelog=changelog_topic(self.graph.flow.name, stage.name) if remembers else None,
            lanes=lanes,
            tells_time=stage.name in self.leading,
        )

    def inputs(self, edge: Edge) -> tuple[Input, ...]:
        """What the stage at the end of an edge reads there."""
        upstream = self.graph.stages[edge.upstream.stage]
        stage = self.graph.stages[edge.stage]
        if read_directly(self.graph, upstream):
            wanted = accepted_type(self.graph, edge)
            return self.external_inputs(upstream, upstream.type if wanted is ANY else wanted)
        edge_format = stage.sink.format if stage.sink is not None else "json"
        return (
            Input(
                topic=edge_topic(self.graph.flow.name, edge.upstream, edge.stage),
                partitions=stage.partitions or self.graph.flow.partitions,
                upstream=upstream.name,
                type=edge_type(self.graph, edge),
                format=edge_format,
                internal=True,
            ),
        )

    def external_inputs(self, stage: StageSpec, type: Any) -> tuple[Input, ...]:
        """The topics of a source."""
        source = stage.source
        assert source is not None
        return tuple(
            Input(
                topic=topic,
                partitions=self.count(topic),
                upstream=stage.name,
                type=type,
                format=source.format,
                internal=False,
                timestamp=source.timestamp,
                auto_offset_reset=source.auto_offset_reset,
            )
            for topic in source.topics
        )

    def output(self, edge: Edge, lanes: int) -> Output:
        """Where the stage at the start of an edge, which runs in so many lanes, puts its events."""
        upstream, stage = self.graph.stages[edge.upstream.stage], self.graph.stages[edge.stage]
        key = stage.key_of(stage.after.index(edge.upstream))
        if key is None and upstream.kind == "source":
            key = upstream.key_of()
        topic: str | Callable[[Any], str]
        chained = None
        if stage.chain:
            chained = self.node(stage, "handler", (), lanes)
            topic, format, partitions = "", "json", 0
        elif is_reply(stage):
            topic, format, partitions = reply_topic(self.graph.flow.name), "json", self.graph.flow.partitions
        elif is_topic_sink(stage):
            assert stage.sink is not None
            assert stage.sink.topic is not None
            topic, format = stage.sink.topic, stage.sink.format
            partitions = self.count(topic) if isinstance(topic, str) else 0
        else:
            (internal,) = self.inputs(edge)
            topic, format, partitions = internal.topic, internal.format, internal.partitions
        return Output(
            topic=topic,
            partitions=partitions,
            stage=stage.name,
            name=edge.upstream.output,
            key=key,
            when=stage.when,
            type=edge_type(self.graph, edge),
            format=format,
            internal=is_reply(stage) or not is_topic_sink(stage),
            chained=chained,
        )

    def count(self, topic: str) -> int:
        return self.counts.get(topic) or self.graph.flow.partitions

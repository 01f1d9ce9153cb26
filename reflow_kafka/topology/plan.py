"""The plan: what of a flow runs where, on which topics. Pure data and pure rules.

A plan is made from a checked flow and the partition counts of its external topics:

* an *input* is a topic that a node reads (an internal edge, or an external topic read directly),
* an *output* is a topic that a node writes (an internal edge, or the external topic of a sink),
* a *node* is a stage that needs a worker; the topic sources that are read directly by the stage after
  them, and the topic sinks that the stage before them writes into, need none (DESIGN §4.8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

from reflow_kafka.definition.spec import ANY, FlowSpec, KeyOf, StageSpec
from reflow_kafka.errors import DefinitionError
from reflow_kafka.topology.direct import is_reply, is_topic_sink, key_given, read_directly
from reflow_kafka.topology.fingerprint import fingerprint
from reflow_kafka.topology.graph import Edge, Topology
from reflow_kafka.topology.topics import (
    changelog_topic,
    check_names,
    dead_letter_topic,
    edge_topic,
    progress_topic,
    reply_topic,
)
from reflow_kafka.topology.types import accepted_type, edge_type, source_type


@dataclass(frozen=True, slots=True)
class Input:
    """A topic that a node reads."""

    topic: str
    partitions: int
    upstream: str
    """Name of the stage whose events it carries (for a direct topic: the source)."""
    type: Any
    format: Any
    internal: bool
    """Ours: created by us, trimmed after use, always read from its start."""
    timestamp: KeyOf | None = None
    """Where a source finds its event time in the value (None: the record's timestamp)."""
    auto_offset_reset: Literal["earliest", "latest", "none"] = "earliest"


@dataclass(frozen=True, slots=True)
class Output:
    """A topic that a node writes."""

    topic: str | Callable[[Any], str]
    partitions: int
    """0 where the topic is a function of the value."""
    stage: str
    """The stage at the far end (a sink for an external topic)."""
    name: str | None
    """The named output it follows (None: the main one)."""
    key: KeyOf | None
    when: Callable[[Any], object] | None
    type: Any
    format: Any
    internal: bool


@dataclass(frozen=True, slots=True)
class Node:
    """A stage that runs: one worker per lane below `lanes`."""

    stage: StageSpec
    role: Literal["forward", "connector-source", "generator", "handler", "connector-sink"]
    """``forward``: a topic source that re-partitions; ``handler``: a stage, or a sink with a handler."""
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    changelog: str | None
    """Topic behind the stage's state (for connector sources: behind their positions)."""
    lanes: int

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything an engine needs to know about a flow before it starts."""

    flow: FlowSpec
    nodes: tuple[Node, ...]
    lanes: int
    """As many as the widest topic has partitions."""
    hash: str
    """Changes whenever nodes, topics, keys or types change: a lane goes only to the newest plan."""

    @property
    def group(self) -> str:
        """The consumer group."""
        return self.flow.name

    @property
    def progress_topic(self) -> str:
        """Topic of the lane records."""
        return progress_topic(self.flow.name)

    @property
    def dead_letter_topic(self) -> str:
        """Topic of the dead letters."""
        return dead_letter_topic(self.flow.name)

    @property
    def reply_topic(self) -> str | None:
        """Topic of the answers to requests; None if the flow gives none."""
        return reply_topic(self.flow.name) if any(map(is_reply, self.flow.stages)) else None

    def nodes_of(self, lane: int) -> tuple[Node, ...]:
        """The nodes that have a worker in this lane."""
        return tuple(n for n in self.nodes if lane < n.lanes)


def external_topics(flow: FlowSpec) -> dict[str, Literal["source", "sink"]]:
    """The topics of others that a flow names; one that is both read and written is a ``source``.

    Topics that a sink names by a function of the value are not known beforehand.
    """
    roles: dict[str, Literal["source", "sink"]] = {}
    for stage in flow.stages:
        if stage.source is not None:
            roles.update(dict.fromkeys(stage.source.topics, "source"))
        if stage.sink is not None and isinstance(stage.sink.topic, str):
            roles.setdefault(stage.sink.topic, "sink")
    return roles


def make_plan(flow: FlowSpec, counts: Mapping[str, int | None] = MappingProxyType({})) -> Plan:
    """The plan of a checked flow, its nodes in topological order.

    Args:
        flow: the flow.
        counts: partition counts of its external topics; one that is missing, or None, is to be created
            with the flow's.

    Raises:
        DefinitionError: names of topics collide, or two sources read one topic.
    """
    _check_sources(flow)
    planner = _Planner(Topology.of(flow), counts)
    nodes = planner.nodes()
    internal = [progress_topic(flow.name), dead_letter_topic(flow.name)]
    internal += [i.topic for node in nodes for i in node.inputs if i.internal]
    internal += [reply_topic(flow.name)] if any(map(is_reply, flow.stages)) else []
    internal += [node.changelog for node in nodes if node.changelog is not None]
    check_names(internal, external_topics(flow))
    lanes = max((node.lanes for node in nodes), default=1)
    return Plan(flow=flow, nodes=nodes, lanes=lanes, hash=_hash(flow, nodes, lanes))


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


def _hash(flow: FlowSpec, nodes: tuple[Node, ...], lanes: int) -> str:
    """What decides where events and state lie, and how they are written. The code of handlers does not
    count, so that a corrected handler can be rolled out engine by engine; neither do retries, resources and
    the settings of connectors.
    """
    described = [
        (
            node.name,
            node.role,
            node.lanes,
            node.changelog,
            None if node.stage.state is None else (node.stage.state.type, node.stage.state.boxed),
            [_fields(topic) for topic in node.inputs],
            [_fields(topic) for topic in node.outputs],
        )
        for node in nodes
    ]
    return fingerprint((flow.name, flow.partitions, lanes, described))


def _fields(topic: Input | Output) -> list[Any]:
    return [getattr(topic, field.name) for field in fields(topic)]


@dataclass(frozen=True, slots=True)
class _Planner:
    """The rules by which stages become nodes, and edges topics."""

    graph: Topology
    counts: Mapping[str, int | None]

    def nodes(self) -> tuple[Node, ...]:
        stages = (self.graph.stages[name] for name in self.graph.order)
        return tuple(
            self.node(s) for s in stages if not is_topic_sink(s) and not read_directly(self.graph, s)
        )

    def node(self, stage: StageSpec) -> Node:
        flow = self.graph.flow
        inputs: tuple[Input, ...]
        role: Literal["forward", "connector-source", "generator", "handler", "connector-sink"]
        if stage.source is None:
            inputs = tuple(i for edge in self.graph.into(stage.name) for i in self.inputs(edge))
            is_connector = stage.sink is not None and stage.sink.connector is not None
            role = "connector-sink" if is_connector else "handler"
            lanes = max((i.partitions for i in inputs), default=1)
        elif stage.source.topics:
            inputs, role = self.external_inputs(stage, source_type(self.graph, stage)), "forward"
            lanes = max(i.partitions for i in inputs)
        elif stage.source.connector is not None:  # it divides itself into parts, spread over lanes
            inputs, role, lanes = (), "connector-source", stage.partitions or flow.partitions
        else:
            inputs, role, lanes = (), "generator", stage.partitions or 1
        remembers = role == "connector-source" or stage.state is not None
        if stage.source is not None and stage.source.position is not None:
            remembers = True
        return Node(
            stage=stage,
            role=role,
            inputs=inputs,
            outputs=tuple(self.output(edge) for edge in self.graph.out_of(stage.name)),
            changelog=changelog_topic(flow.name, stage.name) if remembers else None,
            lanes=lanes,
        )

    def inputs(self, edge: Edge) -> tuple[Input, ...]:
        """What the stage at the end of an edge reads there."""
        upstream = self.graph.stages[edge.upstream.stage]
        stage = self.graph.stages[edge.stage]
        if read_directly(self.graph, upstream):
            wanted = accepted_type(stage)
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

    def output(self, edge: Edge) -> Output:
        """What the stage at the start of an edge writes there."""
        upstream, stage = self.graph.stages[edge.upstream.stage], self.graph.stages[edge.stage]
        key = key_given(stage)
        if key is None and upstream.kind == "source":
            key = key_given(upstream)
        topic: str | Callable[[Any], str]
        if is_reply(stage):
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
        )

    def count(self, topic: str) -> int:
        return self.counts.get(topic) or self.graph.flow.partitions

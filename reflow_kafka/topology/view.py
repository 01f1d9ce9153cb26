"""What there is to tell about a flow, as plain data: what `describe` renders, and its JSON.

The JSON of `describe` is `FlowView` field by field. Fields are only ever added to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from reflow_kafka.definition.spec import FlowSpec, StageSpec
from reflow_kafka.serde.types import type_name
from reflow_kafka.topology.direct import is_reply, is_topic_sink, key_given
from reflow_kafka.topology.graph import Edge, Topology
from reflow_kafka.topology.plan import Node, make_plan
from reflow_kafka.topology.topics import reply_topic, topic_specs


@dataclass(frozen=True, slots=True)
class StageView:
    """A stage."""

    name: str
    kind: str
    """``source``, ``stage`` or ``sink``."""
    where: str
    """``file:line`` of its definition."""
    does: str
    """Its handler or connector by name; ``forward`` for a topic source, ``topic`` for a topic sink, ``reply``
    for one that answers requests."""
    topics: tuple[str, ...]
    """Topics of others that it stands for: those a source reads, the one a sink writes."""
    lanes: int
    """Lanes in which it has a worker; 0 if a neighbour does its work."""
    key: str | None
    when: str | None
    timestamp: str | None
    state: str | None
    """Type of its state."""
    changelog: str | None
    outputs: tuple[str, ...]
    """Named outputs it declares."""
    partitions: int | None
    """Partitions it asks for."""


@dataclass(frozen=True, slots=True)
class EdgeView:
    """A stage that follows an output of another, and the topics between them."""

    upstream: str
    output: str | None
    stage: str
    topics: tuple[str, ...]
    partitions: int
    """Of the widest; 0 if the topic is a function of the value."""
    internal: bool
    """The topic is the flow's own."""
    type: str
    format: str


@dataclass(frozen=True, slots=True)
class TopicView:
    """A topic."""

    name: str
    partitions: int
    kind: str


@dataclass(frozen=True, slots=True)
class FlowView:
    """A flow; stages and edges in the order of their definition."""

    flow: str
    partitions: int
    lanes: int
    group: str
    stages: tuple[StageView, ...]
    edges: tuple[EdgeView, ...]
    topics: tuple[TopicView, ...]

    def into(self, stage: str) -> tuple[EdgeView, ...]:
        """The edges that end at a stage."""
        return tuple(e for e in self.edges if e.stage == stage)

    def out_of(self, stage: str) -> tuple[EdgeView, ...]:
        """The edges that start at a stage."""
        return tuple(e for e in self.edges if e.upstream == stage)


def view(flow: FlowSpec, counts: Mapping[str, int | None] = MappingProxyType({})) -> FlowView:
    """The view of a checked flow (`counts` as for `make_plan`)."""
    plan = make_plan(flow, counts)
    nodes = {node.name: node for node in plan.nodes}
    return FlowView(
        flow=flow.name,
        partitions=flow.partitions,
        lanes=plan.lanes,
        group=plan.group,
        stages=tuple(_stage(flow, stage, nodes.get(stage.name)) for stage in flow.stages),
        edges=tuple(_edge(edge, nodes) for edge in Topology.of(flow).edges),
        topics=tuple(TopicView(t.name, t.partitions, t.kind.value) for t in topic_specs(plan)),
    )


def _stage(flow: FlowSpec, stage: StageSpec, node: Node | None) -> StageView:
    topics: tuple[str, ...] = stage.source.topics if stage.source is not None else ()
    if stage.sink is not None and stage.sink.topic is not None:
        topics = (_name(stage.sink.topic),)
    elif is_reply(stage):
        topics = (reply_topic(flow.name),)
    return StageView(
        name=stage.name,
        kind=stage.kind,
        where=stage.where,
        does=_does(stage),
        topics=topics,
        lanes=0 if node is None else node.lanes,
        key=_name_or_none(key_given(stage)),
        when=_name_or_none(stage.when),
        timestamp=_name_or_none(stage.source.timestamp) if stage.source is not None else None,
        state=None if stage.state is None else type_name(stage.state.type),
        changelog=None if node is None else node.changelog,
        outputs=stage.outputs,
        partitions=stage.partitions,
    )


def _edge(edge: Edge, nodes: Mapping[str, Node]) -> EdgeView:
    upstream, output, stage = edge.upstream.stage, edge.upstream.output, edge.stage
    topics: tuple[str, ...]
    if upstream in nodes:
        written = next(o for o in nodes[upstream].outputs if (o.stage, o.name) == (stage, output))
        topics, partitions = (_name(written.topic),), written.partitions
        internal, type, format = written.internal, written.type, written.format
    else:  # the stage reads the topics of the source itself
        read = [i for i in nodes[stage].inputs if i.upstream == upstream]
        topics, partitions = tuple(i.topic for i in read), max(i.partitions for i in read)
        internal, type, format = False, read[0].type, read[0].format
    return EdgeView(upstream, output, stage, topics, partitions, internal, type_name(type), _name(format))


def _does(stage: StageSpec) -> str:
    if stage.source is not None and stage.source.topics:
        return "forward"
    if is_reply(stage):
        return "reply"
    if is_topic_sink(stage):
        return "topic"
    part = stage.source or stage.sink
    if part is not None and part.connector is not None:
        return type(part.connector).__name__
    return "" if stage.handler is None else _name(stage.handler.target)


def _name_or_none(thing: Any) -> str | None:
    return None if thing is None else _name(thing)


def _name(thing: Any) -> str:
    """A text as it is, code by its name; a lambda, which has none, by its line."""
    if isinstance(thing, str):
        return thing
    name = getattr(thing, "__name__", None) or type(thing).__name__
    if name == "<lambda>":
        return f"lambda (line {thing.__code__.co_firstlineno})"
    return f"{name}()" if callable(thing) and not isinstance(thing, type) else str(name)

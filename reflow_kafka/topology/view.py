"""What there is to tell about a flow, as plain data: what `describe` renders, and its JSON.

The JSON of `describe` is `FlowView` field by field. Fields are only ever added to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from reflow_kafka.definition.spec import FlowSpec, StageSpec
from reflow_kafka.options import FOREVER, Batch, Rate, Retry
from reflow_kafka.serde.types import type_name
from reflow_kafka.topology.direct import is_reply, is_topic_sink
from reflow_kafka.topology.graph import Edge, Topology
from reflow_kafka.topology.plan import Input, Node, Output
from reflow_kafka.topology.planner import make_plan
from reflow_kafka.topology.topics import reply_topic, topic_specs


@dataclass(frozen=True, slots=True)
class RetryView:
    """When an event that failed is tried again; waits in seconds."""

    attempts: int | None
    backoff: float
    factor: float
    max_backoff: float
    jitter: float
    on: tuple[str, ...]
    """Names of exceptions."""


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
    for one that answers requests, ``table``, ``references`` or ``meetings`` for what has no code."""
    topics: tuple[str, ...]
    """Topics of others that it stands for: those a source reads, the one a sink writes."""
    lanes: int
    """Lanes in which it runs; 0 if a neighbour does its work."""
    key: str | None
    when: str | None
    timestamp: str | None
    out_of_orderness: float | None
    """Of a source, as `idle_after`; seconds."""
    idle_after: float | None
    state: str | None
    """Type of its state."""
    changelog: str | None
    outputs: tuple[str, ...]
    """Named outputs it declares."""
    partitions: int | None
    """Partitions it asks for."""
    host: str | None
    """The stage in whose worker it runs, if it is chained."""
    concurrency: int
    batch: Batch | None
    run_in: str
    timeout: float | None
    """Seconds."""
    rate: Rate | None
    retry: RetryView | None
    """None if it is the default of such a stage."""


@dataclass(frozen=True, slots=True)
class EdgeView:
    """A stage that follows an output of another, and the topics between them."""

    upstream: str
    output: str | None
    stage: str
    topics: tuple[str, ...]
    partitions: int
    """Of the widest; 0 if the topic is a function of the value, or if there is none."""
    internal: bool
    """It is the flow's own."""
    type: str
    format: str
    chained: bool
    """Both stages run in one worker, with no topic between."""


@dataclass(frozen=True, slots=True)
class TopicView:
    """A topic."""

    name: str
    partitions: int
    kind: str


@dataclass(frozen=True, slots=True)
class TableView:
    """A global table."""

    name: str
    topic: str
    type: str
    key: str | None


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
    tables: tuple[TableView, ...] = ()
    """The global tables."""

    def into(self, stage: str) -> tuple[EdgeView, ...]:
        """The edges that end at a stage."""
        return tuple(e for e in self.edges if e.stage == stage)

    def out_of(self, stage: str) -> tuple[EdgeView, ...]:
        """The edges that start at a stage."""
        return tuple(e for e in self.edges if e.upstream == stage)


def view(flow: FlowSpec, counts: Mapping[str, int | None] = MappingProxyType({})) -> FlowView:
    """The view of a checked flow (`counts` as for `make_plan`)."""
    plan = make_plan(flow, counts)
    nodes = {node.name: node for node in plan.all_nodes}
    hosts = {node.name: host.name for host in plan.nodes for node in host.chain[1:]}
    return FlowView(
        flow=flow.name,
        partitions=flow.partitions,
        lanes=plan.lanes,
        group=plan.group,
        stages=tuple(_stage(flow, s, nodes.get(s.name), hosts.get(s.name)) for s in flow.stages),
        edges=tuple(_edge(edge, nodes) for edge in Topology.of(flow).edges),
        topics=tuple(TopicView(t.name, t.partitions, t.kind.value) for t in topic_specs(plan)),
        tables=tuple(
            TableView(name, table.topic, type_name(table.type), _name_or_none(table.key))
            for name, table in flow.tables.items()
        ),
    )


def _stage(flow: FlowSpec, stage: StageSpec, node: Node | None, host: str | None) -> StageView:
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
        key=_name_or_none(stage.key_of()),
        when=_name_or_none(stage.when),
        timestamp=_name_or_none(stage.source.timestamp) if stage.source is not None else None,
        out_of_orderness=None if stage.source is None else stage.source.out_of_orderness,
        idle_after=None if stage.source is None else stage.source.idle_after,
        state=None if stage.state is None else type_name(stage.state.type),
        changelog=None if node is None else node.changelog,
        outputs=stage.outputs,
        partitions=stage.partitions,
        host=host,
        concurrency=stage.concurrency,
        batch=stage.batch,
        run_in=stage.run_in,
        timeout=stage.timeout,
        rate=stage.rate,
        retry=_retry(stage),
    )


def _retry(stage: StageSpec) -> RetryView | None:
    retry = stage.retry
    is_connector = stage.sink is not None and stage.sink.connector is not None
    if retry == (FOREVER if is_connector else Retry()):
        return None
    on = tuple(kind.__qualname__ for kind in retry.on)
    return RetryView(retry.attempts, retry.backoff, retry.factor, retry.max_backoff, retry.jitter, on)


def _edge(edge: Edge, nodes: Mapping[str, Node]) -> EdgeView:
    upstream, output, stage = edge.upstream.stage, edge.upstream.output, edge.stage
    end: Input | Output
    topics: tuple[str, ...]
    if upstream in nodes:
        end = next(o for o in nodes[upstream].outputs if (o.stage, o.name) == (stage, output))
        chained = end.chained is not None
        topics, partitions = () if chained else (_name(end.topic),), end.partitions
    else:  # the stage reads the topics of the source itself
        read = [i for i in nodes[stage].inputs if i.upstream == upstream]
        topics, partitions = tuple(i.topic for i in read), max(i.partitions for i in read)
        end, chained = read[0], False
    return EdgeView(
        upstream=upstream,
        output=output,
        stage=stage,
        topics=topics,
        partitions=partitions,
        internal=end.internal,
        type=type_name(end.type),
        format=_name(end.format),
        chained=chained,
    )


def _does(stage: StageSpec) -> str:
    if stage.source is not None and stage.source.topics:
        return "table" if stage.table else "forward"
    if is_reply(stage):
        return "reply"
    if is_topic_sink(stage):
        return "topic"
    if stage.source is not None and stage.source.schedule is not None:
        return str(stage.source.schedule)
    part = stage.source or stage.sink
    if part is not None and part.connector is not None:
        return type(part.connector).__name__
    if stage.handler is not None:
        return _name(stage.handler.target)
    return "table" if stage.operator is None else type(stage.operator).__name__.lower()


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

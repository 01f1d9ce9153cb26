"""The plan: what of a flow runs where, on which topics. Pure data; `planner.make_plan` makes it.

* an *input* is a topic that a node reads (an internal edge, or an external topic read directly),
* an *output* is a topic that a node writes (an internal edge, or the external topic of a sink), or leads
  into a stage that is chained to the node,
* a *node* is a stage that runs. It has a worker of its own, or is *chained*: it runs inside the worker of
  the stage before it, its host. The topic sources that are read directly by the stage after them, and the
  topic sinks that the stage before them writes into, are no nodes (DESIGN §4.8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reflow_kafka.definition.spec import FlowSpec, StageSpec
from reflow_kafka.options import Retry
from reflow_kafka.serde.keys import KeyOf
from reflow_kafka.topology.direct import is_reply
from reflow_kafka.topology.topics import dead_letter_topic, parked_topic, progress_topic, reply_topic

Role = Literal["forward", "connector-source", "generator", "handler", "connector-sink"]


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
    side: int = 0
    """The place of its upstream in the stage's `after`."""


@dataclass(frozen=True, slots=True)
class Output:
    """A topic that a node writes, or the stage chained to it."""

    topic: str | Callable[[Any], str]
    """``""`` if a chained stage takes the events."""
    partitions: int
    """0 where the topic is a function of the value, and where there is none."""
    stage: str
    """The stage at the far end (a sink for an external topic)."""
    name: str | None
    """The named output it follows (None: the main one)."""
    key: KeyOf | None
    when: Callable[[Any], object] | None
    type: Any
    format: Any
    internal: bool
    chained: Node | None = None
    """The stage that takes these events in the same worker, with no topic between."""


@dataclass(frozen=True, slots=True)
class Node:
    """A stage that runs in each lane below `lanes`, in a worker of its own or, if chained, its host's."""

    stage: StageSpec
    role: Role
    """``forward``: a topic source that re-partitions; ``handler``: a stage, or a sink with a handler."""
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    changelog: str | None
    """Topic behind the stage's state (for connector sources: behind their positions)."""
    lanes: int
    tells_time: bool = False
    """Whether a timed stage follows it, directly or not: its lane records tell how far its time has come."""

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name

    @property
    def timed(self) -> bool:
        """Whether it does something by time."""
        return self.stage.operator is not None

    @property
    def layout(self) -> str:
        """What its store holds, see `Operator.layout`."""
        return "" if self.stage.operator is None else self.stage.operator.layout

    @property
    def waits(self) -> bool:
        """Whether its events may wait for long: beside others of their stage, or for another try."""
        return self.role == "handler" and (self.stage.overlaps or self.stage.retry != Retry())

    @property
    def chain(self) -> tuple[Node, ...]:
        """This node and everything chained to it, directly or not, each before what is chained to it."""
        chained = (output.chained for output in self.outputs if output.chained is not None)
        return (self, *(node for head in chained for node in head.chain))


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything an engine needs to know about a flow before it starts."""

    flow: FlowSpec
    nodes: tuple[Node, ...]
    """Those with a worker of their own; `all_nodes` are these and the stages chained to them."""
    lanes: int
    """As many as the widest topic has partitions."""
    parks: bool
    """Whether events that wait long may move into a store: stages that wait do so, or did so once."""
    tables: Mapping[str, int]
    """Topics of global tables, with their partition counts."""
    hash: str
    """Changes whenever nodes, topics, keys or types change: a lane goes only to the newest plan."""

    @property
    def all_nodes(self) -> tuple[Node, ...]:
        """Every stage that runs, chained or not: whoever has state, writes topics, or is counted."""
        return tuple(n for node in self.nodes for n in node.chain)

    @property
    def timed(self) -> bool:
        """Whether any stage does something by time; else no lane tells of it."""
        return any(node.timed for node in self.nodes)

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
    def parked_topic(self) -> str | None:
        """Topic behind the events that wait long; None if they wait in memory."""
        return parked_topic(self.flow.name) if self.parks else None

    @property
    def reply_topic(self) -> str | None:
        """Topic of the answers to requests; None if the flow gives none."""
        return reply_topic(self.flow.name) if any(map(is_reply, self.flow.stages)) else None

    def nodes_of(self, lane: int) -> tuple[Node, ...]:
        """The nodes that have a worker in this lane."""
        return tuple(n for n in self.nodes if lane < n.lanes)

    def all_nodes_of(self, lane: int) -> tuple[Node, ...]:
        """The nodes that run in this lane, chained or not."""
        return tuple(n for n in self.all_nodes if lane < n.lanes)

    def host(self, stage: str) -> Node:
        """The node in whose worker a stage runs: its own, unless it is chained.

        Raises:
            KeyError: it does not run, as a neighbour does its work.
        """
        for node in self.nodes:
            if any(n.name == stage for n in node.chain):
                return node
        raise KeyError(stage)


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
    roles.update((table.topic, "source") for table in flow.tables.values())
    return roles

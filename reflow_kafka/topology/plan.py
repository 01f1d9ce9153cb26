"""The plan: what of a flow runs where, on which topics. Pure data and pure rules.

A plan is made from a checked flow and the partition counts of its external topics:

* an *input* is a topic that a node reads (an internal edge, or an external topic read directly),
* an *output* is a topic that a node writes (an internal edge, or the external topic of a sink),
* a *node* is a stage that needs a worker; the topic sources that are read directly by the stage after
  them, and the topic sinks that the stage before them writes into, need none (DESIGN §4.8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from reflow_kafka.definition.spec import FlowSpec, KeyOf, StageSpec


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
        return f"{self.flow.name}.progress"

    @property
    def dead_letter_topic(self) -> str:
        """Topic of the dead letters."""
        return f"{self.flow.name}.dead-letters"

    def nodes_of(self, lane: int) -> tuple[Node, ...]:
        """The nodes that have a worker in this lane."""
        return tuple(n for n in self.nodes if lane < n.lanes)

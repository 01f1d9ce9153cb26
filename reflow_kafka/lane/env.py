"""What an engine gives its lanes to live with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from reflow_kafka import clock
from reflow_kafka.lane.calm import Calm
from reflow_kafka.lane.finish import FiniteRun
from reflow_kafka.lane.lifecycle import Users
from reflow_kafka.lane.pace import Lateness, Load
from reflow_kafka.lane.processes.pool import Processes
from reflow_kafka.lane.rate import Throttle
from reflow_kafka.lane.share import DeadLetterShare
from reflow_kafka.log.api import Log, Membership, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.state.changelog import RestoreProgress
from reflow_kafka.state.store import StateBackend
from reflow_kafka.timed.watermark import TIMELESS, Habits
from reflow_kafka.topology.plan import Input, Plan
from reflow_kafka.topology.topics import PARKED

TAKE_OVERS: Final = 32
"""Lanes of a flow in one engine that are taken over at once: with hundreds none would be done in time."""

Guarantee = Literal["exactly-once", "at-least-once"]


def place_logger(logger: logging.Logger, **place: object) -> logging.LoggerAdapter[logging.Logger]:
    """A logger whose lines carry `flow`, `stage` and `lane`."""
    return logging.LoggerAdapter(logger, place)


@dataclass(slots=True)
class LaneEnv:
    """Shared by the lanes of one flow in one engine."""

    plan: Plan
    log: Log
    backend: StateBackend
    membership: Membership
    finite: FiniteRun
    load: Load
    lateness: Lateness
    calm: Calm
    """Keeps blocking handlers and commits apart; shared by all flows of the engine, as those two are."""
    processes: Processes
    """In which handlers with ``run_in="process"`` run; shared by all flows of the engine."""
    resources: Mapping[str, Any]
    """Those that are shared by the whole engine."""
    lanes: Callable[[], int]
    """Lanes that share this process, those of other flows included."""
    guarantee: Guarantee = "exactly-once"
    commit_interval: float = 0.1
    release_timeout: float = 10.0
    """Seconds in which a lane must come to a stop."""
    http: str = ""
    """Address at which this engine answers queries; empty if it does not."""
    stuck_timeout: float = 600.0
    """Seconds after which a lane that is taken over again and again without moving stops the engine."""
    now: Callable[[], int] = clock.now
    habits: Habits = field(default_factory=lambda: Habits() if clock.current().runs else TIMELESS)
    """How lanes tell each other of time."""
    """The time of day in epoch milliseconds."""
    restoring: Callable[[RestoreProgress], None] | None = None
    taking_over: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TAKE_OVERS))
    users: dict[str, Users] = field(default_factory=dict)
    """Workers of this engine that share the instance given as a stage, by stage."""
    throttles: dict[str, Throttle] = field(default_factory=dict)
    """Of the stages with a rate, which their lanes share."""
    shares: dict[str, DeadLetterShare] = field(default_factory=dict)
    """How many of a stage's events become dead letters, by stage."""
    counts: dict[str, int] = field(default_factory=dict)
    """Partition counts of topics named by functions of the value (0: cannot exist)."""
    _learning: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def learn(self, topic: str) -> None:
        """Find out a topic's partition count; a missing topic is created with the flow's."""
        async with self._learning.setdefault(topic, asyncio.Lock()):
            if topic in self.counts:
                return
            try:
                spec = TopicSpec(topic, self.plan.flow.partitions, TopicKind.EXTERNAL)
                await self.log.ensure_topics([spec])
                self.counts[topic] = (await self.log.partition_counts([topic]))[topic] or 0
            except ValueError:
                self.counts[topic] = 0

    def inputs(self, lane: int) -> dict[TopicPartition, Input]:
        """Everything that the workers of a lane read."""
        return {
            TopicPartition(entry.topic, lane): entry
            for node in self.plan.nodes_of(lane)
            for entry in node.inputs
            if lane < entry.partitions
        }

    def changelogs(self, lane: int) -> dict[str, str]:
        """Store → changelog topic: of the stages that have state, chained ones too, and of parked events."""
        topics = {n.name: n.changelog for n in self.plan.all_nodes_of(lane) if n.changelog is not None}
        return topics if self.plan.parked_topic is None else {**topics, PARKED: self.plan.parked_topic}

    def layouts(self, lane: int) -> dict[str, str]:
        """Changelog topic → what it holds, if that is anything else than states by their keys."""
        topics = {n.changelog: n.layout for n in self.plan.all_nodes_of(lane) if n.changelog is not None}
        return {topic: layout for topic, layout in topics.items() if layout}

    def direct_inputs(self) -> dict[str, int]:
        """External topics read directly → their partition counts."""
        return {i.topic: i.partitions for node in self.plan.nodes for i in node.inputs if not i.internal}

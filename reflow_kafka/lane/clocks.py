"""Makes the clocks of a lane's stages: of those that are timed, and of those that lead to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reflow_kafka.definition.spec import SourceSpec
from reflow_kafka.lane.clock import FeedClock, WorkClock
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.timed.clocks import EdgeClock, SourceClock
from reflow_kafka.timed.watermark import UNKNOWN, Habits, LaneTime
from reflow_kafka.topology.plan import Input, Node, Plan


@dataclass(frozen=True, slots=True)
class Clocks:
    """What they are made of."""

    plan: Plan
    lane: int
    told: Mapping[str, LaneTime]
    """What the lane's last record tells, by stage."""
    now: Callable[[], int]
    habits: Habits

    def of(self, node: Node) -> WorkClock | None:
        """The clock of a stage, if anybody wants to know its time."""
        if not (node.timed or node.tells_time):
            return None
        told = self.told.get(node.name, UNKNOWN)
        spec = node.stage.source
        if spec is not None and not node.inputs:
            # What a generator has not yielded by its end never comes; elsewhere parts may be added.
            return FeedClock(told, self.now, self.habits, *_limits(spec), final=node.role == "generator")
        inputs = {TopicPartition(i.topic, self.lane): i for i in node.inputs if self.lane < i.partitions}
        return WorkClock(
            told,
            self.now,
            self.habits,
            {tp: self._source(entry, told) for tp, entry in inputs.items() if not entry.internal},
            {tp: self._edge(entry) for tp, entry in inputs.items() if entry.internal},
            tells=node.tells_time,
        )

    def _source(self, entry: Input, told: LaneTime) -> SourceClock:
        spec = self.plan.flow.stage(entry.upstream).source
        assert spec is not None
        return SourceClock(*_limits(spec), told.watermark, self.now(), self.habits, told.clock)

    def _edge(self, entry: Input) -> EdgeClock:
        upstream = self.plan.host(entry.upstream)
        goes_by_others = bool(upstream.inputs) and all(i.internal for i in upstream.inputs)
        return EdgeClock(upstream.name, upstream.lanes, goes_by_others=goes_by_others)


def _limits(spec: SourceSpec) -> tuple[int, int]:
    return round(spec.out_of_orderness * 1000), round(spec.idle_after * 1000)

"""From a definition to a plan whose topics exist and fit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from reflow_kafka.definition.spec import FlowSpec
from reflow_kafka.errors import TopologyMismatch
from reflow_kafka.lane.record import LaneRecord
from reflow_kafka.lane.tail import last_record
from reflow_kafka.log.api import Log, TopicPartition
from reflow_kafka.topology.plan import Node, Plan, external_topics
from reflow_kafka.topology.planner import make_plan
from reflow_kafka.topology.topics import parked_topic, topic_specs

logger = logging.getLogger(__name__)


async def prepare(flow: FlowSpec, log: Log, *, drop_edges: Collection[str] = ()) -> Plan:
    """Plan a flow against the log, create its topics, and verify them.

    Args:
        flow: the flow.
        log: where its topics live.
        drop_edges: topics of a former shape of the flow whose unread events may be forgotten.

    Raises:
        DefinitionError: names of topics collide.
        TopologyMismatch: topics, or the state behind them, do not fit the flow.
    """
    counts = await log.partition_counts([*external_topics(flow), parked_topic(flow.name)])
    plan = make_plan(flow, counts)
    records = await _records(plan, log)
    _refuse_growth(plan, records)
    _refuse_other_layouts(plan, records)
    await _refuse_backlog(plan, records, log, drop_edges)
    for warning in await log.ensure_topics(topic_specs(plan)):
        logger.warning("%s", warning)
    return plan


async def _records(plan: Plan, log: Log) -> Sequence[LaneRecord | None]:
    """The lane records of a flow that has changed since it last ran; nothing if it has not."""
    progress = plan.progress_topic
    lanes = (await log.partition_counts([progress]))[progress] or 0
    first = await last_record(log, TopicPartition(progress, 0)) if lanes else None
    if first is None or first.plan == plan.hash:
        return ()
    others = [last_record(log, TopicPartition(progress, lane)) for lane in range(1, lanes)]
    if lanes < plan.lanes:
        await log.grow_topic(progress, plan.lanes)
    return [first, *await asyncio.gather(*others)]


def _refuse_growth(plan: Plan, records: Sequence[LaneRecord | None]) -> None:
    """State is placed by the partition count a topic had at first: it cannot follow a topic that grows."""
    before = {topic: count for record in records if record for topic, count in record.inputs.items()}
    for node in plan.nodes:
        for entry in node.inputs:
            count = before.get(entry.topic, entry.partitions)
            stateful = next((n.name for n in node.chain if _has_state(n)), None)
            if count != entry.partitions and stateful is not None:
                raise TopologyMismatch(
                    f"topic {entry.topic!r} has {entry.partitions} partitions, but stage {stateful!r} "
                    f"started when it had {count}: keys have moved away from their state. Give {node.name!r} "
                    "a key (key=…), so that it reads an edge of its own, or start a flow of another name"
                )


def _refuse_other_layouts(plan: Plan, records: Sequence[LaneRecord | None]) -> None:
    """What a stage has kept cannot be read as something else."""
    before = {
        topic: record.layouts.get(topic, "")
        for record in records
        if record
        for topic, end in record.changelogs.items()
        if end
    }
    for node in plan.all_nodes:
        if node.changelog is not None and before.get(node.changelog, node.layout) != node.layout:
            found, wanted = (layout or "states of keys" for layout in (before[node.changelog], node.layout))
            raise TopologyMismatch(
                f"stage {node.name!r} has kept {found} in {node.changelog}; that cannot be read as {wanted}: "
                "give the stage another name, or start a flow of another name"
            )


def _has_state(node: Node) -> bool:
    return node.role == "handler" and node.changelog is not None


async def _refuse_backlog(
    plan: Plan, records: Sequence[LaneRecord | None], log: Log, drop_edges: Collection[str]
) -> None:
    """An edge that is no longer part of the flow may still hold events that nobody has processed."""
    present = {entry.topic for node in plan.nodes for entry in node.inputs} | set(drop_edges)
    left = {
        TopicPartition(topic, lane): position
        for lane, record in enumerate(records)
        if record is not None
        for topic, position in record.positions.items()
        if topic not in present and topic.startswith(f"{plan.flow.name}.")
    }
    counts = await log.partition_counts({tp.topic for tp in left})
    left = {tp: at for tp, at in left.items() if (counts[tp.topic] or 0) > tp.partition}
    ends = await log.end_offsets(left) if left else {}
    backlog: dict[str, int] = {}
    for tp, position in left.items():
        if ends[tp] > position + 1:  # the last offset may be a marker
            backlog[tp.topic] = backlog.get(tp.topic, 0) + ends[tp] - position
    if backlog:
        found = ", ".join(f"{topic} (about {count})" for topic, count in sorted(backlog.items()))
        options = " ".join(f"--drop-edge {topic}" for topic in sorted(backlog))
        raise TopologyMismatch(
            f"edges that flow {plan.flow.name!r} no longer has still hold unprocessed events: {found}. "
            f"Let the former flow finish them (--until-end), or give them up with {options}"
        )

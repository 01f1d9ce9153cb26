"""From a definition to a plan whose topics exist and fit."""

from __future__ import annotations

import logging

from reflow_kafka.definition.spec import FlowSpec
from reflow_kafka.errors import TopologyMismatch
from reflow_kafka.lane.tail import last_record
from reflow_kafka.log.api import Log, TopicPartition
from reflow_kafka.topology.plan import Node, Plan, external_topics, make_plan
from reflow_kafka.topology.topics import topic_specs

logger = logging.getLogger(__name__)


async def prepare(flow: FlowSpec, log: Log) -> Plan:
    """Plan a flow against the log, create its topics, and verify them.

    Raises:
        DefinitionError: names of topics collide.
        TopologyMismatch: topics, or the state behind them, do not fit the flow.
    """
    counts = await log.partition_counts(external_topics(flow))
    plan = make_plan(flow, counts)
    await _refuse_growth(plan, log)
    for warning in await log.ensure_topics(topic_specs(plan)):
        logger.warning("%s", warning)
    return plan


async def _refuse_growth(plan: Plan, log: Log) -> None:
    """State is placed by the partition count a topic had at first: it cannot follow a topic that grows."""
    progress = plan.progress_topic
    if not (await log.partition_counts([progress]))[progress]:
        return
    record = await last_record(log, TopicPartition(progress, 0))
    if record is None:
        return
    for node in plan.nodes:
        for entry in node.inputs:
            before = record.inputs.get(entry.topic)
            if before is not None and before != entry.partitions and _has_state(node):
                raise TopologyMismatch(
                    f"topic {entry.topic!r} has {entry.partitions} partitions, stage {node.name!r} with "
                    f"state started when it had {before}: keys have moved away from their state. Give the stage a "
                    f"key (key=…), so that it reads an edge of its own, or start a flow of another name"
                )


def _has_state(node: Node) -> bool:
    return node.role == "handler" and node.changelog is not None

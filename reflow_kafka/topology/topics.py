"""The topics of a flow: their names, all made here, and what each is for."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reflow_kafka.definition.spec import UpstreamRef
from reflow_kafka.errors import DefinitionError

if TYPE_CHECKING:
    from reflow_kafka.topology.plan import Plan

MAX_NAME = 249
"""Kafka's limit for the name of a topic."""


class TopicKind(enum.Enum):
    """What a topic is for; it decides the topic's settings (DESIGN §4.8)."""

    EDGE = "edge"  # between two stages: kept until trimmed, whatever the age of its events
    DEAD_LETTERS = "dead-letters"  # kept for ever
    CHANGELOG = "changelog"  # compacted, never deleted by age
    PROGRESS = "progress"  # compacted lane records, one partition per lane
    REPLIES = "replies"  # answers to requests: kept for a while by the time at which they were written
    EXTERNAL = "external"  # somebody else's: created if missing, its settings never changed


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic the flow needs."""

    name: str
    partitions: int
    kind: TopicKind


PARKED: Final = "parked"
"""Name of the store in which a lane keeps events that wait long."""


def edge_topic(flow: str, upstream: UpstreamRef, stage: str) -> str:
    """``<flow>.<upstream>.<stage>``; of a named output ``<flow>.<upstream>.<output>.<stage>``."""
    return f"{flow}.{upstream}.{stage}"


def changelog_topic(flow: str, stage: str) -> str:
    """Topic behind the state of a stage."""
    return f"{flow}.{stage}.changelog"


def progress_topic(flow: str) -> str:
    """Topic of the lane records."""
    return f"{flow}.progress"


def dead_letter_topic(flow: str) -> str:
    """Topic of the dead letters."""
    return f"{flow}.dead-letters"


def parked_topic(flow: str) -> str:
    """Topic behind the events that wait long, of all stages."""
    return changelog_topic(flow, PARKED)


def reply_topic(flow: str) -> str:
    """Topic of the answers to requests, a partition for each client."""
    return f"{flow}.replies"


def topic_specs(plan: Plan) -> list[TopicSpec]:
    """Every topic a plan needs, each once, internal ones first.

    Dead letters and replies have the flow's partition count, not the lanes': they need not grow with a
    source.
    """
    flow = plan.flow
    specs = [
        TopicSpec(plan.progress_topic, plan.lanes, TopicKind.PROGRESS),
        TopicSpec(plan.dead_letter_topic, flow.partitions, TopicKind.DEAD_LETTERS),
    ]
    if plan.parked_topic is not None:
        specs.append(TopicSpec(plan.parked_topic, plan.lanes, TopicKind.CHANGELOG))
    if plan.reply_topic is not None:
        specs.append(TopicSpec(plan.reply_topic, flow.partitions, TopicKind.REPLIES))
    external = {topic: TopicSpec(topic, count, TopicKind.EXTERNAL) for topic, count in plan.tables.items()}
    for node in plan.all_nodes:
        for topic in node.inputs:
            if topic.internal:
                specs.append(TopicSpec(topic.topic, topic.partitions, TopicKind.EDGE))
            else:
                external[topic.topic] = TopicSpec(topic.topic, topic.partitions, TopicKind.EXTERNAL)
        if node.changelog is not None:
            specs.append(TopicSpec(node.changelog, node.lanes, TopicKind.CHANGELOG))
        for output in node.outputs:
            if isinstance(output.topic, str) and not output.internal:
                external[output.topic] = TopicSpec(output.topic, output.partitions, TopicKind.EXTERNAL)
    return specs + list(external.values())


def check_names(internal: Iterable[str], external: Iterable[str]) -> None:
    """Refuse names that Kafka would refuse, or that mean two things.

    Kafka takes ``.`` and ``_`` for the same in the names of its metrics, and so refuses a topic whose name
    differs from another's only there.

    Raises:
        DefinitionError: naming both.
    """
    taken: dict[str, str] = {}
    for name in internal:
        if len(name) > MAX_NAME:
            raise DefinitionError(
                f"topic {name} would have {len(name)} characters, Kafka allows {MAX_NAME}: shorten names"
            )
        other = taken.setdefault(name.replace(".", "_"), name)
        if other != name:
            raise DefinitionError(
                f"topics {other} and {name} are the same to Kafka, which takes '.' for '_': rename a stage"
            )
    if len(taken) < len(list(internal)):
        raise DefinitionError("a stage follows the same output twice")
    for name in external:
        own = taken.get(name.replace(".", "_"))
        if own is not None:
            raise DefinitionError(
                f"topic {name} of a source or sink meets the flow's own topic {own}: rename a stage or topic"
            )

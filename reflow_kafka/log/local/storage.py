"""The contract between the semantics of a local log and where it keeps its records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from reflow_kafka.log.api import CommittedPosition, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.local.records import LocalBatch

Positions = dict[TopicPartition, CommittedPosition]


@dataclass(slots=True)
class Contents:
    """What a storage holds when it is opened, records aside."""

    topics: dict[str, TopicSpec] = field(default_factory=dict)
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    positions: dict[str, Positions] = field(default_factory=dict)


@dataclass(slots=True)
class Change:
    """One atomic step. `starts` also deletes the batches that lie wholly below them."""

    topics: list[TopicSpec] = field(default_factory=list)
    batches: list[tuple[TopicPartition, LocalBatch]] = field(default_factory=list)
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    flow: str = ""
    positions: Positions = field(default_factory=dict)


class Storage(Protocol):
    """Keeps topics, batches, start and end offsets and committed positions."""

    def open(self) -> Contents:
        """Open, and say what is there."""

    def close(self) -> None:
        """Close; never raises."""

    def write(self, change: Change) -> None:
        """Keep all of `change`, or nothing of it.

        Raises:
            LogError: it could not be kept.
        """

    def next_batch(self, partition: TopicPartition, offset: int, limit: int) -> LocalBatch | None:
        """The first batch with an end above `offset` and a base below `limit`."""

    async def maintain(self, stable: dict[TopicPartition, int]) -> None:
        """A chance to tidy up below these offsets of compacted partitions, in small steps."""


COMPACTED = frozenset({TopicKind.CHANGELOG, TopicKind.PROGRESS})
"""Kinds of topics that keep the last record of each key."""

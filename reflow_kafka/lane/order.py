"""In which order a stage takes the events of several inputs: that of their timestamps (pure).

The input goes first whose next event is the oldest; of two that are as old, the one that stands later in the
stage's `after`, so that a row is there for an event of its time. An input with nothing at hand holds the
others up only while more is known to be in the log: one that is idle or read to its end never does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from reflow_kafka.log.api import Record, TopicPartition


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of an input."""

    side: int
    """The place of its upstream in the stage's `after`."""
    next: int | None
    """Timestamp of its next event; None: nothing is at hand."""
    more: bool
    """Whether more is known to be in the log."""


def first(heads: Sequence[Head]) -> int | None:
    """The place of the input to be taken from; None: nothing is at hand, or something older may come."""
    if any(head.next is None and head.more for head in heads):
        return None
    ages = [(head.next, -head.side, place) for place, head in enumerate(heads) if head.next is not None]
    return min(ages)[2] if ages else None


def before_others(heads: Sequence[Head], place: int, records: Sequence[Record]) -> int:
    """How many of the next events of an input come before the next one of another, if not 0 as in `first`."""
    others = [head for at, head in enumerate(heads) if at != place]
    if any(head.next is None and head.more for head in others):
        return 0
    bound = min(((head.next, -head.side) for head in others if head.next is not None), default=None)
    if bound is None:
        return len(records)
    back = -heads[place].side
    return next((n for n, record in enumerate(records) if (record.timestamp, back) > bound), len(records))


class InOrder:
    """Which inputs of a stage are taken from: all but the first are left alone, see `taking.Taking`."""

    def __init__(
        self, sides: Mapping[TopicPartition, int], head: Callable[[TopicPartition, int], Head]
    ) -> None:
        self._sides = sides
        self._inputs = list(sides)
        self._head = head

    def _heads(self) -> list[Head]:
        return [self._head(partition, side) for partition, side in self._sides.items()]

    def left(self) -> Collection[TopicPartition]:
        """The inputs that are left alone, now that something is to be taken."""
        place = first(self._heads())
        return [partition for at, partition in enumerate(self._inputs) if at != place]

    def takes(self, partition: TopicPartition, records: Sequence[Record]) -> int:
        """How many of the next events of an input may be taken."""
        return before_others(self._heads(), self._inputs.index(partition), records)

    def taken(self) -> None:
        """Something was taken."""

    def nothing_more(self) -> bool:
        """They stay in order, to the end."""
        return False

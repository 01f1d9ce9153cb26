"""In which order a stage takes the events of several inputs: that of their timestamps (pure).

The input goes first whose next event is the oldest; of two that are as old, the one that stands later in the
stage's `after`, so that a row is there for an event of its time. An input with nothing at hand holds the
others up only while more is known to be in the log: one that is idle or read to its end never does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from reflow_kafka.log.api import Record, TopicPartition


class Piece(NamedTuple):
    """Events of one input that are taken one after the other."""

    partition: TopicPartition
    records: Sequence[Record]
    last: bool
    """Whether the batch that they are from ends with them."""

    def divided(self, count: int) -> tuple[Piece, Piece]:
        """The first events, and the rest."""
        first, rest = self.records[:count], self.records[count:]
        return Piece(self.partition, first, last=False), Piece(self.partition, rest, self.last)


class InOrder:
    """What is at hand of several inputs, and is given out in order.

    Args:
        sides: the inputs, each with its side, the place of its upstream in the stage's `after`.
        more: whether more of an input is known to be in the log.
    """

    def __init__(self, sides: Mapping[TopicPartition, int], more: Callable[[TopicPartition], bool]) -> None:
        self._sides = sides
        self._more = more
        self._batches: dict[TopicPartition, deque[Sequence[Record]]] = {tp: deque() for tp in sides}
        self._at = dict.fromkeys(sides, 0)

    def __bool__(self) -> bool:
        """Whether anything is at hand."""
        return any(self._batches.values())

    def give(self, partition: TopicPartition, records: Sequence[Record]) -> None:
        """Have another batch at hand."""
        self._batches[partition].append(records)

    def clear(self) -> None:
        """Forget what is at hand."""
        for partition, batches in self._batches.items():
            batches.clear()
            self._at[partition] = 0

    def ready(self) -> bool:
        """Whether anything can be taken: it is at hand, and nothing older may come first."""
        return bool(self) and all(batches or not self._more(tp) for tp, batches in self._batches.items())

    def take(self, most: int) -> list[Piece]:
        """At most so many of the next events, in order, in pieces of one input each."""
        pieces: list[Piece] = []
        while most > 0 and self.ready():
            piece = self._next(most)
            pieces.append(piece)
            most -= len(piece.records)
        return pieces

    def give_back(self, piece: Piece) -> None:
        """Have what was taken last at hand again."""
        batches, at = self._batches[piece.partition], self._at[piece.partition]
        if piece.last:
            batches.appendleft(piece.records)
        else:
            batches[0] = [*piece.records, *batches[0][at:]]
        self._at[piece.partition] = 0

    def _next(self, most: int) -> Piece:
        """Events of the input whose next event is the oldest, as far as they come before the others'."""
        heads = [
            (batches[0][self._at[tp]].timestamp, -self._sides[tp], tp)
            for tp, batches in self._batches.items()
            if batches
        ]
        head = min(heads)
        _, back, partition = head
        batch, start = self._batches[partition][0], self._at[partition]
        end = count = min(start + most, len(batch))
        if len(heads) > 1:
            bound = min(other for other in heads if other is not head)
            end = start + 1
            while end < count and (batch[end].timestamp, back, partition) < bound:
                end += 1
        if end < len(batch):
            self._at[partition] = end
            return Piece(partition, batch[start:end], last=False)
        self._batches[partition].popleft()
        self._at[partition] = 0
        return Piece(partition, batch[start:end], last=True)

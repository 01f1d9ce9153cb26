"""Which inputs of a stage are taken from, where its program may let one wait for another (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.timed.program import Choosy, Program


class Taking:
    """An input whose next event the program does not take is left alone until something else was taken.

    If all of them are left alone, one goes first all the same; and none once nothing more comes.
    """

    def __init__(self, program: Program, sides: Mapping[TopicPartition, int]) -> None:
        self._choosy = program if isinstance(program, Choosy) else None
        self._sides = sides
        self._left: set[TopicPartition] = set()
        self._goes_first = False

    def left(self) -> Collection[TopicPartition]:
        """The inputs that are left alone, now that something is to be taken."""
        if self._left and len(self._left) == len(self._sides):
            self._goes_first = True
            self._left.clear()
        return self._left

    def waiting(self) -> frozenset[TopicPartition]:
        """The inputs that are left alone until something of the others is taken."""
        return frozenset(self._left) if len(self._left) < len(self._sides) else frozenset()

    def takes(self, partition: TopicPartition, records: Sequence[Record]) -> int:
        """How many of the next events of an input may be taken; none: it is left alone from now on."""
        if self._choosy is None:
            return len(records)
        taken = self._choosy.takes(self._sides[partition], [r.key for r in records])
        if taken == 0 and self._goes_first:
            taken = 1
        self._goes_first = False
        if taken == 0:
            self._left.add(partition)
        return taken

    def taken(self) -> None:
        """Something was taken: look again at all of them."""
        self._left.clear()

    def nothing_more(self) -> bool:
        """Take everything from now on; whether this is news."""
        news = self._choosy is not None
        self._choosy = None
        self._left.clear()
        return news

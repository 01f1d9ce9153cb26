"""A timed worker that takes the events of its inputs in the order of their timestamps: for joins."""

from __future__ import annotations

from reflow_kafka.lane.order import InOrder, Piece
from reflow_kafka.lane.steps import Timing
from reflow_kafka.lane.timed import TimedWorker
from reflow_kafka.lane.worker import Setting
from reflow_kafka.topology.plan import Node


class OrderedWorker(TimedWorker):
    """Merges what is at hand of its inputs; a slice is made of pieces of them."""

    def __init__(self, node: Node, setting: Setting, timing: Timing) -> None:
        super().__init__(node, setting, timing)
        sides = {tp: entry.side for tp, entry in self._inputs.items()}
        self._hand = InOrder(sides, self.inbox.more)
        self._generation = self.inbox.generation

    async def _more(self) -> bool:
        if self._ending:
            return await super()._more()
        if self._generation != self.inbox.generation:
            self._generation = self.inbox.generation
            self._hand.clear()
        while batch := self.inbox.poll():
            self._hand.give(*batch)
        if not self._hand.ready():
            self._held_up = bool(self._hand)
            return False
        if pieces := await self._admitted(self._hand.take(self._size)):
            await self._work_on(pieces)
        return True

    async def _admitted(self, pieces: list[Piece]) -> list[Piece]:
        """As many of these as may begin now; none: stopping."""
        wanted = await self._admitted_by_rate(sum(len(piece.records) for piece in pieces))
        left = await self._gate.admit(wanted, self._is_full) if wanted else 0
        begun: list[Piece] = []
        waiting: list[Piece] = []
        for piece in pieces:
            if left >= len(piece.records):
                begun.append(piece)
            elif left > 0:
                first, rest = piece.divided(left)
                begun.append(first)
                waiting.append(rest)
            else:
                waiting.append(piece)
            left -= min(left, len(piece.records))
        if self._generation == self.inbox.generation:
            for piece in reversed(waiting):
                self._hand.give_back(piece)
        return begun

    async def _work_on(self, pieces: list[Piece]) -> None:
        if self.inbox.generation == self._generation:  # else a commit has sent it back while it waited
            await self._slice([(piece.partition, piece.records) for piece in pieces])
        self._gate.worked()
        if self.inbox.generation != self._generation:
            await self._learn_topic()
        if self.inbox.generation != self._generation or self.inbox.stopped:  # perhaps amid the slice
            return
        for piece in pieces:
            if piece.last:
                self.inbox.finished(piece.partition)
        self._gate.worked()
        await self._between_slices()

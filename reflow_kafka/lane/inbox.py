"""What has been given to a worker and how far it has come with it; where going back leads to."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from reflow_kafka.log.api import Record, TopicPartition

QUEUE: Final = 2
"""Batches per input that may be in hand: one being worked on, one waiting."""


class Inbox:
    """Batches of records in hand, and three positions per input.

    *given*: after everything taken from the reader; *done*: after everything finished; *shared*: what was
    done when the last commit took its share. ``shared <= done <= given``. When nothing of an input is in
    hand, done moves along with given past the log's markers and gaps.
    """

    def __init__(self, positions: Mapping[TopicPartition, int]) -> None:
        self.done = dict(positions)
        self.generation = 0
        """Changes with each going back: what was fetched before is void."""
        self._stop = asyncio.Event()
        self._given = dict(positions)
        self._shared = dict(positions)
        self._queue: deque[tuple[TopicPartition, Sequence[Record]]] = deque()
        self._in_hand = dict.fromkeys(positions, 0)
        self._wake = asyncio.Event()

    def __bool__(self) -> bool:
        """Whether anything is in hand."""
        return any(self._in_hand.values())

    def room(self, partition: TopicPartition) -> bool:
        """Whether another batch of this input may be given."""
        return self._in_hand[partition] < QUEUE

    def give(self, partition: TopicPartition, records: Sequence[Record], reached: int) -> None:
        """Take records (perhaps none); `reached` is the reader's position after them."""
        self._given[partition] = reached
        if records:
            self._queue.append((partition, records))
            self._in_hand[partition] += 1
            self._wake.set()
        elif not self._in_hand[partition]:
            self.done[partition] = reached

    async def next(self) -> tuple[TopicPartition, Sequence[Record]] | None:
        """The next batch; waits for one; None once stopped."""
        while not self._queue and not self.stopped:
            self._wake.clear()
            await self._wake.wait()
        return None if self.stopped else self._queue.popleft()

    def finished(self, partition: TopicPartition) -> None:
        """A batch taken by `next` is finished to its last record."""
        self._in_hand[partition] -= 1
        if not self._in_hand[partition]:
            self.done[partition] = self._given[partition]

    def share(self) -> dict[TopicPartition, int]:
        """Everything done is handed over to a commit."""
        self._shared = dict(self.done)
        return self._shared

    @property
    def shared(self) -> Mapping[TopicPartition, int]:
        """The positions in the last share."""
        return self._shared

    def go_back(
        self, seek: Callable[[TopicPartition, int], None], *, to: Mapping[TopicPartition, int] | None = None
    ) -> None:
        """Return to the last share (or the positions `to`), as if nothing had been given since."""
        self._queue.clear()
        self._in_hand = dict.fromkeys(self._in_hand, 0)
        self.generation += 1
        for partition, position in (self._shared if to is None else dict(to)).items():
            self._given[partition] = self.done[partition] = position
            seek(partition, position)

    @property
    def stopped(self) -> bool:
        """Whether nothing more is given out."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Give nothing more out."""
        self._stop.set()
        self._wake.set()

    async def pause(self, seconds: float) -> None:
        """Wait before another try, but no longer than until the stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

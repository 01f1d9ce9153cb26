"""What has been given to a worker and how far it has come with it; where going back leads to."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Final

from reflow_kafka.lane.inflight import InFlight, Mark
from reflow_kafka.log.api import Record, TopicPartition

QUEUE: Final = 2
"""Batches per input that may be in hand: one being worked on, one waiting."""


class Inbox:
    """Batches of records in hand, and how far each input is finished.

    *given*: after everything taken from the reader; *position*: before the first event that is not finished;
    *shared*: what was finished when the last commit took its share. When nothing of an input is in hand, it
    is finished up to what was given, past the log's markers and gaps, but for the events that are open.
    """

    def __init__(self, marks: Mapping[TopicPartition, Mark]) -> None:
        self.generation = 0
        """Changes with each going back: what was fetched before is void."""
        self.wake = asyncio.Event()
        """Set when something was given, or nothing more will be; and by whoever has news for the worker."""
        self._stop = asyncio.Event()
        self._flights = {partition: InFlight(mark) for partition, mark in marks.items()}
        self._given = {partition: mark.position for partition, mark in marks.items()}
        self._shared = dict(marks)
        self._queue: deque[tuple[TopicPartition, Sequence[Record]]] = deque()
        self._in_hand = dict.fromkeys(marks, 0)
        self._more = dict.fromkeys(marks, True)

    def __bool__(self) -> bool:
        """Whether any batch is in hand."""
        return any(self._in_hand.values())

    # ---- given and taken

    def room(self, partition: TopicPartition) -> bool:
        """Whether another batch of this input may be given."""
        return self._in_hand[partition] < QUEUE

    def give(
        self, partition: TopicPartition, records: Sequence[Record], reached: int, *, more: bool = False
    ) -> None:
        """Take records (perhaps none); `reached` is the reader's position after them, `more` whether there
        may be others behind it.

        Those that were finished before the lane was taken over, or before it went back, are left out.
        """
        self._given[partition] = reached
        if self._more[partition] and not more:
            self.wake.set()  # others may have waited for it
        self._more[partition] = more
        if records and (fresh := self._flights[partition].fresh(records)):
            self._queue.append((partition, fresh))
            self._in_hand[partition] += 1
            self.wake.set()
        elif not self._in_hand[partition]:
            self._flights[partition].reach(reached)

    def poll(self, but: Container[TopicPartition] = ()) -> tuple[TopicPartition, Sequence[Record]] | None:
        """The next batch, if there is one of an input that is not among `but` and nobody has stopped it."""
        if self.stopped:
            return None
        for place, batch in enumerate(self._queue):
            if batch[0] not in but:
                del self._queue[place]
                return batch
        return None

    def put_back(self, partition: TopicPartition, records: Sequence[Record]) -> None:
        """The rest of a batch is not to be begun yet."""
        self._queue.appendleft((partition, records))

    async def next(self) -> tuple[TopicPartition, Sequence[Record]] | None:
        """The next batch; waits for one; None once stopped."""
        while not self._queue and not self.stopped:
            self.wake.clear()
            await self.wake.wait()
        return self.poll()

    def more(self, partition: TopicPartition) -> bool:
        """Whether there may be more in the log than was given."""
        return self._more[partition]

    def finished(self, partition: TopicPartition) -> None:
        """A batch taken by `next` is finished to its last record, but for those that are open."""
        self._in_hand[partition] -= 1
        if not self._in_hand[partition]:
            self._flights[partition].reach(self._given[partition])

    # ---- how far it is finished

    def position(self, partition: TopicPartition) -> int:
        """Everything below is finished."""
        return self._flights[partition].position

    def reached(self, partition: TopicPartition) -> int:
        """Everything below is finished, but for what is open."""
        return self._flights[partition].reached

    def resting(self, partition: TopicPartition) -> bool:
        """Whether everything taken from the reader is finished."""
        return not self._in_hand[partition] and self.position(partition) == self._given[partition]

    def reach(self, partition: TopicPartition, offset: int) -> None:
        """Everything below is finished, but for what is open."""
        self._flights[partition].reach(offset)

    def open(self, partition: TopicPartition, offset: int) -> None:
        """An event is begun, and those after it may finish before it does."""
        self._flights[partition].open(offset)

    def close(self, partition: TopicPartition, offset: int) -> None:
        """An open event is finished."""
        self._flights[partition].close(offset)

    def marks(self) -> dict[TopicPartition, Mark]:
        """How far all inputs are finished."""
        return {partition: flight.mark() for partition, flight in self._flights.items()}

    def share(self) -> dict[TopicPartition, Mark]:
        """Everything finished is handed over to a commit."""
        self._shared = self.marks()
        return self._shared

    @property
    def shared(self) -> Mapping[TopicPartition, Mark]:
        """The marks in the last share."""
        return self._shared

    def go_back(
        self, seek: Callable[[TopicPartition, int], None], *, to: Mapping[TopicPartition, Mark] | None = None
    ) -> None:
        """Return to the last share (or the marks `to`), as if nothing had been given since."""
        self._queue.clear()
        self._in_hand = dict.fromkeys(self._in_hand, 0)
        self.generation += 1
        for partition, mark in (self._shared if to is None else to).items():
            self._flights[partition] = InFlight(mark)
            self._given[partition] = mark.position
            self._more[partition] = True
            seek(partition, mark.position)

    # ---- the end

    @property
    def stopped(self) -> bool:
        """Whether nothing more is given out."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Give nothing more out."""
        self._stop.set()
        self.wake.set()

    async def until_stopped(self) -> None:
        """Returns when nothing more is given out."""
        await self._stop.wait()

    async def pause(self, seconds: float) -> None:
        """Wait before another try, but no longer than until the stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

"""What a lane asks of those who work in it: workers, feeds (connector sources), drains (connector sinks)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reflow_kafka.lane.clock import WorkClock
from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.log.api import BatchBuilder, TopicPartition
from reflow_kafka.timed.watermark import LaneTime
from reflow_kafka.topology.plan import Node


@dataclass(slots=True)
class Share:
    """What one of them contributes to a commit."""

    batches: dict[TopicPartition, list[BatchBuilder]] = field(default_factory=dict)
    changes: dict[str, dict[bytes, bytes | None]] = field(default_factory=dict)
    """What changed in stores, by their names: state of its stage and its chain, parked events."""
    marks: dict[TopicPartition, Mark] = field(default_factory=dict)
    """How far its inputs are finished."""
    events: int = 0
    last: tuple[TopicPartition, int] | None = None
    """The last event it finished."""
    times: dict[str, LaneTime] = field(default_factory=dict)
    """How far time has come in its stages, where others want to know."""


@dataclass(slots=True)
class Tally:
    """Counts of one stage in one lane, since this process took the lane over."""

    events: int = 0
    dead_letters: int = 0
    skipped: int = 0
    rewinds: int = 0
    retries: int = 0
    """Failed tries after which another was made."""
    late: int = 0
    """Events that went to the output ``late``."""

    def add(self, other: Tally) -> None:
        """Add another count to this one."""
        self.events += other.events
        self.dead_letters += other.dead_letters
        self.skipped += other.skipped
        self.rewinds += other.rewinds
        self.retries += other.retries
        self.late += other.late


@dataclass(slots=True)
class Queue:
    """What one stage in one lane has in hand at this moment."""

    in_progress: int = 0
    """Calls of its handler that have begun and not ended."""
    retrying: int = 0
    """Events, or batches, that wait for another try."""
    next_try: float | None = None
    """`clock.monotonic()` of the first of these tries."""
    parked: int = 0
    """Events that have moved into the lane's store until it is their turn."""
    left: frozenset[TopicPartition] = frozenset()
    """Inputs that nothing is taken from before others have more."""

    def add(self, other: Queue) -> None:
        """Add another one to this one."""
        self.in_progress += other.in_progress
        self.retrying += other.retrying
        times = [at for at in (self.next_try, other.next_try) if at is not None]
        self.next_try = min(times, default=None)
        self.parked += other.parked
        self.left |= other.left


class Work(Protocol):
    """One stage at work in one lane."""

    node: Node
    inputs: tuple[TopicPartition, ...]
    inbox: Inbox
    """Where the lane puts what it reads for them."""
    tally: Tally

    @property
    def clock(self) -> WorkClock | None:
        """The time of its events, if anybody wants to know."""

    def keep_time(self) -> None:
        """Note how far time has come."""

    def tallies(self) -> Mapping[str, Tally]:
        """Counts by stage: its own, and those chained to it."""

    async def open(self) -> None:
        """Open what the stage needs (user code may run)."""

    async def run(self) -> None:
        """Work until the inbox is stopped."""

    async def close(self) -> None:
        """Close it again; never raises."""

    def in_hand(self) -> bool:
        """Whether anything is being worked on that will soon be finished without waiting."""

    def queue(self) -> Queue:
        """What it has in hand."""

    def ended(self) -> bool:
        """Whether a source of its own, if it has one, has come to its end and everything is finished."""

    def nothing_more(self) -> None:
        """What its inputs hold now is all that comes in this run: none need wait for another."""

    def flushed(self) -> bool:
        """No event comes any more in this run: let time end; whether it has brought everything."""

    def results(self) -> dict[TopicPartition, list[BatchBuilder]]:
        """Hand over results before their share (at-least-once)."""

    def counted(self) -> Share:
        """What was finished since the last share. Nothing is handed over or encoded, so it cannot fail."""

    def take(self) -> Share:
        """Hand over everything finished since the last call; no await may stand inside."""

    def settled(self) -> None:
        """What was handed over is committed and in the store."""

    async def committed(self) -> None:
        """Told after `settled`: sources acknowledge."""

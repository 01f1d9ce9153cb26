"""Everything this library raises on purpose, as one tree.

    ReflowError
    ├── DefinitionError        the flow as written cannot work               (exit code 4)
    ├── UsageError             a wrong target, option, address or value      (exit code 2)
    ├── BrokerUnavailable      nobody answers                                (exit code 3)
    ├── TopologyMismatch       topics or state do not fit the flow           (exit code 4)
    ├── DataLoss               the log lacks what it must still have         (stops the flow)
    ├── FlowStopped            a stage with on_error="stop" failed, or a lane is stuck
    ├── Reject                 raised by a handler: this event is bad, dead-letter it
    ├── RetryLater             raised by a handler: this event again after a while
    ├── ProcessDied            a process of run_in="process" died during a call
    ├── RequestFailed          the flow answered a request with an error
    ├── StateUnavailable       nobody can answer a query at this moment
    ├── StateError             local state cannot be written or read
    └── LogError               raised by a log towards a lane
        ├── LaneLost           another owner took the lane, or this one may not have it
        ├── LogDoubt           the outcome of a call is unknown: read it from the log
        ├── RecordRefused      the log refuses certain records, and always will
        ├── OffsetOutOfRange   a position lies outside what the log holds
        └── NotPermitted       authorisation or policy: no retry helps

A message says what was found, what was wanted and what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reflow_kafka.units import Duration, seconds

if TYPE_CHECKING:
    from reflow_kafka.log.api import TopicPartition


class ReflowError(Exception):
    """The root: catch it to catch everything this library raises on purpose."""


class DefinitionError(ReflowError):
    """A flow that cannot work as it is written.

    `stage` is the stage concerned, if there is one; `where` is ``file:line`` of its definition.
    """

    def __init__(self, message: str, *, stage: str | None = None, where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.stage = stage
        self.where = where

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        about = f"stage {self.stage!r}: " if self.stage else ""
        return f"{place}{about}{self.message}"


class UsageError(ReflowError):
    """A target, option, address or value that cannot be used as given."""


class BrokerUnavailable(ReflowError):
    """No broker answered within the time limit, or what answered is not to be trusted or lets nobody in."""


class TopologyMismatch(ReflowError):
    """Topics or stored state do not fit the flow: the message names found, wanted and the way out."""


class DataLoss(ReflowError):
    """The log no longer holds what the flow still needs; going on would silently lose events."""


class FlowStopped(ReflowError):
    """The flow stopped itself: a stage with ``on_error="stop"`` failed, or a lane could not move."""


class Reject(ReflowError):
    """Raised by a handler: this event is bad, dead-letter it whatever `on_error` says."""


class RetryLater(ReflowError):
    """Raised by a handler: not now; try this event again after `delay` (seconds or a timedelta).

    Until then only its key waits. It is no failure, and uses none of the stage's attempts.
    """

    def __init__(self, delay: Duration, reason: str = "") -> None:
        self.delay = seconds(delay)
        """Seconds."""
        self.reason = reason
        if not self.delay >= 0:
            raise ValueError(
                f"RetryLater({delay!r}): delay is a time in seconds or a timedelta, not negative"
            )
        super().__init__(delay, reason)

    def __str__(self) -> str:
        return f"again in {self.delay:g} s" + (f": {self.reason}" if self.reason else "")


class ProcessDied(ReflowError):
    """A process of ``run_in="process"`` died while it ran a call; the call may be tried again."""


class RequestFailed(ReflowError):
    """A request became a dead letter: in `stage`, by an error of this `type` (its name) and `message`."""

    def __init__(self, stage: str, type: str, message: str) -> None:
        super().__init__(stage, type, message)
        self.stage = stage
        self.type = type
        self.message = message

    def __str__(self) -> str:
        return f"stage {self.stage!r} failed: {self.type}: {self.message}"


class StateUnavailable(ReflowError):
    """Nobody can tell the state of a key at this moment: its lane moves, restores, or its owner is away."""

    retry_after: float = 1.0
    """Seconds after which it is worth while to ask again."""


class StateError(ReflowError):
    """Local state could not be written or read: a full or broken disk."""


class LogError(ReflowError):
    """A log could not do what a lane asked; the lane's writer is unusable afterwards."""


class LaneLost(LogError):
    """Another owner has taken the lane over, or the log no longer accepts this one."""


class LogDoubt(LogError):
    """A call failed or timed out in a way that leaves its outcome unknown."""


class RecordRefused(LogError):
    """The log refused records for what they are (size, timestamp, …): a retry would fail for ever."""

    def __init__(self, message: str, partitions: Sequence[TopicPartition]) -> None:
        super().__init__(message)
        self.partitions = tuple(partitions)


class OffsetOutOfRange(LogError):
    """A reader's position lies below the log's start or above its end: partition → offset asked for."""

    def __init__(self, positions: Mapping[TopicPartition, int]) -> None:
        super().__init__(", ".join(f"{tp.topic}[{tp.partition}]@{at}" for tp, at in positions.items()))
        self.positions = dict(positions)


class NotPermitted(LogError):
    """Authorisation or policy forbids it: the flow stops and says so."""

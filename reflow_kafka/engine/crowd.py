"""Tells of an engine that has more lanes than it can serve, and what to do (pure)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from reflow_kafka.lane.calm import COMMITS
from reflow_kafka.lane.env import TAKE_OVERS
from reflow_kafka.lane.pace import BUSY

AFTER: Final = 30.0
"""Seconds after which lanes that do not run yet are told of."""
LATE: Final = 3.0
"""Seconds for which results wait until they are committed from which on it is told."""
AGAIN: Final = 60.0
"""Seconds after which it is told again."""
LATELY: Final = 10.0
"""Seconds over which the speed of take-overs is taken."""

_ADVICE: Final = (
    "spread them over more engines (on Kafka: --engines N, or more workers), or give flows fewer partitions"
)


@dataclass(frozen=True, slots=True)
class Lanes:
    """What is seen of an engine's lanes at some moment."""

    given: int
    running: int
    wait: float
    """Seconds for which results waited lately until they were committed; 0: there were none."""
    commit: float
    """Seconds that a commit took of that."""
    busy: float
    """Share of a CPU that the process uses, of what it gets."""
    granted: float = 1.0
    """The part that it gets of the CPU it wants: the rest is used by others."""


class Crowd:
    """Looks at the lanes every now and then, and says when there are too many of them."""

    def __init__(self) -> None:
        self._behind: float | None = None
        self._past: deque[tuple[float, int]] = deque()
        self._told_start = self._told_round = float("-inf")

    def look(self, now: float, lanes: Lanes) -> str | None:
        """What there is to tell now, if anything."""
        return self._start(now, lanes) or self._round(now, lanes)

    def _start(self, now: float, lanes: Lanes) -> str | None:
        """Lanes are taken over, but not all of them yet."""
        if lanes.running >= lanes.given:
            self._behind = None
            self._past.clear()
            return None
        if self._behind is None:
            self._behind = now
        while self._past and now - self._past[0][0] > LATELY:
            self._past.popleft()
        self._past.append((now, lanes.running))
        began, before = self._past[0]
        came = lanes.running - before
        # If none comes, it is not their number: the lanes themselves tell what they wait for.
        if (
            lanes.given <= TAKE_OVERS
            or came <= 0
            or now - self._behind < AFTER
            or now - self._told_start < AGAIN
        ):
            return None
        self._told_start = now
        speed = came / (now - began)
        return (
            f"{lanes.running:,} of {lanes.given:,} lanes run after {now - self._behind:.0f} s: "
            f"{TAKE_OVERS} of a flow are taken over at once, {speed:.1f} per second, so that the last "
            f"will run in about {(lanes.given - lanes.running) / speed:.0f} s. If that is too long, {_ADVICE}"
        )

    def _round(self, now: float, lanes: Lanes) -> str | None:
        """Results wait until it is their lane's turn to commit."""
        if lanes.given <= COMMITS or lanes.wait < LATE or now - self._told_round < AGAIN:
            return None
        self._told_round = now
        if lanes.granted < 0.5:
            cause = f"others on this machine leave this process {lanes.granted:.0%} of the CPU it wants"
        elif lanes.busy > BUSY:
            cause = f"this process uses {lanes.busy:.0%} of a CPU"
        else:
            cause = f"this process uses {lanes.busy:.0%} of a CPU, so it is the brokers that take their time"
        return (
            f"{lanes.given:,} lanes commit in turn, so that results wait {lanes.wait:.1f} s for a commit: "
            f"{COMMITS} are under way at once, each takes {lanes.commit:.2f} s, and {cause}. "
            f"If that is too long, {_ADVICE}"
        )

"""What a running flow has before it, as far as that has an end: a restore, or the rest of a finite run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reflow_kafka.engine.statistics import FlowStatistics, Statistics


@dataclass(frozen=True, slots=True)
class Goal:
    """How far it has come."""

    what: str
    done: int
    total: int
    rate: float
    """Events per second since the look before."""


class Goals:
    """Looks at statistics again and again and tells how far each flow has come."""

    def __init__(self) -> None:
        self._most: dict[str, int] = {}
        self._before: dict[tuple[str, str], tuple[float, int]] = {}

    def look(self, statistics: Statistics, now: float) -> dict[str, Goal | None]:
        """The goal of each flow, None where it has none."""
        return {name: self._goal(name, flow, now) for name, flow in statistics.flows.items()}

    def _goal(self, name: str, flow: FlowStatistics, now: float) -> Goal | None:
        if flow.restores:
            done, total = sum(r.done for r in flow.restores), sum(r.total for r in flow.restores)
            return Goal("restoring", done, total, self._rate(name, "restoring", done, now))
        if flow.remaining is None:
            return None
        # More may remain than at first: what one stage does is work for the next one, and lanes move.
        total = self._most[name] = max(self._most.get(name, 0), flow.remaining)
        done = total - flow.remaining
        return Goal("processing", done, total, self._rate(name, "processing", done, now))

    def _rate(self, name: str, what: str, done: int, now: float) -> float:
        when, before = self._before.get((name, what), (now, done))
        self._before[name, what] = (now, done)
        return max(0.0, (done - before) / (now - when)) if now > when else 0.0

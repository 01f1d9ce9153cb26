"""The handler of an aggregation: what a stage that aggregates does with its events (pure).

An aggregating stage is one with state like any other; its state holds that of each aggregation by its name,
so that one may come or go with another version of the flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reflow_kafka.aggregations import Aggregation
from reflow_kafka.context import Context
from reflow_kafka.windows import Window

States = dict[str, Any]


class Aggregate:
    """Several aggregations of the same events."""

    def __init__(self, of: Mapping[str, Aggregation]) -> None:
        self._of = dict(of)
        self._adders = [(name, aggregation.make, aggregation.add) for name, aggregation in of.items()]

    def make(self) -> States:
        """The states before the first event."""
        return {name: aggregation.make() for name, aggregation in self._of.items()}

    def add(self, states: States, value: Any, timestamp: int) -> None:
        """Take one more event into the states."""
        for name, make, add in self._adders:
            states[name] = add(states[name] if name in states else make(), value, timestamp)

    def merge(self, states: States, later: States) -> States:
        """One state of those of two sessions."""
        return {
            name: each.merge(states.get(name, each.make()), later.get(name, each.make()))
            for name, each in self._of.items()
        }

    def results(self, states: States) -> dict[str, Any]:
        """What is emitted of the states."""
        return {
            name: each.result(states[name] if name in states else each.make())
            for name, each in self._of.items()
        }

    # ---- as the code of a stage

    def running(self, states: States, value: Any, *, ctx: Context) -> dict[str, Any] | None:
        """Without windows: each event leads to an update."""
        if not self._taken(states, value, ctx):
            return None
        return {"key": ctx.key, **self.results(states)}

    def silent(self, states: States, value: Any, *, ctx: Context) -> None:
        """In a window that emits when it is closed."""
        self._taken(states, value, ctx)

    def close(self, states: States, window: Window) -> dict[str, Any]:
        """What a window emits when it is closed, and as an update."""
        return {"key": window.key, "start": window.start, "end": window.end, **self.results(states)}

    def _taken(self, states: States, value: Any, ctx: Context) -> bool:
        if value is None:  # a tombstone has nothing to aggregate, and begins nothing
            if states == self.make():
                ctx.clear_state()
            return False
        self.add(states, value, ctx.timestamp)
        return True

"""Stages that aggregate without a handler of the user's: theirs is made here, of aggregations.

Such a stage is one with state like any other. Its state holds that of each aggregation by its name, so that
one may come or go with another version of the flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reflow_kafka.aggregations import Aggregation
from reflow_kafka.context import Context
from reflow_kafka.definition.folding import merging, refuse_others, values_only, when_emitted
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import StageSpec
from reflow_kafka.definition.stages import stage_spec
from reflow_kafka.options import Retry
from reflow_kafka.value import State
from reflow_kafka.windows import Window

States = dict[str, Any]

TAKEN = ("end", "key", "start")
"""What results are called besides the aggregations."""


def aggregate_spec(
    name: Any,
    place: Place,
    retry: Retry,
    /,
    *,
    of: Any = None,
    window: Any = None,
    emit: Any = None,
    **options: Any,
) -> StageSpec:
    """A stage that aggregates.

    Raises:
        DefinitionError: an argument is not what it must be.
    """
    if not isinstance(name, str):
        place.fail(f"the first argument is the stage's name, not {name!r}")
    refuse_others(options, name, place)
    aggregate = Aggregate(_aggregations(of, name, place))
    emit = when_emitted(emit, window, "update" if window is None else "close", name, place)
    if window is None:
        return stage_spec(aggregate.running, place, retry, name=name, state=aggregate.make, **options)
    silent = aggregate.silent_by_time if aggregate.by_time else aggregate.silent
    spec = stage_spec(
        silent if emit == "close" else aggregate.update,
        place,
        retry,
        name=name,
        state=aggregate.make,
        window=merging(window, aggregate.merge, name, place),
        on_close=aggregate.close if emit == "close" else None,
        **options,
    )
    return values_only(spec)


def _aggregations(of: Any, name: str, place: Place) -> Mapping[str, Aggregation]:
    if not isinstance(of, Mapping) or not of:
        such = 'of={"mean": Mean("temp_f"), "count": Count()}'
        place.fail(f"of= names what is aggregated, such as {such}, not {of!r}", stage=name)
    for each, aggregation in of.items():
        if not isinstance(each, str) or each in TAKEN:
            place.fail(
                f"of= names results: texts other than {', '.join(map(repr, TAKEN))}, not {each!r}", stage=name
            )
        if not isinstance(aggregation, Aggregation) or isinstance(aggregation, type):
            place.fail(
                f"of={{{each!r}: …}} is an aggregation, such as Mean({each!r}), or an object with methods "
                f"make, add, merge and result, not {aggregation!r}",
                stage=name,
            )
    return of


class Aggregate:
    """Several aggregations of the same events."""

    def __init__(self, of: Mapping[str, Aggregation]) -> None:
        self._of = dict(of)
        self._each = [(name, aggregation.make, aggregation.add) for name, aggregation in of.items()]
        self.by_time = any(getattr(aggregation, "by_time", True) for aggregation in of.values())
        """Whether one of them asks for the time of events; those of others are believed to."""

    def make(self) -> States:
        """The states before the first event."""
        return {name: aggregation.make() for name, aggregation in self._of.items()}

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

    def running(self, state: State[States], value: Any, *, ctx: Context) -> dict[str, Any] | None:
        """Without windows: each event leads to an update."""
        if value is None:  # a tombstone has nothing to aggregate, and begins nothing; windows leave it out
            if state.value == self.make():
                state.clear()
            return None
        self._take(state, value, ctx.timestamp)
        return {"key": ctx.key, **self.results(state.value)}

    def update(self, state: State[States], value: Any, *, ctx: Context) -> dict[str, Any] | None:
        """In windows: each event leads to an update of each of its own."""
        self._take(state, value, ctx.timestamp)
        return None if ctx.window is None else self.close(state, ctx.window)

    def silent(self, state: State[States], value: Any) -> None:
        """In windows that emit when they are closed, where no aggregation asks for the time: a short way."""
        self._take(state, value, 0)

    def silent_by_time(self, state: State[States], value: Any, *, ctx: Context) -> None:
        """The same of others."""
        self._take(state, value, ctx.timestamp)

    def close(self, state: State[States], window: Window) -> dict[str, Any]:
        """What a window emits."""
        times = {"start": window.start, "end": window.end}
        return {"key": window.key, **times, **self.results(state.value)}

    def _take(self, state: State[States], value: Any, timestamp: int) -> None:
        states = state.value
        for name, make, add in self._each:
            states[name] = add(states[name] if name in states else make(), value, timestamp)

"""What stages keep, as a test sees it: read from their stores, beside the workers."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, cast

from reflow_kafka.definition.operators import Keyed, Windowed
from reflow_kafka.definition.place import did_you_mean
from reflow_kafka.definition.spec import StageSpec
from reflow_kafka.errors import UsageError
from reflow_kafka.serde.keys import decode_key
from reflow_kafka.serde.typed import state_codec
from reflow_kafka.state.memory import MemoryView
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.state.store import LaneStores
from reflow_kafka.timed.keyed import place_of, store_at, timers_at
from reflow_kafka.timed.kinds import windows_program
from reflow_kafka.timed.states import States
from reflow_kafka.timed.timers import read_timer
from reflow_kafka.timed.windowed import Stock
from reflow_kafka.timers import Timer
from reflow_kafka.windows import Window


def state_of(stage: StageSpec, lanes: Sequence[MemoryView], key: bytes) -> Any:
    """The state of a key, None if there is none; of a stage with windows, those that are open, by window."""
    if stage.state is None:
        raise UsageError(f"stage {stage.name!r} has no state, wanted one with state=")
    if isinstance(stage.operator, Windowed):
        return {window: state for lane in lanes for window, state in _windows(stage, lane, key)}
    place = place_of(key) if isinstance(stage.operator, Keyed) else key
    found = (lane.get(stage.name, place) for lane in lanes)
    decode = state_codec(stage.state.type).decode
    return next((decode(raw) for raw in found if raw is not None), None)


def _windows(stage: StageSpec, lane: MemoryView, key: bytes) -> Iterator[tuple[Window, Any]]:
    spec, operator = stage.state, stage.operator
    assert spec is not None
    assert isinstance(operator, Windowed)
    codec = state_codec(spec.type)
    states = States(spec.factory, boxed=spec.boxed, encode=codec.encode, decode=codec.decode)
    stores = cast(LaneStores, lane)  # shelves read no more than can be looked at
    program = windows_program(Stock(functools.partial(Shelf, stores, stage.name), states), operator.window)
    for start, end, state in program.open(key):
        yield Window(start, end, decode_key(key)), states.value(state)


def store_of(stage: StageSpec, lanes: Sequence[MemoryView], name: str) -> dict[str, Any]:
    """What a named store of a stage holds, in the order of its keys."""
    operator = stage.operator
    known = list(operator.stores) if isinstance(operator, Keyed) else []
    if not isinstance(operator, Keyed) or name not in known:
        raise UsageError(f"stage {stage.name!r} has no store {name!r}{did_you_mean(name, known)}")
    decode, prefix = state_codec(operator.stores[name].type).decode, store_at(name)
    found: dict[str, Any] = {}
    for lane in lanes:
        for place, raw in lane.scan(stage.name, prefix):
            key = decode_key(place[len(prefix) :])
            if key in found:
                raise UsageError(
                    f"found {key!r} in store {name!r} of several lanes of stage {stage.name!r}, wanted the "
                    "one that an event sees: say its key, too, store(stage, name, key)"
                )
            found[key] = decode(raw)
    return dict(sorted(found.items()))


def timers_of(stage: StageSpec, lanes: Sequence[MemoryView], key: bytes) -> list[Timer]:
    """The timers of a key that have not fired, the next one first."""
    if not isinstance(stage.operator, Keyed) or not stage.operator.timers:
        raise UsageError(f"stage {stage.name!r} has no timers, wanted one with on_timer=")
    prefix = timers_at(key)
    timers = (
        read_timer(place[len(prefix) :], raw)
        for lane in lanes
        for place, raw in lane.scan(stage.name, prefix)
    )
    return sorted(timers, key=lambda timer: (timer.at, timer.name))

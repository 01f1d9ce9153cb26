"""Options by which a stage becomes a timed one: read from what a user writes, or refused."""

from __future__ import annotations

import inspect
from typing import Any, Final, get_args

from reflow_kafka.definition.handlers import read_handler
from reflow_kafka.definition.keeping import read_stores, read_ttl
from reflow_kafka.definition.operators import Keyed, Windowed
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import ANY, Handler, StateBy
from reflow_kafka.units import Clock
from reflow_kafka.windows import Count, Session, WindowSpec

TIMING: Final[tuple[str, ...]] = ("close_on", "on_close", "on_timer", "stores", "ttl", "window")
CLOCKS: Final[tuple[str, ...]] = get_args(Clock)


def read_timing(options: dict[str, Any], handler: Handler, name: str, place: Place) -> dict[str, Any]:
    """Takes these options out of `options`; they are returned as the fields of a `StageSpec`.

    Raises:
        DefinitionError: one of them is not what it must be, or does not go with the others.
    """
    given = {option: options.pop(option, None) for option in TIMING}
    if given["window"] is None:
        for option in ("close_on", "on_close"):
            if given[option] is not None:
                place.fail(f"{option}= belongs to a window: add window=Tumbling(60), or such", stage=name)
        return _keyed(given, handler, name, place)
    for option in ("on_timer", "stores", "ttl"):
        if given[option] is not None:
            place.fail(
                f"{option}= goes with a state for each key, and window= makes one for each key and window, "
                f"which closes by itself: take one of them out, or put {option}= on another stage",
                stage=name,
            )
    return _windowed(given, handler, name, place)


def _keyed(given: dict[str, Any], handler: Handler, name: str, place: Place) -> dict[str, Any]:
    ttl = read_ttl(given["ttl"], handler, name, place)
    stores = read_stores(given["stores"], name, place)
    codes = {}
    if given["on_timer"] is not None:
        codes["on_timer"] = _callback("on_timer", given["on_timer"], "timer", handler, name, place)
    if ttl is None and not stores and not codes:
        return {}
    return {"operator": Keyed(ttl=ttl, stores=stores, timers=bool(codes)), "codes": codes}


def _windowed(given: dict[str, Any], handler: Handler, name: str, place: Place) -> dict[str, Any]:
    window = _window(given["window"], handler, name, place)
    clock = "event-time" if given["close_on"] is None else given["close_on"]
    close_on: Clock = place.choose("close_on", clock, CLOCKS, stage=name)
    if isinstance(window, Count) and given["close_on"] is not None:
        place.fail("Count(...) closes with its last event, whatever the time: take close_on= out", stage=name)
    codes = {}
    if given["on_close"] is not None:
        codes["on_close"] = _callback("on_close", given["on_close"], "window", handler, name, place)
    return {"operator": Windowed(window=window, close_on=close_on), "codes": codes}


def _window(window: Any, handler: Handler, name: str, place: Place) -> Any:
    if not isinstance(window, WindowSpec):
        such = f"the class {window.__name__} itself" if inspect.isclass(window) else repr(window)
        kinds = ", ".join(f"{kind.__name__}(...)" for kind in get_args(WindowSpec))
        place.fail(f"window= is one of {kinds}, not {such}", stage=name)
    if handler.state_by is StateBy.NONE:
        place.fail(
            "what is to be kept of a window? Add state=, what makes the state of each key and window, or "
            "use flow.aggregate(...), which needs no handler",
            stage=name,
        )
    if isinstance(window, Session) and window.merge is None:
        place.fail(
            "an event may join two sessions: say with Session(..., merge=) what becomes of their states, a "
            "function of both",
            stage=name,
        )
    return window


def _callback(option: str, code: Any, second: str, handler: Handler, name: str, place: Place) -> Handler:
    """Code that is called with the state as the stage's handler takes it, if it does, and something else."""
    data = (second,) if handler.state_by is StateBy.NONE else ("state", second)
    found = read_handler(code, data, what=f"{option}=", stage=name, place=place)
    if found.kind == "class":
        place.fail(f"{option}= is a function, not a class", stage=name)
    unsaid = found.state_by is StateBy.OBJECT and found.state_type is ANY
    if found.state_by is not handler.state_by and not unsaid:
        wanted = "State[...]" if handler.state_by is StateBy.BOX else "the state itself"
        place.fail(f"{option}= takes the state as the handler does: annotate it {wanted}", stage=name)
    return found

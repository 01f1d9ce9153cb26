"""Stages that fold the values of a key into one: theirs is a handler made of the user's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reflow_kafka.definition.arguments import name_for
from reflow_kafka.definition.folding import merging, refuse_others, values_only, when_emitted
from reflow_kafka.definition.handlers import SIDES, plain_callable, read_handler
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import ANY, StageSpec
from reflow_kafka.definition.stages import stage_spec
from reflow_kafka.options import Retry
from reflow_kafka.value import State
from reflow_kafka.windows import Window


def reduce_spec(
    target: Any,
    place: Place,
    retry: Retry,
    /,
    *,
    name: Any = None,
    window: Any = None,
    emit: Any = None,
    **options: Any,
) -> StageSpec:
    """A stage that reduces.

    Raises:
        DefinitionError: an argument or the function is not what it must be.
    """
    name = name_for(target, name, place)
    refuse_others(options, name, place)
    if wrong := plain_callable(target, 2):
        message = f"a fold is a plain function of the value so far and the next one; it {wrong}"
        place.fail(message, stage=name)
    emit = when_emitted(emit, window, "update", name, place)
    kind = _kind(target, name, place)
    fold = _fold(target, kind, quiet=emit == "close")
    if window is None:
        return stage_spec(fold, place, retry, name=name, state=_nothing, **options)
    spec = stage_spec(
        fold,
        place,
        retry,
        name=name,
        state=_nothing,
        window=merging(window, target, name, place),
        on_close=_close(kind) if emit == "close" else None,
        **options,
    )
    return values_only(spec)


def _nothing() -> None:
    """No value so far."""


def _kind(fn: Callable[[Any, Any], Any], name: str, place: Place) -> Any:
    """The type of the values, as far as the function says."""
    instead = "use a stage with state= if key, time or headers count"
    handler = read_handler(fn, SIDES, instead=instead, stage=name, place=place)
    _, value = handler.side_types
    return handler.result_type if value is ANY else value


def _fold(fn: Callable[[Any, Any], Any], kind: Any, *, quiet: bool) -> Callable[..., Any]:
    def fold(state: State[Any], value: Any) -> Any:
        if value is None:  # a tombstone, which windows leave out, is no value, and begins nothing
            if state.value is None:
                state.clear()
            return None
        total = value if state.value is None else fn(state.value, value)
        if total is None:
            raise ValueError("found None as the result of the fold, wanted the value so far: return it")
        state.value = total
        return None if quiet else total

    return _annotated(fold, kind, value=kind, **{"return": None if quiet else kind})


def _close(kind: Any) -> Callable[..., Any]:
    def close(state: State[Any], window: Window) -> Any:
        return state.value

    return _annotated(close, kind, **{"return": kind})


def _annotated(function: Callable[..., Any], kind: Any, **others: Any) -> Callable[..., Any]:
    """The function, with the types by which edges and states are written."""
    state = State if kind is ANY else State[kind | None]
    function.__annotations__ = {"state": state, **{n: t for n, t in others.items() if t is not ANY}}
    return function

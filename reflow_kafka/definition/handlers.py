"""What a handler looks like: its shape, its parameters, its types.

Data come first by position (``[state,] value``); every other parameter is filled by name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from collections.abc import (
    Set as AbstractSet,
)
from dataclasses import replace
from inspect import Parameter
from typing import Any, Final, Literal

from reflow_kafka.definition.annotations import (
    LISTS,
    argument,
    emitted,
    hints_of,
    item,
    plain,
    without_none,
)
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import ANY, Handler, Shape, StateBy
from reflow_kafka.event import Event
from reflow_kafka.value import State

Data = Sequence[str]
"""What code is called with by position: ``state``, ``value``, or what else there is for code of its kind."""

PARTS: Final = "parts"
"""Data that are a list of values."""

AS_EVENTS: Final = ("value", PARTS)
"""Data that may be annotated ``Event[T]``."""

SIDES: Final = ("left", "right")
"""Data that come from different upstreams, in the order of these."""

CONTEXT = "ctx"
"""The parameter that receives the `Context`."""

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)

# A plain `def` that is annotated like this returns what it was given by a generator or coroutine function.
_SHAPE_OF_RESULT = {
    Iterator: Shape.GENERATOR,
    Generator: Shape.GENERATOR,
    AsyncIterator: Shape.ASYNC_GENERATOR,
    AsyncGenerator: Shape.ASYNC_GENERATOR,
    Awaitable: Shape.COROUTINE,
    Coroutine: Shape.COROUTINE,
}


def read_handler(
    target: Any,
    data: Data,
    *,
    lists: bool = False,
    what: str = "the handler",
    instead: str = "ask ctx for key, time and headers",
    stage: str,
    place: Place,
) -> Handler:
    """Everything the definition needs to know about a handler that is called with `data`.

    `what` says to the user which code it is, `instead` what to do where data cannot be taken as `Event`.

    With `lists` it is called with a list of values, and may return one of results; with ``parts`` among the
    data also, and what it returns is one result. Types are then those of one item, `takes_list` tells whether
    its annotation allows it.

    `by_name` holds every other parameter, also those with a default; `fill_by_name` sorts them out once all
    resources are known.

    Raises:
        DefinitionError: it cannot be called, or not with `data`.
    """
    kind = _kind(target, stage, place)
    function = _function(target, kind)
    hints = hints_of(function, place)
    parameters = _parameters(target, kind)
    annotations = _data_annotations(parameters, data, hints, what, stage, place)
    _refuse_events(parameters, annotations, instead, stage, place)
    state_annotation = annotations.get("state", ANY)
    value_annotation = annotations.get("value", annotations.get(PARTS, ANY))
    takes_list = (lists or PARTS in data) and (value_annotation is ANY or plain(value_annotation) in LISTS)
    if takes_list:
        value_annotation = item(value_annotation)
    shape = _shape(function, hints.get("return", ANY))
    return Handler(
        target=target,
        kind=kind,
        shape=shape,
        state_by=_state_by(data, state_annotation),
        takes_event=plain(value_annotation) is Event,
        by_name=tuple(p.name for p in parameters[_taken(parameters, data) :] if p.kind in _BY_NAME),
        init_by_name=tuple(p.name for p in _init_parameters(target, kind) if p.kind in _BY_NAME),
        value_type=without_none(argument(value_annotation, Event)),
        result_type=emitted(hints.get("return", ANY), shape, takes_list and lists),
        state_type=argument(state_annotation, State),
        takes_list=takes_list,
        side_types=tuple(without_none(annotations.get(s, ANY)) for s in SIDES if s in data),
    )


def fill_by_name(handler: Handler, known: AbstractSet[str]) -> tuple[Handler, list[str]]:
    """The handler with only the parameters that `known` names fill, and the names nobody fills."""
    call = _required(_parameters(handler.target, handler.kind))
    init = _required(_init_parameters(handler.target, handler.kind))
    filled = replace(
        handler,
        by_name=tuple(n for n in handler.by_name if n in known),
        init_by_name=tuple(n for n in handler.init_by_name if n in known),
    )
    unfilled = [n for n in handler.by_name if n in call - known]
    return filled, unfilled + [n for n in handler.init_by_name if n in init - known]


def factory_parameters(factory: Callable[..., Any]) -> dict[str, bool]:
    """Names of a resource factory's parameters, and whether each must be filled."""
    parameters = _signature(factory)
    required = _required(parameters)
    return {p.name: p.name in required for p in parameters if p.kind in _BY_NAME}


def plain_callable(fn: Any, arguments: int) -> str | None:
    """Why `fn` is no plain function of so many values, or None if it is one."""
    if not callable(fn):
        return f"is {fn!r}"
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        return "is async"
    if inspect.isgeneratorfunction(fn):
        return "is a generator"
    try:
        inspect.signature(fn).bind(*range(arguments))
    except TypeError:
        return f"does not take {arguments} argument{'s' * (arguments != 1)}"
    except ValueError:  # a builtin such as str: it says nothing about its parameters
        pass
    return None


def wrong_key_of(given: Any) -> str | None:
    """Why it is neither a field's name nor a plain function of the value, or None if it is one."""
    if isinstance(given, str):
        return None if given else "is empty"
    return plain_callable(given, 1)


def _kind(target: Any, stage: str, place: Place) -> Literal["function", "class", "instance"]:
    if inspect.isclass(target):
        methods = (base.__dict__["__call__"] for base in target.__mro__ if "__call__" in base.__dict__)
        if not callable(next(methods, None)):
            place.fail(f"class {target.__name__} has no __call__ method to handle events", stage=stage)
        return "class"
    if not callable(target):
        place.fail(
            f"{target!r} cannot be called; give a function, a class or an object with __call__", stage=stage
        )
    is_function = inspect.isroutine(target) or isinstance(target, functools.partial)
    return "function" if is_function else "instance"


def _function(target: Any, kind: str) -> Any:
    """The function that bears the annotations and decides the shape."""
    if kind == "class":
        return target.__call__
    if kind == "instance":
        return type(target).__call__
    while isinstance(target, functools.partial):
        target = target.func
    return target


def _signature(fn: Any) -> list[Parameter]:
    try:
        return list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # a builtin that tells nothing: it takes data only
        return [Parameter("data", Parameter.VAR_POSITIONAL)]


def _parameters(target: Any, kind: str) -> list[Parameter]:
    return _signature(target.__call__)[1:] if kind == "class" else _signature(target)


def _init_parameters(target: Any, kind: str) -> list[Parameter]:
    return _signature(target) if kind == "class" else []


def _required(parameters: Sequence[Parameter]) -> set[str]:
    return {p.name for p in parameters if p.kind in _BY_NAME and p.default is Parameter.empty}


def _taken(parameters: Sequence[Parameter], data: Data) -> int:
    """How many of the parameters take data."""
    return min(len(data), sum(p.kind in _POSITIONAL for p in parameters))


def _data_annotations(
    parameters: list[Parameter], data: Data, hints: dict[str, Any], what: str, stage: str, place: Place
) -> dict[str, Any]:
    """The annotation of each parameter that takes data; fails if the handler cannot take them."""
    given = ", ".join(data) or "nothing"
    taken = parameters[: _taken(parameters, data)]
    takes_rest = any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
    if len(taken) < len(data) and not takes_rest:
        place.fail(f"{what} is called with ({given}) but takes {_listed(parameters)}", stage=stage)
    for p in taken:
        if p.name == CONTEXT:
            place.fail(f"data come first by position: write ({given}, {CONTEXT})", stage=stage)
    for p in parameters[len(taken) :]:
        if p.kind is Parameter.POSITIONAL_ONLY and p.default is Parameter.empty:
            place.fail(
                f"parameter {p.name!r} is positional only, so it cannot be filled by name", stage=stage
            )
    annotations: dict[str, Any] = {role: hints.get(p.name, ANY) for role, p in zip(data, taken, strict=False)}
    if "state" not in data and any(plain(a) is State for a in annotations.values()):
        place.fail(f"{what} takes a State, so the stage needs state=", stage=stage)
    return annotations


def _refuse_events(
    parameters: Sequence[Parameter], annotations: Mapping[str, Any], instead: str, stage: str, place: Place
) -> None:
    """Refuse ``Event[T]`` where what is handed over is not what came by an edge, one by one."""
    for p, (role, annotation) in zip(parameters, annotations.items(), strict=False):
        if role not in AS_EVENTS and plain(without_none(annotation)) is Event:
            advice = f"take Event[] out of its annotation, and {instead}"
            place.fail(f"{p.name} is no event: {advice}", stage=stage)


def _listed(parameters: Sequence[Parameter]) -> str:
    return f"({', '.join(map(str, parameters))})"


def _shape(function: Any, result: Any) -> Shape:
    if inspect.isasyncgenfunction(function):
        return Shape.ASYNC_GENERATOR
    if inspect.isgeneratorfunction(function):
        return Shape.GENERATOR
    if inspect.iscoroutinefunction(function):
        return Shape.COROUTINE
    return _SHAPE_OF_RESULT.get(plain(result), Shape.PLAIN)


def _state_by(data: Data, annotation: Any) -> StateBy:
    if "state" not in data:
        return StateBy.NONE
    return StateBy.BOX if plain(annotation) is State else StateBy.OBJECT

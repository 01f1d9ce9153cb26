"""The state of a stage, tried out when the flow is built: a fresh value must survive being stored."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import NoneType
from typing import Any, get_args

from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import ANY, Handler, StateBy, StateSpec
from reflow_kafka.definition.types import holds, is_immutable
from reflow_kafka.serde.typed import state_codec
from reflow_kafka.serde.types import type_name

_CONTAINERS = (list, dict, set, tuple, frozenset, NoneType)


_ADVICE = "use a dataclass, a msgspec.Struct, or a list or dict of plain values"


def read_state(factory: Any, handler: Handler, *, stage: str, place: Place) -> StateSpec:
    """What `state=` says, after running the factory once.

    Raises:
        DefinitionError: it is no factory; it makes a value that cannot be stored and read back, that is not
            what the handler's annotation says, or that is immutable and not taken as ``State[T]``.
    """
    value = _made_by(factory, stage, place)
    boxed = handler.state_by is StateBy.BOX
    kind = type_name(type(value))
    if not boxed and is_immutable(value):
        place.fail(
            f"its state is immutable ({kind}), so the handler cannot change it in place: annotate the first "
            f"parameter State[{kind}] (from reflow_kafka import State) and set its .value",
            stage=stage,
        )
    if not holds(value, handler.state_type):
        place.fail(
            f"state= makes a value of type {kind}, but the handler takes {type_name(handler.state_type)}",
            stage=stage,
        )
    state = StateSpec(
        factory=factory, type=_stored_type(factory, value, handler.state_type, boxed), boxed=boxed
    )
    _check_survival(value, state.type, stage, place)
    return state


def _made_by(factory: Any, stage: str, place: Place) -> Any:
    if not callable(factory):
        place.fail(
            f"state={factory!r} is a value; give what makes a new one for each key: a class or a function, "
            f"such as state={type(factory).__name__} or state=lambda: {factory!r}",
            stage=stage,
        )
    if inspect.iscoroutinefunction(factory) or inspect.isgeneratorfunction(factory):
        place.fail("state= must be a class or a plain function without arguments", stage=stage)
    try:
        return factory()
    except Exception as error:
        place.fail(
            f"state= cannot be called without arguments: {type(error).__name__}: {error}",
            stage=stage,
            cause=error,
        )


def _stored_type(factory: Callable[[], Any], value: Any, annotated: Any, boxed: bool) -> Any:
    """What the factory makes, unless the handler's annotation says more: ``dict`` < ``dict[str, Row]``.

    An annotated box decides alone: ``State[int | None]`` holds more than the None it may start with.
    """
    made = _result_of(factory, value)
    says_little = made in _CONTAINERS or made is ANY
    if annotated is not ANY and (boxed or says_little):
        return annotated
    return ANY if made is NoneType else made


def _result_of(factory: Callable[[], Any], value: Any) -> Any:
    if inspect.isclass(factory) or get_args(factory):
        return factory
    try:
        annotated = typing.get_type_hints(factory).get("return", ANY)
    except Exception:
        annotated = ANY
    return annotated if annotated is not ANY else type(value)


def _check_survival(value: Any, kind: Any, stage: str, place: Place) -> None:
    try:
        codec = state_codec(kind)
        stored = codec.encode(value)
        found = codec.decode(stored)
        again = codec.encode(found)
    except Exception as error:
        place.fail(
            f"its state of type {type_name(kind)} cannot be stored ({error}): {_ADVICE}",
            stage=stage,
            cause=error,
        )
    if not _same_kind(found, value) or (again != stored and found != value):
        place.fail(
            f"its state does not survive being stored: {value!r} ({type_name(type(value))}) comes back as "
            f"{found!r} ({type_name(type(found))}); {_ADVICE}",
            stage=stage,
        )


def _same_kind(found: Any, value: Any) -> bool:
    numbers = (int, float)
    return type(found) is type(value) or (isinstance(found, numbers) and isinstance(value, numbers))

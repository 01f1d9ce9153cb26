"""What annotations say: the types of parameters and results, taken out of lists, iterators and events.

Those that cannot be resolved say nothing: the type is then `ANY`, never an error.
"""

from __future__ import annotations

import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    MutableSequence,
    Sequence,
)
from typing import Any, Final, TypeVar, Union, get_args, get_origin

from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import ANY, Shape
from reflow_kafka.event import Event

LISTS: Final = (list, MutableSequence, Sequence, Collection, Iterable)
"""How a list may be annotated."""
_ITERATORS = (Iterator, Generator, Iterable, AsyncIterator, AsyncGenerator, AsyncIterable)


def hints_of(function: Any, place: Place) -> dict[str, Any]:
    """Resolved annotations; one that cannot be resolved is `ANY` without spoiling the others."""
    is_local = "<locals>" in getattr(function, "__qualname__", "")
    seen_there = getattr(function, "__module__", None) == place.module
    scope = dict(place.names) if is_local and seen_there else None
    try:
        found = typing.get_type_hints(function, localns=scope, include_extras=True)
    except Exception:  # a name imported for type checkers only, a typo, a builtin without annotations
        names = {**getattr(function, "__globals__", {}), **(scope or {})}
        found = {n: _hint(a, names) for n, a in getattr(function, "__annotations__", {}).items()}
    return {name: hint if _is_type(hint) else ANY for name, hint in found.items()}


def _is_type(annotation: Any) -> bool:
    """Whether an annotation means a type: it may be any object, such as a text that explains something."""
    try:
        hash(annotation)
    except TypeError:
        return False
    return (
        annotation is None
        or isinstance(annotation, type)
        or get_origin(annotation) is not None
        or type(annotation).__module__ in ("typing", "typing_extensions")
    )


def _hint(annotation: Any, names: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["it"]
    except Exception:
        return ANY


def plain(annotation: Any) -> Any:
    """``Event[int]`` → ``Event``; what has no arguments is itself."""
    return get_origin(annotation) or annotation


def argument(annotation: Any, generic: type) -> Any:
    """``T`` of ``generic[T]``, `ANY` of a bare ``generic``, anything else as it is."""
    if plain(annotation) is not generic:
        return annotation
    return (*get_args(annotation), ANY)[0]


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type that it is."""
    if plain(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (types.NoneType if annotation is None else annotation,)


def _union(members: Any) -> Any:
    found = tuple(dict.fromkeys(members))
    if not found or any(m is ANY or isinstance(m, TypeVar) for m in found):
        return ANY
    return Union[found]  # noqa: UP007 — made at run time


def without_none(annotation: Any) -> Any:
    """``int | None`` → ``int``."""
    return _union(m for m in _members(annotation) if m is not types.NoneType)


def emitted(result: Any, shape: Shape, lists: bool) -> Any:
    """Type of one emitted value: ``Iterator[Event[int] | None]`` → ``int``; NoneType if it emits nothing.

    With `lists` a list that is returned is one of emitted values.
    """
    arguments = get_args(result)
    if shape in (Shape.GENERATOR, Shape.ASYNC_GENERATOR):
        result = arguments[0] if plain(result) in _ITERATORS and arguments else ANY
    elif plain(result) is Coroutine:
        result = arguments[2] if len(arguments) == 3 else ANY
    elif plain(result) is Awaitable:
        result = arguments[0] if arguments else ANY
    returned = _members(result)
    if lists and shape in (Shape.PLAIN, Shape.COROUTINE):
        returned = tuple(i for m in returned for i in _members(item(m)))
    values = [v for m in returned for v in _members(argument(m, Event))]
    if values == [types.NoneType]:
        return types.NoneType
    return _union(v for v in values if v is not types.NoneType)


def item(annotation: Any) -> Any:
    """``R`` of a ``list[R]``, anything else as it is."""
    return (*get_args(annotation), ANY)[0] if plain(annotation) in LISTS else annotation

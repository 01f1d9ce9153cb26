"""Copies of the values that are handed from one stage to the next without being written in between.

An edge writes a value at the moment it is emitted, and everyone who reads it gets one of his own. A value
that is handed over as an object is copied for the same effect: whoever changes it, or keeps it in its state,
changes nothing that belongs to anybody else, and another try finds it as it was.

Plain data (what JSON knows, dataclasses, structs) is copied by walking through it, in steps as large as can
be: a `dict` of five fields takes 0.2 µs, where writing and reading it as JSON takes 0.4 µs. All else is left
to `copy.deepcopy`, which takes 2.2 µs for such a `dict`.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

_NoneType = type(None)
ATOMS: Final = frozenset(
    (_NoneType, bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, UUID)
)
"""Types whose values nobody can change."""

_all_atoms = ATOMS.issuperset

_SAID_BY_CLASSES: Final = (
    "__new__",
    "__copy__",
    "__deepcopy__",
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
)
"""By which a class says itself how it is copied."""

_copiers: dict[type, Callable[[Any], Any]] = {}


def copied(value: Any) -> Any:
    """The same value, of which nobody else holds a part that can be changed.

    What cannot be copied (an open file, a lock) is given back as it is: no edge could have carried it.
    """
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is dict:
        if _all_atoms(map(type, value.values())):
            return value.copy()
        return {k: v if type(v) in ATOMS else copied(v) for k, v in value.items()}
    if kind is list:
        if _all_atoms(map(type, value)):
            return value.copy()
        return [v if type(v) in ATOMS else copied(v) for v in value]
    copier = _copiers.get(kind)
    if copier is None:
        copier = _copiers[kind] = _copier(kind)
    return copier(value)


def _copier(kind: type) -> Callable[[Any], Any]:
    """How the values of a class are copied."""
    if issubclass(kind, enum.Enum):
        return _itself
    if kind in (set, frozenset):  # what they hold is hashable
        return kind
    if kind is tuple:
        return _copied_tuple
    if issubclass(kind, msgspec.Struct):
        return _copied_struct
    plain = all(getattr(kind, name, None) is getattr(object, name, None) for name in _SAID_BY_CLASSES)
    slots = any("__slots__" in vars(base) for base in kind.__mro__[:-1])
    return _copied_object if dataclasses.is_dataclass(kind) and plain and not slots else _deeply


def _itself(value: Any) -> Any:
    return value


def _copied_tuple(value: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([v if type(v) in ATOMS else copied(v) for v in value])


def _copied_struct(value: msgspec.Struct) -> msgspec.Struct:
    new = copy.copy(value)
    for name in value.__struct_fields__:
        held = getattr(value, name)
        if type(held) not in ATOMS:
            msgspec.structs.force_setattr(new, name, copied(held))
    return new


def _copied_object(value: Any) -> Any:
    new = object.__new__(type(value))
    new.__dict__.update(copied(value.__dict__))
    return new


def _deeply(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:
        return value

"""What the codecs need to know about types."""

from __future__ import annotations

import datetime
import decimal
import enum
import types
import uuid
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import is_dataclass
from typing import Any, Final, Union, get_args, get_origin, is_typeddict

import msgspec
from msgspec import inspect

_JSON_LIKE: Final = (dict, list, Mapping, MutableMapping, Sequence, MutableSequence)
_VALUES: Final = (str, bytes, int, bool, decimal.Decimal, uuid.UUID, enum.Enum, datetime.date, datetime.time,
                  datetime.timedelta)  # fmt: skip


def type_name(type: Any) -> str:
    """How a person would write this type."""
    if type is Any:
        return "Any"
    if isinstance(type, types.GenericAlias | types.UnionType) or get_origin(type) is not None:
        if get_origin(type) in (Union, types.UnionType):
            return " | ".join(type_name(a) for a in get_args(type))
        origin = get_origin(type)
        arguments = ", ".join("..." if a is ... else type_name(a) for a in get_args(type))
        return f"{getattr(origin, '__name__', origin)}[{arguments}]"
    if type is types.NoneType:
        return "None"
    return getattr(type, "__qualname__", None) or repr(type)


_KNOWN_TO_ORJSON: Final = (
    inspect.DataclassType, inspect.Field, inspect.StrType, inspect.IntType, inspect.FloatType,
    inspect.BoolType, inspect.NoneType,
    inspect.UnionType, inspect.ListType, inspect.DictType, inspect.AnyType,
)  # fmt: skip


def parts(wanted: Any) -> list[Any]:
    """All types inside a type, itself included, as msgspec describes them."""
    return list(_walk(inspect.type_info(wanted)))


def suits_orjson(wanted: Any) -> bool:
    """Whether orjson writes it as msgspec would (it skips fields with a leading underscore)."""
    for part in parts(wanted):
        hidden = isinstance(part, inspect.DataclassType) and any(f.name[0] == "_" for f in part.fields)
        if hidden or not isinstance(part, _KNOWN_TO_ORJSON):
            return False
    return True


def holds_floats(wanted: Any) -> bool:
    """Whether a null in its JSON may have been NaN."""
    floats = inspect.FloatType | inspect.AnyType | inspect.CustomType
    return any(isinstance(part, floats) for part in parts(wanted))


def _walk(info: Any) -> Iterator[Any]:
    seen: set[int] = set()
    todo: list[Any] = [info]
    while todo:
        item = todo.pop()
        if isinstance(item, tuple):
            todo += item
        elif isinstance(item, msgspec.Struct) and id(item) not in seen:
            seen.add(id(item))
            yield item
            todo += [getattr(item, field) for field in item.__struct_fields__]


def untyped(wanted: Any) -> bool:
    """Whether nothing is known of it."""
    return wanted is Any or wanted is object


def json_like(wanted: Any) -> bool:
    """Containers of which only the outside is known: what they hold is plain JSON."""
    inner = get_args(wanted)
    if inner and not (untyped(inner[-1]) and inner[0] in (str, Any, object)):
        return False
    return (get_origin(wanted) or wanted) in _JSON_LIKE


def believed(wanted: Any) -> frozenset[type]:
    """Classes whose instances are taken to fit `wanted` without being decoded again."""
    if get_origin(wanted) in (Union, types.UnionType):
        return frozenset().union(*(believed(a) for a in get_args(wanted)))
    if wanted is float:
        return frozenset((float, int))
    if not isinstance(wanted, type) or is_typeddict(wanted) or get_args(wanted):
        return frozenset()
    nominal = (
        is_dataclass(wanted)
        or issubclass(wanted, (msgspec.Struct, *_VALUES))
        or hasattr(wanted, "model_validate_json")
        or (issubclass(wanted, tuple) and hasattr(wanted, "_fields"))
    )
    return frozenset((wanted,)) if nominal else frozenset()


def without_none(wanted: Any) -> Any:
    """``T`` for ``T | None``: on an edge None is the tombstone, and never reaches the codec."""
    if get_origin(wanted) in (Union, types.UnionType):
        rest = tuple(a for a in get_args(wanted) if a is not types.NoneType)
        if len(rest) < len(get_args(wanted)):
            return Union[rest]  # noqa: UP007 - built at run time
    return wanted

"""Whether a value of one type can be what a parameter of another type asks for, once it went over an edge.

Edges carry JSON, so types are compared as JSON sees them: a dataclass fits a ``dict``, a datetime fits a
``str``, and a dataclass fits another that asks for no field it lacks. Only what can never work is a misfit;
a type that nothing is known about fits everything.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from uuid import UUID

from reflow_kafka.definition.spec import ANY

_NULL, _BOOLEAN, _NUMBER, _STRING, _ARRAY, _OBJECT = "null", "boolean", "number", "string", "array", "object"

# In this order: a bool is an int, a str is a collection.
_FORMS: tuple[tuple[tuple[type, ...], frozenset[str]], ...] = (
    ((types.NoneType,), frozenset({_NULL})),
    ((bool,), frozenset({_BOOLEAN})),
    ((int, float), frozenset({_NUMBER})),
    ((Decimal,), frozenset({_NUMBER, _STRING})),
    ((str, bytes, bytearray, memoryview, date, datetime, time, timedelta, UUID), frozenset({_STRING})),
    ((Mapping,), frozenset({_OBJECT})),
    ((list, tuple, set, frozenset, Collection), frozenset({_ARRAY})),
)


class Field(NamedTuple):
    """A field of a class that is written as a JSON object."""

    type: Any
    required: bool


def fits(given: Any, wanted: Any) -> bool:
    """False only if no value of type `given` can be decoded as `wanted`."""
    return _fits(given, wanted, frozenset())


def is_a(given: Any, wanted: Any) -> bool:
    """False only if no value of type `given`, as it is in memory, is of type `wanted`."""
    return fits(given, wanted) and any(_may_be(g, w) for g in members(given) for w in members(wanted))


def holds(value: object, annotation: Any) -> bool:
    """False only if the value itself, as it is in memory, is certainly not of the annotated type."""
    return any(_is_instance(value, member) for member in members(annotation))


def is_immutable(value: object) -> bool:
    """Whether changing the value in place is impossible, so that a new one must be set instead."""
    kind = type(value)
    if isinstance(value, _IMMUTABLE):
        return True
    if dataclasses.is_dataclass(kind):
        return bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    if hasattr(kind, "__struct_config__"):
        return bool(kind.__struct_config__.frozen)
    return bool(getattr(kind, "model_config", {}).get("frozen", False))


_IMMUTABLE = (
    *(types.NoneType, bool, int, float, complex, str, bytes, tuple, frozenset, range, enum.Enum),
    *(Decimal, date, datetime, time, timedelta, UUID),
)


def members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, aliases and annotations looked through; any other type is its only member."""
    annotation = _bare(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(m for a in get_args(annotation) for m in members(a))
    return (annotation,)


def fields_of(cls: Any) -> dict[str, Field] | None:
    """Fields by the name they have in JSON, or None if the class is not known to be an object."""
    try:
        if hasattr(cls, "__struct_fields__"):
            import msgspec

            return {f.encode_name: Field(f.type, f.required) for f in msgspec.structs.fields(cls)}
        if dataclasses.is_dataclass(cls):
            hints = typing.get_type_hints(cls)
            return {
                f.name: Field(hints[f.name], _has_no_default(f)) for f in dataclasses.fields(cls) if f.init
            }
        if typing.is_typeddict(cls):
            hints = typing.get_type_hints(cls)
            return {name: Field(t, name in cls.__required_keys__) for name, t in hints.items()}
        if hasattr(cls, "model_fields"):
            return {
                f.alias or name: Field(f.annotation, f.is_required()) for name, f in cls.model_fields.items()
            }
    except Exception:  # a forward reference that cannot be resolved: nothing is known
        return None
    return None


def lacks(annotation: Any, name: str) -> bool:
    """Whether some values of the type, as they are in memory, certainly have no field of that name."""
    return any(_lacks(cls, name) for cls in members(annotation))


def _lacks(cls: Any, name: str) -> bool:
    fields = fields_of(cls)
    if fields is None or typing.is_typeddict(cls):
        return fields is not None and name not in fields
    # What is only written by that name in JSON is an attribute by another.
    own: Any = getattr(cls, "__dataclass_fields__", None) or getattr(cls, "model_fields", ())
    return name not in own and not hasattr(cls, name)


def _has_no_default(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _fits(given: Any, wanted: Any, seen: frozenset[tuple[Any, Any]]) -> bool:
    return any(_one_fits(g, w, seen) for g in members(given) for w in members(wanted))


def _one_fits(given: Any, wanted: Any, seen: frozenset[tuple[Any, Any]]) -> bool:
    if given == wanted or (given, wanted) in seen:  # (a recursive type is assumed to fit)
        return True
    forms = _forms(given) & _forms(wanted)
    if not forms:
        return False
    if forms == {_ARRAY}:
        return _items_fit(given, wanted, seen)
    if forms == {_OBJECT}:
        return _fields_fit(given, wanted, seen | {(given, wanted)})
    return True


def _items_fit(given: Any, wanted: Any, seen: frozenset[tuple[Any, Any]]) -> bool:
    have, want = _items(given), _items(wanted)
    if have is None or want is None:
        return True
    if isinstance(have, tuple) and isinstance(want, tuple):
        return len(have) == len(want) and all(_fits(h, w, seen) for h, w in zip(have, want, strict=True))
    return all(
        _fits(h, w, seen)
        for h in (have if isinstance(have, tuple) else [have])
        for w in (want if isinstance(want, tuple) else [want])
    )


def _items(annotation: Any) -> Any:
    """The item types of a tuple (a tuple of them), the item type of another array, None if unknown."""
    arguments = get_args(annotation)
    if not arguments:
        return None
    if get_origin(annotation) is tuple and arguments[-1] is not Ellipsis:
        return arguments
    return arguments[0]


def _fields_fit(given: Any, wanted: Any, seen: frozenset[tuple[Any, Any]]) -> bool:
    have, want = fields_of(given), fields_of(wanted)
    if have is not None and want is not None:
        missing = any(f.required and name not in have for name, f in want.items())
        return not missing and all(_fits(have[n].type, f.type, seen) for n, f in want.items() if n in have)
    if have is None and want is None:
        have_value, want_value = get_args(given)[1:], get_args(wanted)[1:]
        return not (have_value and want_value) or _fits(have_value[0], want_value[0], seen)
    return True


def _forms(annotation: Any) -> frozenset[str]:
    """The JSON forms a value of the type may take; all of them if that is not known."""
    if get_origin(annotation) is Literal:
        return _forms_of_values(get_args(annotation))
    cls = get_origin(annotation) or annotation
    if not _is_class(cls) or cls is object:
        return _ANY_FORM
    if issubclass(cls, enum.Enum):
        return _forms_of_values(m.value for m in cls)
    if fields_of(cls) is not None:
        return _ANY_FORM if _is_array_like(cls) else frozenset({_OBJECT})
    return next((forms for classes, forms in _FORMS if issubclass(cls, classes)), _ANY_FORM)


_ANY_FORM = frozenset({_NULL, _BOOLEAN, _NUMBER, _STRING, _ARRAY, _OBJECT})


def _forms_of_values(values: Iterable[object]) -> frozenset[str]:
    return frozenset().union(*(_forms(type(v)) for v in values)) or _ANY_FORM


def _may_be(given: Any, wanted: Any) -> bool:
    """Whether an instance of one may be an instance of the other."""
    one, other = (dict if typing.is_typeddict(t) else get_origin(t) or t for t in (given, wanted))
    if not _is_class(one) or not _is_class(other):
        return True
    is_number = issubclass(one, int) and other in (float, complex)
    return is_number or issubclass(one, other) or issubclass(other, one)


def _is_array_like(cls: Any) -> bool:
    return bool(getattr(getattr(cls, "__struct_config__", None), "array_like", False))


def _bare(annotation: Any) -> Any:
    """Without ``Annotated``, ``NewType`` and alias around it."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return types.NoneType if annotation is None else annotation


def _is_class(cls: Any) -> bool:
    """Whether values are instances of it: not so of ``Any``, protocols and type variables."""
    return isinstance(cls, type) and cls is not ANY and not getattr(cls, "_is_protocol", False)


def _is_instance(value: object, annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    cls = get_origin(annotation) or annotation
    if typing.is_typeddict(cls):
        return isinstance(value, dict)
    if not _is_class(cls):
        return True
    return isinstance(value, cls) or (cls in (float, complex) and isinstance(value, int))

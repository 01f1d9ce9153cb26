"""JSON: what travels where nobody asked for anything else, so that every Kafka client can read it.

Encoding takes orjson's fast path and falls back to msgspec for what orjson refuses. Decoding is msgspec's:
as fast on records of the usual size, and it keeps integers beyond 64 bits exact where orjson would turn
them into floats without a word.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections import defaultdict, deque
from typing import Any, Final, get_args, get_origin

import msgspec
import orjson

from reflow_kafka.errors import ReflowError


class SerdeError(ReflowError, ValueError):
    """A value or bytes that do not fit the type they should have."""


class EncodeError(SerdeError):
    """A value that cannot be written as its edge or state demands."""


class DecodeError(SerdeError):
    """Bytes that cannot be read as their edge or state demands."""


class UnsupportedType(SerdeError):
    """A type that no value of can be written and read back."""


def to_plain(value: Any) -> Any:
    """Objects that msgspec does not know, as something that it does (its `enc_hook`)."""
    if hasattr(value, "model_dump"):  # a pydantic model; pydantic itself is never imported here
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, deque):
        return list(value)
    raise TypeError(f"{type(value).__qualname__} is no JSON value")


def from_plain(wanted: Any, value: Any) -> Any:
    """The reverse of `to_plain`, for types on which `rebuilds` agrees (msgspec's `dec_hook`)."""
    kind = get_origin(wanted) or wanted
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    if issubclass(kind, defaultdict):
        arguments = get_args(wanted)
        if len(arguments) != 2 or not isinstance(arguments[1], type):
            raise ValueError(
                "a defaultdict comes back only if annotated with its factory: defaultdict[str, int]"
            )
        return kind(arguments[1], value)
    return kind(value)


def rebuilds(wanted: Any) -> bool:
    """Whether `from_plain` can make this type, of which msgspec knows nothing."""
    kind = get_origin(wanted) or wanted
    if not isinstance(kind, type):
        return False
    if hasattr(kind, "model_validate"):
        return True
    return issubclass(kind, dict | list | deque | set | frozenset)


encode_any: Final = msgspec.json.Encoder(enc_hook=to_plain).encode
"""Everything that can be JSON, at msgspec's speed."""

loads: Final = msgspec.json.Decoder().decode
"""JSON bytes → dict, list, str, int, float, bool or None. Raises ValueError."""


def dumps(value: Any) -> bytes:
    """Any value as JSON: also dataclasses, Structs, models, datetime, Decimal, UUID, Enum, sets, bytes.

    As everywhere in JSON, NaN and the infinities become null, and keys become text.

    Raises:
        EncodeError: the value cannot be JSON.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        pass
    try:
        return encode_any(value)
    except Exception as error:
        raise EncodeError(f"found {_kind(value)}, wanted something JSON can express: {error}") from error


def own_size(data: bytes) -> bytes:
    """A copy, for bytes that are kept: what orjson gives holds 4 kB, however short it is."""
    return b"".join((data, b""))


LETTER_U: Final = ord("u")
"""Looked for before b"null": with `find` instead of `in` that takes 0.02 to 0.1 µs instead of 0.16."""

_AS_THEY_ARE = (
    orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def dumps_exactly(value: Any) -> bytes:
    """A value of dicts, lists and scalars as JSON, refusing what would come back as something else.

    Tuples are let through: they come back as lists.

    Raises:
        EncodeError: it contains such a thing; the message says where.
    """
    try:
        data = orjson.dumps(value, option=_AS_THEY_ARE)
    except TypeError:
        refuse_foreign(value)  # says what it was, and where
        data = dumps(value)  # it was an integer beyond 64 bits: exact both ways
    if LETTER_U in data and data.find(b"null") >= 0:
        refuse_nonfinite(value)
    return data


def refuse_foreign(value: Any, at: str = "$") -> None:
    """Raise EncodeError at the first thing inside `value` that JSON would not give back as it is."""
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise EncodeError(
                    f"found a key of type {type(key).__qualname__} at {at}: without a type, keys are text;"
                    f" say so (dict[{type(key).__qualname__}, …]) or use text"
                )
            refuse_foreign(item, f"{at}.{key}")
    elif kind is list or kind is tuple:
        for i, item in enumerate(value):
            refuse_foreign(item, f"{at}[{i}]")
    elif not (value is None or kind in (str, int, float, bool)):
        raise EncodeError(
            f"found {kind.__qualname__} at {at}: without a type it would not come back as one;"
            " use a dataclass whose field has that type"
        )


def refuse_nonfinite(value: Any) -> None:
    """Raise EncodeError if `value` contains NaN or an infinity: JSON has none, it would come back as null.

    Called only where the JSON contains a null at all, so that it costs nothing otherwise.
    """
    plain = msgspec.to_builtins(
        value, enc_hook=to_plain, builtin_types=(bytes, datetime.datetime), str_keys=False
    )
    todo: list[tuple[str, Any]] = [("$", plain)]
    while todo:
        at, item = todo.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise EncodeError(f"found {item} at {at}: JSON has no such number; use None, or text")
        if isinstance(item, dict):
            todo += [(f"{at}.{key}", part) for key, part in item.items()]
        elif isinstance(item, list | tuple | set | frozenset):
            todo += [(f"{at}[{i}]", part) for i, part in enumerate(item)]


def _kind(value: Any) -> str:
    return "a dataclass" if dataclasses.is_dataclass(value) else type(value).__qualname__

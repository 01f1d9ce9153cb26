"""A hash of definitions that is the same in every process that runs the same code.

Classes and functions count by what they are, not by where they were loaded from: a module run as a script
and the same module imported give the same hash. A function counts with its code, defaults and closure, not
with the globals it uses; a class with the names and types of its fields. Another minor version of Python
compiles differently, and so gives another hash.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final, get_args, get_origin


def fingerprint(value: Any) -> str:
    """The hash, in hexadecimal, of data that may hold types and functions."""
    return hashlib.sha256(_text(value, ()).encode("utf-8", "surrogatepass")).hexdigest()


def _text(value: Any, within: tuple[int, ...]) -> str:
    """An unambiguous text of `value`, without addresses and without the order of sets."""
    if isinstance(value, Enum):
        return f"enum:{type(value).__qualname__}.{value.name}"
    if value is None or isinstance(value, str | bytes | int | float | complex):
        return f"{type(value).__name__}:{value!r}"
    if id(value) in within:  # a type whose fields speak of itself
        return f"again:{within.index(id(value))}"
    within = (*within, id(value))
    if isinstance(value, tuple | list):
        return f"[{','.join(_text(v, within) for v in value)}]"
    if isinstance(value, set | frozenset):
        return f"{{{','.join(sorted(_text(v, within) for v in value))}}}"
    if isinstance(value, Mapping):
        items = sorted(f"{_text(k, within)}={_text(v, within)}" for k, v in value.items())
        return f"{{{','.join(items)}}}"
    if get_origin(value) is not None:
        return f"generic:{_text([get_origin(value), *get_args(value)], within)}"
    kind, about = _object(value)
    return f"{kind}:{_text(about, within)}"


def _object(value: Any) -> tuple[str, list[Any]]:
    """What an object is, and what of it counts."""
    if isinstance(value, type):
        return "class", _class(value)
    if isinstance(value, types.FunctionType):
        closure = [_content(cell) for cell in value.__closure__ or ()]
        return "function", [
            value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, closure
        ]  # fmt: skip
    if isinstance(value, types.CodeType):
        return "code", [value.co_name, value.co_code, value.co_names, value.co_varnames, value.co_consts]
    if isinstance(value, types.MethodType):
        return "method", [value.__func__, type(value.__self__)]
    if isinstance(value, functools.partial):
        return "partial", [value.func, value.args, value.keywords]
    name = next((n for a in _NAMES if isinstance(n := getattr(value, a, None), str)), "")
    settings = {f.name: getattr(value, f.name, None) for f in fields(value)} if is_dataclass(value) else {}
    return "object", [type(value).__qualname__, name, settings]


_NAMES: Final = ("__qualname__", "__name__", "__forward_arg__")
_BY_NAME: Final = sys.stdlib_module_names | {"msgspec", "pydantic"}


def _class(value: type) -> list[Any]:
    if value.__module__.partition(".")[0] in _BY_NAME - {"__main__"}:
        return [value.__qualname__]
    if issubclass(value, Enum):
        return [value.__qualname__, {member.name: member.value for member in value}]
    return [value.__qualname__, inspect.get_annotations(value), value.__bases__]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return ...

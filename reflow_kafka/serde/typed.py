"""Codecs: how the values of an edge, or of a state, become bytes and come back, by their type.

`edge_codec` serves topics, `state_codec` changelogs and stores. They differ where the purposes do: an
edge of `str` or `bytes` is raw, so that any text can enter and leave a flow, and an untyped edge takes
whatever JSON can express; a state must come back exactly as it was, so what would not is refused at once.

None never reaches a codec: it is the tombstone, a record without value. Nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, get_origin, runtime_checkable

import msgspec
import orjson
from msgspec import inspect

from reflow_kafka.serde.json import (
    LETTER_U,
    DecodeError,
    EncodeError,
    UnsupportedType,
    dumps,
    dumps_exactly,
    encode_any,
    from_plain,
    loads,
    own_size,
    rebuilds,
    refuse_nonfinite,
)
from reflow_kafka.serde.types import (
    believed,
    holds_floats,
    json_like,
    parts,
    suits_orjson,
    type_name,
    untyped,
    without_none,
)


@dataclass(frozen=True, slots=True)
class Codec:
    """Plain functions, so that a hot loop can hold them in local variables. All raise ValueError."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    read: Callable[[bytes], Any] | None = None
    """`decode` without the words about what was expected, where that saves a call (0.07 µs)."""

    def told(self, data: bytes) -> Any:
        """The value, to tell what was lost: what cannot be read is told as text."""
        try:
            return self.decode(data)
        except Exception:  # types of users may raise anything
            return data.decode("utf-8", "replace")

    def for_keeping(self) -> Codec:
        """The same for values that wait in memory as bytes: these are as small as they can be."""
        encode = self.encode
        return replace(self, encode=lambda value: own_size(encode(value)))


@runtime_checkable
class Format(Protocol):
    """A way of writing values: give one as ``format=`` of a source or sink."""

    def codec(self, type: Any) -> Codec:
        """The codec for values of this type (`typing.Any`: nobody named one)."""


def edge_codec(type: Any, format: Any = "json") -> Codec:
    """The codec of an edge whose values have this type.

    `format`: ``"json"`` (where `str` and `bytes` are raw), ``"str"``, ``"bytes"``, or a `Format`.

    Encoding checks that the value fits: an instance of the class itself is believed, anything else must
    decode as `type`, so that a dict may stand for a dataclass.

    Raises:
        UnsupportedType: no such value can be written and read back.
    """
    return _cached(_edge_codec, without_none(type), format)


def state_codec(type: Any) -> Codec:
    """The codec of a state of this type: always JSON, and what would not come back as it was is refused.

    Raises:
        UnsupportedType: no such value can be written and read back.
    """
    return _cached(_state_codec, type)


# ---- making them


def _cached(make: Callable[..., Codec], *arguments: Any) -> Codec:
    try:
        return _memo(make, *arguments)
    except TypeError as error:  # an unhashable format or annotation
        if "unhashable" not in str(error):
            raise
        return make(*arguments)


@lru_cache(maxsize=1024)
def _memo(make: Callable[..., Codec], *arguments: Any) -> Codec:
    return make(*arguments)


def _edge_codec(type: Any, format: Any) -> Codec:
    if isinstance(format, str):
        if (format == "json" and type is str) or format == "str":
            return Codec(_encode_text, _decode_text)
        if (format == "json" and type is bytes) or format == "bytes":
            return Codec(_encode_bytes, bytes)
        if format != "json":
            raise UnsupportedType(f'found format {format!r}, wanted "json", "str", "bytes" or a Format')
        if untyped(type):
            return Codec(dumps, loads)
        return _json_edge(type) if json_like(type) else _typed(type, exempt=believed(type))
    if isinstance(format, Format):
        return format.codec(type)
    raise UnsupportedType(f"found {format!r} as format, wanted an object with a method codec(type) -> Codec")


def _state_codec(type: Any) -> Codec:
    if untyped(type):
        return Codec(dumps_exactly, loads)
    if json_like(type):
        decode, read = _decoder(type)
        fits = _container(type)

        def encode(value: Any) -> bytes:
            data = dumps_exactly(value)
            if value.__class__ is not fits:  # what is inside has just been found to be plain
                _must_decode(decode, data, value)
            return data

        return Codec(encode, decode, read)
    # A field of the wrong type would be found out only after a restart, when it is too late: whatever has
    # fields is read back each time (0.5 µs).
    return _typed(type, exempt=frozenset(t for t in _WHOLE if t is type))


_WHOLE = frozenset((int, str, bool))
"""Types whose values are right or wrong as a whole."""


def _json_edge(wanted: Any) -> Codec:
    """The commonest edges, those of handlers annotated `dict`: no more is done than must be."""
    decode, read = _decoder(wanted)
    fits = _container(wanted)

    def encode(value: Any) -> bytes:
        if type(value) is fits:
            try:
                return orjson.dumps(value)
            except TypeError:
                return dumps(value)
        data = dumps(value)
        _must_decode(decode, data, value)
        return data

    return Codec(encode, decode, read)


def _container(wanted: Any) -> type:
    return dict if issubclass(get_origin(wanted) or wanted, Mapping) else list


def _must_decode(decode: Callable[[bytes], Any], data: bytes, value: Any) -> None:
    try:
        decode(data)
    except DecodeError as error:
        raise EncodeError(f"found {type(value).__qualname__} where {error}") from error


def _typed(wanted: Any, exempt: frozenset[type]) -> Codec:
    decode, read = _decoder(wanted)
    is_model = hasattr(wanted, "model_validate_json")
    write = _model_writer(wanted) if is_model else dumps if suits_orjson(wanted) else encode_any
    look_for_nan = is_model or holds_floats(wanted)
    name = type_name(wanted)

    def encode(value: Any) -> bytes:
        try:
            data = write(value)
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(f"found {type(value).__qualname__}, wanted {name}: {error}") from error
        if look_for_nan and LETTER_U in data and data.find(b"null") >= 0:
            refuse_nonfinite(value)
        if type(value) not in exempt:
            _must_decode(decode, data, value)
        return data

    return Codec(encode, decode, read)


def _model_writer(model: Any) -> Callable[[Any], bytes]:
    def write(value: Any) -> bytes:
        if isinstance(value, model):
            return value.model_dump_json(by_alias=True).encode()  # type: ignore[no-any-return]
        return dumps(value)

    return write


def _decoder(wanted: Any) -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    """`decode` and `read` of a codec."""
    name = type_name(wanted)
    if hasattr(wanted, "model_validate_json"):  # a pydantic model
        read: Callable[[bytes], Any] = wanted.model_validate_json
    else:
        try:
            for part in parts(wanted):
                if isinstance(part, inspect.CustomType) and not rebuilds(part.cls):
                    raise TypeError(
                        f"{type_name(part.cls)} is no dataclass, Struct, model or known container"
                    )
            read = msgspec.json.Decoder(wanted, dec_hook=from_plain).decode
        except Exception as error:  # whatever an annotation can get wrong, a NameError included
            raise UnsupportedType(f"{name} cannot be written as JSON and read back: {error}") from error

    def decode(data: bytes) -> Any:
        try:
            return read(data)
        except ValueError as error:
            raise DecodeError(f"{name} was expected: {error}") from error

    return decode, read


# ---- raw text and bytes


def _encode_text(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise EncodeError(f"found text that is not Unicode: {error}") from error
    raise EncodeError(f"found {type(value).__qualname__}, wanted str: the edge carries raw text")


def _decode_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"text in UTF-8 was expected: {error}") from error


def _encode_bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise EncodeError(f"found {type(value).__qualname__}, wanted bytes: the edge carries raw bytes")

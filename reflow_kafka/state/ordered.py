"""Keys made of several parts, whose bytes sort as the parts do (pure).

A number sorts before a larger one, and a text of any bytes before those that it is the beginning of: so all
keys that begin with the same parts lie together, and nothing else lies between them.
"""

from __future__ import annotations

import struct
from typing import Final

_SIGN: Final = 1 << 63
_NUMBER: Final = struct.Struct(">Q")


def number(value: int) -> bytes:
    """Eight bytes for a number from -2**63 to 2**63 - 1."""
    return _NUMBER.pack(value + _SIGN)


def read_number(data: bytes, at: int = 0) -> int:
    """The number that stands at a place."""
    found: int = _NUMBER.unpack_from(data, at)[0]
    return found - _SIGN


def text(value: bytes) -> bytes:
    """Bytes of any kind and length, to be followed by other parts."""
    return value.replace(b"\x00", b"\x00\xff") + b"\x00\x00"


def read_text(data: bytes, at: int = 0) -> tuple[bytes, int]:
    """The bytes that stand at a place, and where the next part begins.

    Raises:
        ValueError: they do not end.
    """
    end = data.find(b"\x00", at)
    while end >= 0 and data[end + 1 : end + 2] == b"\xff":
        end = data.find(b"\x00", end + 2)
    if end < 0 or data[end + 1 : end + 2] != b"\x00":
        raise ValueError(f"found {data[at:]!r:.100}, wanted bytes with an end")
    return data[at:end].replace(b"\x00\xff", b"\x00"), end + 2


def after(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix`; empty if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b""

"""What stages tell each other that join a table with another one that its rows refer to."""

from __future__ import annotations

import msgspec

from reflow_kafka.units import LONG_AGO


class Reference(msgspec.Struct, array_like=True):
    """What a left row tells the lane of the key that it refers to."""

    left: bytes
    """Its key."""
    change: int
    """The number of the change that says so."""
    row: bytes | None
    """What it is now; None: it is gone, or refers to another."""
    stays: bool = False
    """It refers to this key from now on."""
    answered: bool = True
    """Whether an answer is wanted: not if another lane gives it."""
    until: int = LONG_AGO
    """Of a row that is gone: once the watermark has passed this, nothing older of it is on its way."""


class Answer(msgspec.Struct, array_like=True):
    """What there is of a left row and the right row it refers to."""

    change: int
    left: bytes | None
    right: bytes | None
    until: int = LONG_AGO

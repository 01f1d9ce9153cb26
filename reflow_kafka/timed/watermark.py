"""How far time has come: watermarks, as lanes tell them to each other (pure)."""

from __future__ import annotations

import msgspec

from reflow_kafka.units import LONG_AGO


class LaneTime(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one stage of one lane tells about its time."""

    watermark: int = LONG_AGO
    """It emits nothing older any more."""
    clock: int = LONG_AGO
    """Its own watermark: what it emits may be held up."""
    idle: int = 0
    """Milliseconds since when there has been no traffic, once that is long; it does not count then."""
    ended: bool = False
    """It has no events any more in this run."""

"""Durations and instants: a number is seconds, or epoch milliseconds, everywhere."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

Duration = float | timedelta
"""Seconds, or a timedelta."""
Instant = int | datetime
"""Epoch milliseconds, or a datetime (a naive one is taken as UTC)."""
Clock = Literal["event-time", "wall-clock"]
"""Which clock: that of the events, as the watermark tells it, or that on the wall."""
NEVER: Final = 2**63 - 1
"""The time of what does not come, and the end of time: no event is later."""
LONG_AGO: Final = -(2**63)
"""The watermark before anything is known."""
FARTHEST: Final = 2**62 - 1
"""The latest time of an event: what is counted from it has to fit into a record. -FARTHEST: the earliest."""


def seconds(duration: Duration) -> float:
    """The duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def as_seconds(given: object) -> float:
    """The seconds that somebody means who gives a duration; NaN if it is none, or has no end."""
    if isinstance(given, bool | str):
        return math.nan
    try:
        time = seconds(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return time if math.isfinite(time) else math.nan


def epoch_ms(instant: Instant) -> int:
    """The instant in epoch milliseconds.

    Raises:
        ValueError: it lies farther away than `FARTHEST`.
    """
    if isinstance(instant, datetime):
        aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    if not -FARTHEST <= (found := int(instant)) <= FARTHEST:
        raise ValueError(
            f"found a time of {found.bit_length()} bits, wanted epoch milliseconds of 62 at most"
        )
    return found


def moment(at: int) -> str:
    """Epoch milliseconds as people read them: in ISO 8601, in UTC."""
    try:
        told = datetime.fromtimestamp(at / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at} ms"
    return told.isoformat(timespec="milliseconds" if at % 1000 else "seconds").replace("+00:00", "Z")


def since_1970(number: float) -> int:
    """The epoch milliseconds that somebody means who writes a number into his data.

    They are meant, unless the number lies where only seconds make sense: from 100 million (in March 1973; as
    milliseconds the 2nd of January 1970) to 100 billion (the year 5138), and likewise before 1970.

    Raises:
        ValueError: it lies farther away than `FARTHEST`.
    """
    return round(number * 1000) if 100_000_000 <= abs(number) < 100_000_000_000 else epoch_ms(int(number))

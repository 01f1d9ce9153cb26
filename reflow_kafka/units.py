"""Durations and instants: a number is seconds, or epoch milliseconds, everywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

Duration = float | timedelta
"""Seconds, or a timedelta."""
Instant = int | datetime
"""Epoch milliseconds, or a datetime (a naive one is taken as UTC)."""


def seconds(duration: Duration) -> float:
    """The duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def epoch_ms(instant: Instant) -> int:
    """The instant in epoch milliseconds."""
    if isinstance(instant, datetime):
        aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    return int(instant)

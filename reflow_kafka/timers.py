"""Timers: how one is asked for, and what ``on_timer=`` gets when it fires."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from reflow_kafka.errors import UsageError
from reflow_kafka.stores import Store
from reflow_kafka.units import Clock, as_seconds, epoch_ms

_CLOCKS: Final = ("event-time", "wall-clock")
_LONGEST: Final = 2**53
"""Milliseconds, some 285,000 years: what a float still tells exactly."""


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that fires: its name, the time it was set for (epoch ms), and the clock it goes by."""

    name: str
    at: int
    clock: Clock


class TimeBook(Protocol):
    """Keeps the timers and stores of a stage; `Context` asks it for the key of the event that is handled."""

    def timer(self, name: str, clock: Clock, at: int | None, delay: int) -> None:
        """Set a timer for a time, or (None) so many ms after the event's own time, or the present one."""

    def cancel_timer(self, name: str) -> None:
        """Forget a timer."""

    def store(self, name: str) -> Store[Any]:
        """A named store."""


def time_of(name: object, clock: object, at: object, delay: object) -> tuple[int | None, int]:
    """When a timer is to fire: a time in epoch ms, or (None) a delay in ms.

    Raises:
        UsageError: it makes no sense.
    """
    asked = f"ctx.timer({name!r:.100}, ...)"
    if not isinstance(name, str) or not name:
        raise UsageError(f"{asked}: a timer's name is text, such as 'reminder'")
    if clock not in _CLOCKS:
        raise UsageError(f'{asked}: clock={clock!r:.100} is neither "event-time" nor "wall-clock"')
    if (at is None) == (delay is None):
        raise UsageError(
            f"{asked}: say either at= (epoch ms or a datetime) or delay= (seconds), not both or none"
        )
    if at is not None:
        if not isinstance(at, int | datetime) or isinstance(at, bool):
            raise UsageError(f"{asked}: at={at!r:.100} is neither epoch milliseconds nor a datetime")
        return epoch_ms(at), 0
    after = as_seconds(delay)
    if not 0 <= after * 1000 <= _LONGEST:
        raise UsageError(f"{asked}: delay={delay!r:.100} is no time in seconds or a timedelta, not negative")
    return None, round(after * 1000)

"""What time it is, for everything that waits or dates something: one clock, which tests can replace.

`monotonic` is the time in which is waited: on it run the timers of the event loop. `now` is the time of day,
with which events are dated. What only measures how long work takes uses `time.perf_counter`: that is no
question of the clock.

The clock belongs to the context (`contextvars`) in which code runs, so to the tasks that an engine starts.
"""

from __future__ import annotations

import time
from contextvars import ContextVar


class Clock:
    """The clocks of the machine."""

    runs = True
    """Whether it goes on by itself. One that does not cannot tell that somebody takes too long."""

    def monotonic(self) -> float:
        """Seconds, on the event loop's clock."""
        return time.monotonic()

    def now(self) -> int:
        """The time of day in epoch milliseconds."""
        return int(time.time() * 1000)


_current: ContextVar[Clock] = ContextVar("reflow_kafka.clock", default=Clock())  # noqa: B039 - it has no state


def current() -> Clock:
    """The clock that holds here."""
    return _current.get()


def monotonic() -> float:
    """Seconds, on the event loop's clock."""
    return _current.get().monotonic()


def now() -> int:
    """The time of day in epoch milliseconds."""
    return _current.get().now()


def use(clock: Clock) -> None:
    """Have another clock hold from now on, here and in the tasks that are started here."""
    _current.set(clock)

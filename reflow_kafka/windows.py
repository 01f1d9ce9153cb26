"""Windows: which stretches of time the events of a key are taken together in, ``flow.stage(…, window=)``.

Durations are given in seconds or as a timedelta and kept in whole milliseconds, as timestamps are. `grace`
says for how long after its end a window still takes events that come late. What makes no sense is a
`DefinitionError` that names the line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from reflow_kafka.definition.handlers import plain_callable
from reflow_kafka.definition.place import Place, callers_place
from reflow_kafka.options import assign, is_count, refuse
from reflow_kafka.units import Duration, as_seconds

Span = tuple[int, int]
"""Start and end of a window, epoch ms."""

_LONGEST: Final = 2**53
"""Milliseconds: 285,000 years."""
_TIME: Final = "a time in seconds or a timedelta"


@dataclass(frozen=True, slots=True)
class Window:
    """The window that `on_close` is called for."""

    start: int
    """Epoch ms. The first moment of a tumbling, hopping or sliding window; else the oldest event's time."""
    end: int
    """Epoch ms. Of a tumbling or hopping window the first moment behind it; of a sliding one its last moment;
    else the newest event's time."""
    key: str


@dataclass(frozen=True, slots=True, init=False)
class Tumbling:
    """Windows of one size, side by side: each event is in one. They begin at multiples of `size` since 1970
    (UTC), and hold what is at or after their start and before their end.

    Raises:
        DefinitionError: a size of less than a millisecond, a negative grace.
    """

    size: int
    """Milliseconds."""
    grace: int
    """Milliseconds."""

    def __init__(self, size: Duration, *, grace: Duration = 0) -> None:
        place = callers_place()
        assign(self, size=_length(place, "Tumbling", "size", size), grace=_grace(place, "Tumbling", grace))

    def windows_of(self, timestamp: int) -> tuple[Span, ...]:
        """The windows of an event, the oldest first."""
        start = timestamp - timestamp % self.size
        return ((start, start + self.size),)


@dataclass(frozen=True, slots=True, init=False)
class Hopping:
    """Windows of one size, of which one begins `every` so often: they overlap, and an event is in several.

    They begin at multiples of `every` since 1970 (UTC), and hold what is at or after their start and before
    their end.

    Raises:
        DefinitionError: a time of less than a millisecond, a negative grace, windows with gaps between them.
    """

    size: int
    """Milliseconds."""
    every: int
    """Milliseconds."""
    grace: int
    """Milliseconds."""

    def __init__(self, size: Duration, every: Duration, *, grace: Duration = 0) -> None:
        place = callers_place()
        length = _length(place, "Hopping", "size", size)
        step = _length(place, "Hopping", "every", every)
        if step > length:
            refuse(place, "Hopping", "every", every, f"no longer than size={size!r}: no event is left out")
        assign(self, size=length, every=step, grace=_grace(place, "Hopping", grace))

    def windows_of(self, timestamp: int) -> tuple[Span, ...]:
        """The windows of an event, the oldest first."""
        last = timestamp - timestamp % self.every
        first = last - (self.size - 1 - timestamp % self.every) // self.every * self.every
        return tuple((start, start + self.size) for start in range(first, last + 1, self.every))


@dataclass(frozen=True, slots=True, init=False)
class Sliding:
    """Windows that move with the events: of each event at time t there is the window from t - `size` to t,
    and the one from t + 1 to t + 1 + `size` if it holds an event. Both ends belong to them.

    So there is a window for each different set of events at most `size` apart, as in Kafka Streams.

    Raises:
        DefinitionError: a size of less than a millisecond, a negative grace.
    """

    size: int
    """Milliseconds between the first and the last event that a window may hold."""
    grace: int
    """Milliseconds."""

    def __init__(self, size: Duration, *, grace: Duration = 0) -> None:
        place = callers_place()
        assign(self, size=_length(place, "Sliding", "size", size), grace=_grace(place, "Sliding", grace))

    def windows_of(self, timestamp: int) -> tuple[Span, ...]:
        """The windows that there are because of an event: that which ends with it, and that behind it."""
        return (timestamp - self.size, timestamp), (timestamp + 1, timestamp + 1 + self.size)


@dataclass(frozen=True, slots=True, init=False)
class Session:
    """Windows as long as events of a key follow each other at most `gap` apart.

    An event may join two sessions: `merge` then makes one state of theirs. It is called with the states (of
    a ``State[T]``: with the values) of the older and of the younger session, and returns the merged one, or
    None if it has changed the first in place.

    Raises:
        DefinitionError: a gap of less than a millisecond, a negative grace, no plain function to merge with.
    """

    gap: int
    """Milliseconds."""
    grace: int
    """Milliseconds."""
    merge: Callable[[Any, Any], Any] | None

    def __init__(
        self, gap: Duration, *, grace: Duration = 0, merge: Callable[[Any, Any], Any] | None = None
    ) -> None:
        place = callers_place()
        if merge is not None and (reason := plain_callable(merge, 2)):
            place.fail(
                f"Session(merge=) {reason}: merge is a plain function of two states that returns the merged "
                "one, or None if it has changed the first in place"
            )
        assign(
            self,
            gap=_length(place, "Session", "gap", gap),
            grace=_grace(place, "Session", grace),
            merge=merge,
        )

    def windows_of(self, timestamp: int) -> tuple[Span, ...]:
        """The window of an event that joins no other."""
        return ((timestamp, timestamp),)


@dataclass(frozen=True, slots=True, init=False)
class Count:
    """Windows of so many events of a key, in the order in which they come, whatever their time.

    Raises:
        DefinitionError: a size that is no whole number from 1 on.
    """

    size: int
    """Events."""

    def __init__(self, size: int) -> None:
        place = callers_place()
        if not is_count(size):
            refuse(place, "Count", "size", size, "how many events: a whole number from 1 on")
        assign(self, size=size)


WindowSpec = Tumbling | Hopping | Sliding | Session | Count
"""What ``window=`` takes."""


def _length(place: Place, kind: str, option: str, given: Duration) -> int:
    time = as_seconds(given)
    if not 0.001 <= time <= _LONGEST / 1000:
        refuse(place, kind, option, given, f"{_TIME}, of one millisecond or more")
    return round(time * 1000)


def _grace(place: Place, kind: str, given: Duration) -> int:
    time = as_seconds(given)
    if not 0 <= time <= _LONGEST / 1000:
        refuse(place, kind, "grace", given, f"{_TIME}, not negative")
    return round(time * 1000)

"""Options of stages: how an event that failed is tried again, how events are batched, how many per second.

Durations are given in seconds or as a timedelta and kept in seconds. What makes no sense is a
`DefinitionError` that names the line.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from reflow_kafka.definition.place import Place, callers_place
from reflow_kafka.errors import Reject, RetryLater
from reflow_kafka.units import Duration, as_seconds


def refuse(place: Place, option_of: str, option: str, found: object, wanted: str) -> NoReturn:
    """Raise the `DefinitionError` of an option that makes no sense."""
    place.fail(f"{option_of}({option}={found!r}): {option} is {wanted}")


def _duration(place: Place, option_of: str, option: str, given: Any) -> float:
    time = as_seconds(given)
    if not time >= 0:
        refuse(place, option_of, option, given, "a time in seconds or a timedelta, not negative")
    return time


def is_count(value: object) -> bool:
    """Whether it is a whole number from 1 on."""
    return type(value) is int and value >= 1


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def assign(option: object, **values: object) -> None:
    """Set fields of a frozen option while it is made."""
    for name, value in values.items():
        object.__setattr__(option, name, value)


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """When an event whose handler raised is tried again; while it waits, only its key waits.

    `attempts` counts all tries, the first one too (None: for ever). Between them it waits `backoff`, then
    each time `factor` times as long, up to `max_backoff`; each wait is shortened at random by up to the
    share `jitter` of it, so that many events do not come back at the same moment. Exceptions that are not
    `on` fail at once, as does `Reject`; `RetryLater` says itself when to come back, and is no failure: it
    uses none of the attempts.

    Raises:
        DefinitionError: fewer than one attempt, a negative wait, a factor below 1, …
    """

    attempts: int | None
    backoff: float
    """Seconds before the second try."""
    factor: float
    max_backoff: float
    """Seconds that no wait exceeds."""
    jitter: float
    """Between 0 and 1."""
    on: tuple[type[Exception], ...]

    def __init__(
        self,
        attempts: int | None = 3,
        *,
        backoff: Duration = 0.1,
        factor: float = 2,
        max_backoff: Duration = 30,
        jitter: float = 0.2,
        on: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> None:
        place = callers_place()
        if attempts is not None and not is_count(attempts):
            refuse(
                place,
                "Retry",
                "attempts",
                attempts,
                "how often in all: a whole number from 1 on, or None",
            )
        first = _duration(place, "Retry", "backoff", backoff)
        longest = _duration(place, "Retry", "max_backoff", max_backoff)
        if longest < first:
            refuse(place, "Retry", "max_backoff", max_backoff, f"no shorter than backoff={backoff!r}")
        if not _is_number(factor) or factor < 1:
            refuse(place, "Retry", "factor", factor, "by what each wait grows: a number from 1 on")
        if not _is_number(jitter) or not 0 <= jitter <= 1:
            refuse(place, "Retry", "jitter", jitter, "the share of each wait that is random: from 0 to 1")
        kinds: tuple[Any, ...] = on if isinstance(on, tuple) else (on,)
        if not kinds or not all(inspect.isclass(kind) and issubclass(kind, Exception) for kind in kinds):
            refuse(place, "Retry", "on", on, "a class of exceptions, such as OSError, or a tuple of them")
        assign(self, attempts=attempts, backoff=first, factor=float(factor), max_backoff=longest,
             jitter=float(jitter), on=kinds)  # fmt: skip

    def again(self, error: BaseException, tries: int) -> bool:
        """Whether another try follows the failure of the try number `tries` (1: the first).

        Never after `Reject`, always after `RetryLater`.
        """
        if isinstance(error, RetryLater):
            return True
        if isinstance(error, Reject) or not isinstance(error, self.on):
            return False
        return self.attempts is None or tries < self.attempts

    def delay(self, tries: int, random: float) -> float:
        """Seconds to wait after `tries` failed tries; `random` is a number from 0 to (without) 1."""
        try:
            full = min(self.backoff * self.factor ** (tries - 1), self.max_backoff)
        except OverflowError:  # after a thousand tries
            full = self.max_backoff if self.backoff else 0.0
        return full * (1 - self.jitter * random)


FOREVER: Final = Retry(attempts=None)
"""What sinks with a connector do unless told otherwise: an outage is not a bad event."""


@dataclass(frozen=True, slots=True, init=False)
class Batch:
    """A handler takes a list of events: whichever limit is reached first gives it what has come by then.

    With `per_key` all events of one list have the same key.

    Raises:
        DefinitionError: a limit below 1, a negative wait.
    """

    max_events: int
    max_bytes: int
    """Of the events' values, as they stand in the log; an event larger than this comes alone."""
    within: float
    """Seconds that the first event of a list waits for others at most."""
    per_key: bool

    def __init__(
        self,
        max_events: int = 500,
        *,
        max_bytes: int = 1_048_576,
        within: Duration = 1.0,
        per_key: bool = False,
    ) -> None:
        place = callers_place()
        for option, limit in (("max_events", max_events), ("max_bytes", max_bytes)):
            if not is_count(limit):
                refuse(place, "Batch", option, limit, "a whole number from 1 on")
        longest = _duration(place, "Batch", "within", within)
        if not isinstance(per_key, bool):
            refuse(place, "Batch", "per_key", per_key, "True or False")
        assign(self, max_events=max_events, max_bytes=max_bytes, within=longest, per_key=per_key)


@dataclass(frozen=True, slots=True, init=False)
class Rate:
    """So many events per so much time, in all lanes of a stage together: ``Rate(100)`` is 100 a second.

    Raises:
        DefinitionError: less than one event, no time.
    """

    events: int
    per: float
    """Seconds."""

    def __init__(self, events: int, per: Duration = 1.0) -> None:
        place = callers_place()
        if not is_count(events):
            refuse(place, "Rate", "events", events, "a whole number from 1 on; less is Rate(1, per=5)")
        time = _duration(place, "Rate", "per", per)
        if time == 0:
            refuse(place, "Rate", "per", per, "longer than nothing")
        assign(self, events=events, per=time)

"""When a source of `every=` or `cron=` fires. Pure: given the last firing and the time, what is due.

All instants are epoch milliseconds. Firings are points of the time line that depend on nothing but the
schedule: those of `every=` are the multiples of the period since 1970 (UTC), those of `cron=` are what
cronsim says, which follows Debian's cron when clocks are changed: a job at a time that does not exist
fires when the clock has jumped, one at a time that comes twice fires the first time, and what fires by
every hour or minute just goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import islice, takewhile
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from reflow_kafka.definition.place import Place
from reflow_kafka.units import as_seconds

Missed = Literal["skip", "last", "all"]
POLICIES: Final = ("skip", "last", "all")
MISSED: Final = 60_000
"""Milliseconds after which a firing that has not happened counts as missed for ``missed="skip"``: a short
restart, or another engine that takes over, must not cost one."""
CENTURY: Final = 3_155_760_000
"""Seconds."""
_SPAN: Final = 60_000
_START: Final = 1_704_067_200_000
"""An instant (2024) after which a cron expression must match, else it never will."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A period, or a cron expression in a time zone; and what becomes of firings that were missed."""

    period: int = 0
    """Milliseconds; 0 if `cron` says it."""
    cron: str = ""
    timezone: str = "UTC"
    missed: Missed = "last"

    def after(self, instant: int) -> Iterator[int]:
        """All firings after an instant, in order."""
        if self.period:
            first = instant // self.period * self.period + self.period
            while True:
                yield first
                first += self.period
        zone = self.zone()
        for local in CronSim(self.cron, datetime.fromtimestamp(instant // 1000, zone)):
            at = int(local.timestamp()) * 1000
            if at > instant:  # in an hour that comes twice, it begins with the first of them
                instant = at
                yield at

    def latest(self, after: int, now: int) -> int | None:
        """The latest firing after one instant and up to another; looked for from its end."""
        span = _SPAN
        while now > after:
            start = max(after, now - span)
            found = deque(takewhile(now.__ge__, self.after(start)), maxlen=1)
            if found or start == after:
                return found[0] if found else None
            span *= 30
        return None

    def due(self, last: int, now: int, limit: int) -> tuple[list[int], int]:
        """What is to fire now, `limit` at most, if all up to `last` is done; and up to where it then is.

        Of several that are due, all fire or the latest, as `missed` says; ``"skip"`` means that this one does
        not fire, either, if its time has long passed.
        """
        if self.missed == "all":
            firings = list(islice(takewhile(now.__ge__, self.after(last)), limit))
            return firings, firings[-1] if firings else last
        latest = self.latest(last, now)
        if latest is None:
            return [], last
        return [latest] if self.missed == "last" or now - latest < MISSED else [], latest

    def text(self, instant: int) -> str:
        """The instant as ISO text, in the schedule's zone."""
        zone = self.zone()
        at = datetime.fromtimestamp(instant // 1000, zone).replace(microsecond=instant % 1000 * 1000)
        return at.isoformat(timespec="milliseconds" if instant % 1000 else "seconds")

    def zone(self) -> tzinfo:
        """The time zone; UTC is the one that cronsim need not convert."""
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    def __str__(self) -> str:
        if self.period:
            return f"every {self.period / 1000:g} s"
        return f"cron {self.cron} {self.timezone}"


def read_schedule(every: Any, cron: Any, timezone: Any, missed: Any, name: str, place: Place) -> Schedule:
    """The schedule that these arguments of a source say; one of `every` and `cron` is given.

    Raises:
        DefinitionError: one of them is not what it must be.
    """
    policy: Missed = "last" if missed is None else place.choose("missed", missed, POLICIES, stage=name)
    if every is not None:
        if timezone is not None:
            place.fail(
                "timezone= says how cron= reads the clock; the periods of every= are counted from "
                "1970-01-01 00:00 UTC: take it out, or write cron=",
                stage=name,
            )
        return Schedule(period=_period(every, name, place), missed=policy)
    zone = _zone("UTC" if timezone is None else timezone, name, place)
    return Schedule(cron=_cron(cron, name, place), timezone=zone, missed=policy)


def _period(every: Any, name: str, place: Place) -> int:
    seconds = as_seconds(every)
    if not 0.001 <= seconds <= CENTURY:
        message = "every= is a time in seconds or a timedelta, from a millisecond to a hundred years, not "
        place.fail(f"{message}{every!r}", stage=name)
    return round(seconds * 1000)


def _zone(timezone: Any, name: str, place: Place) -> str:
    such_as = 'such as "Europe/Berlin"'
    if not isinstance(timezone, str):
        place.fail(f"timezone= is the name of a time zone, {such_as}, not {timezone!r}", stage=name)
    if timezone != "UTC":
        try:
            ZoneInfo(timezone)
        except (LookupError, ValueError, OSError) as error:
            advice = f"wanted one {such_as} (a system without time zones needs the package tzdata)"
            place.fail(f"found no time zone {timezone!r}, {advice}", stage=name, cause=error)
    return timezone


def _cron(cron: Any, name: str, place: Place) -> str:
    such_as = 'such as "0 3 * * *" (minute, hour, day of month, month, day of week)'
    if not isinstance(cron, str):
        place.fail(f"cron= is a cron expression, {such_as}, not {cron!r}", stage=name)
    try:
        found = next(Schedule(cron=cron).after(_START), None)
    except (CronSimError, ValueError) as error:
        place.fail(f"cron={cron!r} is no cron expression, {such_as}: {error}", stage=name, cause=error)
    if found is None:
        place.fail(f"cron={cron!r} never fires: no day is like that", stage=name)
    return cron

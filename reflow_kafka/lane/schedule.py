"""A schedule as a source: read like any connector, its position is the last firing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from reflow_kafka import clock
from reflow_kafka.connector import ConnectorContext
from reflow_kafka.definition.schedule import Schedule
from reflow_kafka.errors import DataLoss
from reflow_kafka.event import Event

NAP: Final = 1.0
"""Seconds after which the clock is looked at again: it may have been set."""
AHEAD: Final = 60_000
"""Milliseconds that the last firing may lie ahead of the clock before a warning says so."""


class Position(msgspec.Struct):
    """Where a schedule stands."""

    last: int
    """Up to this instant, all is done: its last firing, or when it began."""
    tick: int
    """How often it has fired."""


@dataclass(frozen=True, slots=True)
class ScheduleSource:
    """A schedule, seen as a connector `Source` of one part; it never ends, and holds no end up."""

    schedule: Schedule
    now: Callable[[], int]
    endless: bool = True

    async def parts(self) -> Sequence[str]:
        """One, in lane 0: there is one firing in the whole flow."""
        return [""]

    async def open(self, part: str, position: Any | None, ctx: ConnectorContext) -> ScheduleReader:
        """Go on after the last firing; a schedule that never ran begins now, and has missed nothing."""
        now = self.now()
        try:
            stands = Position(now, 0) if position is None else msgspec.convert(position, Position)
        except msgspec.ValidationError as error:
            raise DataLoss(
                f"found {position!r} as the position of the schedule {ctx.stage!r}, wanted its last firing "
                f"({error}): give the stage another name, so that it begins anew"
            ) from error
        if stands.last > now + AHEAD:
            ctx.log.warning(
                "the last firing (%s) lies %.0f s ahead of this machine's clock: nothing fires until then",
                self.schedule.text(stands.last),
                (stands.last - now) / 1000,
            )
        return ScheduleReader(self.schedule, self.now, stands, ctx.stage)


class ScheduleReader:
    """Waits for the next firing."""

    def __init__(self, schedule: Schedule, now: Callable[[], int], stands: Position, name: str) -> None:
        self._schedule = schedule
        self._now = now
        self._last = stands.last
        self._tick = stands.tick
        self._next = next(schedule.after(stands.last), None)
        self._name = name
        self._idle = False

    async def read(self, max_events: int) -> Sequence[Event[Any]] | None:
        """What is due; waits a little if nothing was, the last time. So what was missed is known at once."""
        now = self._now()
        if self._next is None:
            return None  # the end of the calendar
        if now < self._next and self._idle:
            left = (self._next - now) / 1000
            await asyncio.sleep(min(left, NAP) if clock.current().runs else left)
            now = self._now()
        self._idle = now < self._next
        if self._idle:
            return []
        firings, self._last = self._schedule.due(self._last, now, max_events)
        self._next = next(self._schedule.after(self._last), None)
        return [self._event(at) for at in firings]

    def _event(self, at: int) -> Event[Any]:
        self._tick += 1
        value = {"scheduled": self._schedule.text(at), "tick": self._tick}
        return Event(value, key=self._name, timestamp=at)

    def position(self) -> Any:
        """The last firing."""
        return {"last": self._last, "tick": self._tick}

    async def committed(self, position: Any) -> None:
        """A clock has nobody to tell."""

    async def close(self) -> None:
        """Nothing is open."""

"""Tells of handlers that keep the loop of an engine from turning, while they do."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from reflow_kafka.observe.stack import standing

log = logging.getLogger(__name__)

AFTER: Final = 1.0
"""Seconds without a turn of the loop from which on it is told."""
AGAIN: Final = 60.0
"""Seconds after which it is told again of the same stage."""
TICK: Final = 0.25
"""Seconds between looks, and between the turns that the loop has to show."""
ADVICE: Final = 'give its stage run_in="thread" (or "process", if it computes)'
"""What to do about a handler that blocks."""

_PLACE: Final = re.compile(r"(?P<flow>[^.]+)\.(?P<stage>\w+)\[(?P<lane>\d+)\]")


@dataclass(slots=True)
class Stalls:
    """Decides what is told: each stage is reported at most once in `AGAIN` seconds (pure)."""

    _told: dict[str, float] = field(default_factory=dict)
    _untold: dict[str, tuple[int, float]] = field(default_factory=dict)

    def report(self, stage: str, now: float) -> tuple[int, float] | None:
        """Whether to tell of a stage that blocks at this moment.

        Returns:
            How often and for how many seconds it did so untold since the last time; None: not now.
        """
        if now - self._told.get(stage, float("-inf")) < AGAIN:
            return None
        self._told[stage] = now
        return self._untold.pop(stage, (0, 0.0))

    def untold(self, stage: str, seconds: float) -> None:
        """It has blocked for so long, and nobody was told."""
        times, total = self._untold.get(stage, (0, 0.0))
        self._untold[stage] = (times + 1, total + seconds)


class StallWatch:
    """A thread that sees when the loop has last turned.

    Which stage is at work it finds in the stack of the loop's thread, so no event costs anything.
    """

    def __init__(self) -> None:
        self._turns = 0
        self._stopped = threading.Event()
        self._stalls = Stalls()

    def start(self) -> None:
        """Watch the loop of this thread from now on."""
        loop, thread = asyncio.get_running_loop(), threading.get_ident()
        threading.Thread(target=self._watch, args=(loop, thread), name="stall-watch", daemon=True).start()

    def turned(self) -> None:
        """The loop turns; to be told at least every `TICK` seconds."""
        self._turns += 1

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    # ---- in the thread

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        turns, stall = self._turns, _Stall()
        at, cpu = time.monotonic(), time.process_time()
        while not self._stopped.wait(TICK) and not loop.is_closed():
            gap, used = time.monotonic() - at, time.process_time() - cpu
            at, cpu = at + gap, cpu + used
            if turns != self._turns:
                self._over(stall)
                turns, stall = self._turns, _Stall()
                continue
            # A process that was stopped, or a machine that slept, was not blocked by anybody. But code that
            # keeps the interpreter to itself, as a regular expression can, stops this thread, too.
            stall.seconds += gap if gap < 2 * TICK or used > gap / 10 else TICK
            if stall.seconds > AFTER + TICK:
                self._look(stall, thread, at)
        if turns != self._turns:
            self._over(stall)

    def _look(self, stall: _Stall, thread: int, now: float) -> None:
        """The loop is blocked: by whom?"""
        stands = standing(thread)
        if stands is None:
            return
        stall.place = stands.place
        untold = self._stalls.report(stall.stage, now)
        if untold is None:
            return
        stall.told = True
        times, total = untold
        before = f", and {times} times before, for {total:.1f} s in all" if times else ""
        log.warning(
            "%s has blocked the loop for %.1f s, at %s%s; nothing else of this engine runs meanwhile%s. "
            "This is where it stands:\n%s",
            stall.place or "what runs there", stall.seconds, stands.line, before,
            f"; {ADVICE}" if stall.place else "", stands.stack, extra=stall.extra,
        )  # fmt: skip

    def _over(self, stall: _Stall) -> None:
        if stall.told:
            who = stall.place or "what ran there"
            log.warning("%s blocked the loop for %.1f s in all", who, stall.seconds, extra=stall.extra)
        elif stall.stage:
            self._stalls.untold(stall.stage, stall.seconds)


@dataclass(slots=True)
class _Stall:
    """The time since the loop last turned."""

    seconds: float = 0.0
    place: str = ""
    told: bool = False

    @property
    def stage(self) -> str:
        """What is told of once in a while: the stage, whichever lane it is in."""
        return self.place.partition("[")[0]

    @property
    def extra(self) -> dict[str, object]:
        found = _PLACE.fullmatch(self.place)
        return {**found.groupdict(), "lane": int(found["lane"])} if found else {}

"""How far time has come: watermarks, as the lanes of a flow tell them to each other (pure).

A watermark says that no event is expected any more which is older. A stage's is the lowest of those that
the lanes before it tell, of the lanes that count: one without traffic for long does not, nor does one whose
source has ended. When nothing counts, time goes on with the wall clock, so that windows close when traffic
ends.

That a lane is idle, or has ended, is a lease: whoever says so says it again and again. So a lane that has
lost its owner counts after a while, because nobody knows what it has not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from reflow_kafka.units import LONG_AGO, NEVER


@dataclass(frozen=True, slots=True)
class Habits:
    """How lanes tell each other of time."""

    every: float = 0.1
    """Seconds between two times, at least: nothing is gained by more."""
    believed: int = 30_000
    """Milliseconds for which it is believed that a lane is idle, or has ended."""
    renewal: int = 10_000
    """Milliseconds after which that is said again."""


TIMELESS: Final = Habits(0.0, NEVER, NEVER)
"""Where time passes only when somebody says so, and nobody can take too long."""


class LaneTime(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one stage of one lane tells about its time; all in epoch ms."""

    watermark: int = LONG_AGO
    """It emits nothing older any more."""
    clock: int = LONG_AGO
    """What it expects itself: events of its own may hold up what it tells."""
    idle: int | None = None
    """If it does not count at present: how far its time has gone on with the wall clock."""
    ended: bool = False
    """Nothing follows any more in this run."""


UNKNOWN: Final = LaneTime()


def combine(sources: Iterable[LaneTime], stages: Iterable[Iterable[LaneTime]] = ()) -> LaneTime:
    """The time that follows from those of everything before a stage; `clock` is what to go by.

    The lowest watermark of all that count; if only idle ones are left, the highest time they have gone on to;
    if nothing is left at all, the end of time.

    Args:
        sources: of lanes that read sources. What is idle does not count.
        stages: of lanes that go by other lanes themselves, by stage. Those of a stage hear the same, so they
            are idle all at once. One that is, while others have something to do, may not have heard yet what
            those have: it counts with the time it has gone on to, and so does the slowest if all are.
    """
    active: list[int] = []
    gone_on: list[int] = []
    for lanes in (*((time,) for time in sources), *stages):
        counting: list[int] = []
        resting: list[int] = []
        for time in lanes:
            if time.idle is not None:
                resting.append(time.idle)
            elif not time.ended:
                counting.append(time.watermark)
        if counting:
            active.append(min(counting + resting))
        elif resting:
            gone_on.append(min(resting))
    if active:
        lowest = min(active)
        return LaneTime(lowest, lowest)
    if gone_on:
        reached = max(gone_on)
        return LaneTime(LONG_AGO, reached, idle=reached)
    return LaneTime(LONG_AGO, NEVER, ended=True)


class Heard(NamedTuple):
    """What a lane has told, and until when (ms) it is believed that it does not count."""

    time: LaneTime = UNKNOWN
    until: int = LONG_AGO

    def at(self, now: int) -> LaneTime:
        """What is believed of it now."""
        time = self.time
        if now < self.until or (time.idle is None and not time.ended):
            return time
        return LaneTime(time.watermark, time.clock)


Snapshot = tuple[Heard, ...]
"""What all lanes of a stage have told."""


class Board:
    """What the lanes have told of the stages whose time others want to know.

    Args:
        lanes: in how many lanes each of these stages runs. Of a lane that has told nothing yet, nothing is
            known, so it holds time up.
        habits: how lanes tell each other of time.
    """

    def __init__(self, lanes: Mapping[str, int], habits: Habits) -> None:
        self._habits = habits
        self._told = {stage: [Heard()] * count for stage, count in lanes.items()}
        self._versions = dict.fromkeys(lanes, 0)

    def learned(self, lane: int, times: Mapping[str, LaneTime], now: int, *, current: bool = True) -> bool:
        """A lane has told this; whether any of it is new.

        Args:
            lane: which.
            times: by stage.
            now: when it was heard (ms).
            current: whether it was told in this run of the flow; what was idle, or had ended, in another
                one counts.
        """
        news = False
        for stage, told in self._told.items():
            time = times.get(stage)
            if time is None or lane >= len(told):
                continue
            heard = Heard(time, now + self._habits.believed if current else LONG_AGO)
            if heard.at(now) != told[lane].time or time.idle is not None or time.ended:
                told[lane] = heard
                self._versions[stage] += 1
                news = True
        return news

    def version(self, stage: str) -> int:
        """Grows with all that is new about a stage; 0 if nothing is known."""
        return self._versions.get(stage, 0)

    def snapshot(self, stage: str) -> Snapshot:
        """What is known of a stage."""
        return tuple(self._told[stage])

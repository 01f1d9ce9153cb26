"""What is measured, and which events fail in it."""

from __future__ import annotations

from typing import Literal

import msgspec

HOT = 0
"""Number of the sensor that half of the events belong to, in cases with a hot key."""
SLOW = 10.0
"""Seconds that a slow call takes."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One flow of one stage over one topic, and how it is run."""

    name: str
    about: str
    work: Literal["wait", "block", "compute", "count"]
    """What the handler does: awaits, blocks, computes, or counts the events of each key."""
    seconds: float = 0.0
    """How long a call takes, on average; of CPU for "compute"."""
    deviation: float = 0.0
    run_in: Literal["loop", "thread", "process"] = "loop"
    concurrency: int = 1
    attempts: int | None = 3
    """Tries before an event becomes a dead letter; None: for ever."""
    fails: Literal["none", "key", "some", "all"] = "none"
    """"key": the events of one key in a thousand; "some": one event in a hundred."""
    slow: bool = False
    """One event in a thousand of the first 40 % takes `SLOW` seconds."""
    hot: bool = False
    """Half of the events belong to one key."""
    lanes: int = 1
    engines: int = 1
    events: int = 200_000
    lasts: float | None = None
    """Seconds after which it is stopped, whatever has come out by then; None: when everything has."""

    def failing(self, id: int, sensor: int) -> bool:
        """Whether the calls of an event fail, each time."""
        match self.fails:
            case "none":
                return False
            case "key":
                return sensor % 1000 == 7
            case "some":
                return id % 100 == 7
            case "all":
                return True

    def slowly(self, id: int) -> bool:
        """Whether an event's call takes long."""
        return self.slow and id < self.events * 0.4 and id % 1000 == 7


def _waiting(name: str, about: str, **more: object) -> Case:
    return msgspec.structs.replace(
        Case(name=name, about=about, work="wait", seconds=0.05, deviation=0.02, concurrency=1000), **more
    )


_COMPUTING = Case(name="compute", about="1 ms of CPU in the loop", work="compute", seconds=0.001, lanes=4,
                  events=20_000)  # fmt: skip
_ALL = (
    _waiting("wait", "awaits 50 ms (σ 20 ms), concurrency 1000, one lane"),
    _waiting("wait-8", "the same in eight lanes", lanes=8),
    _waiting("wait-slow", "the same as wait, one event in a thousand takes 10 s", slow=True),
    _waiting(
        "wait-failing", "the same as wait, one key in a thousand fails for ever", fails="key", attempts=None
    ),
    Case(name="count", about="plain def with state", work="count", lanes=8, events=500_000),
    Case(
        name="count-failing",
        about="the same, 1 % raise, default retry",
        work="count",
        lanes=8,
        fails="some",
        events=500_000,
    ),
    _COMPUTING,
    msgspec.structs.replace(
        _COMPUTING, name="compute-process", about="the same in processes", run_in="process"
    ),
    msgspec.structs.replace(
        _COMPUTING, name="compute-engines", about="the same in the loops of two engines", engines=2
    ),
    Case(
        name="block",
        about="blocks 10 ms, 100 threads, one lane",
        work="block",
        seconds=0.01,
        run_in="thread",
        concurrency=100,
    ),
    _waiting("hot", "half of the events on one key", hot=True, events=500_000, lasts=30.0),
    _waiting("silent", "the service never answers", seconds=3600.0, events=500_000, lasts=20.0),
    Case(
        name="all-failing",
        about="every event fails, default retry",
        work="count",
        lanes=8,
        fails="all",
        events=1_000_000,
    ),
)
CASES = {case.name: case for case in _ALL}

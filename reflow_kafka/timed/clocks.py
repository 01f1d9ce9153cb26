"""What one input of a stage tells about time (pure): a topic of others, a part of a source, or an edge.

What is learned about an input holds for the events that were there before, so it counts from when those are
finished: a *barrier* lies behind them. There is one at a time. It is passed when everything before it is
finished; then the next one is laid.
"""

from __future__ import annotations

from collections.abc import Iterator

from reflow_kafka.timed.watermark import Habits, Heard, LaneTime, Snapshot
from reflow_kafka.units import FARTHEST, LONG_AGO


class SourceClock:
    """A partition of a topic of others: its own events tell the time.

    It is idle when nothing has come for long *and* the log has said that there is nothing: events that we are
    kept from reading count, whether a slow handler or the network keeps us.

    Args:
        out_of_orderness: milliseconds by which an event may be older than one before it.
        idle_after: milliseconds without traffic after which it does not count.
        watermark: what was told of it before.
        now: milliseconds.
        habits: how lanes tell each other of time.
        reached: the time that had come without it, or with the wall clock.
    """

    def __init__(
        self,
        out_of_orderness: int,
        idle_after: int,
        watermark: int,
        now: int,
        habits: Habits,
        reached: int = LONG_AGO,
    ) -> None:
        self._habits = habits
        self.behind = out_of_orderness
        self._idle_after = idle_after
        self.top = LONG_AGO
        """The highest timestamp seen."""
        self.watermark = watermark
        """No event is expected any more that is older."""
        self._from = reached
        self._barrier: tuple[int, int] | None = None
        """Behind which offset the highest timestamp was which."""
        self._position = -1
        self._since = now
        """When something has come, or was in hand, for the last time."""
        self.clear = False
        """Whether nothing is open of what was seen."""
        self._resting = False
        self._looked = LONG_AGO
        self._empty = False
        """Whether, at the last look, the log had nothing more."""
        self._reached = -1
        self._shared = (watermark, -1, LONG_AGO)

    @property
    def since(self) -> int:
        """When something has come, or was in hand, for the last time."""
        return self._since

    def saw(self, timestamp: int) -> None:
        """An event has been taken in hand; one of a time that is refused does not tell it."""
        if self.top < timestamp <= FARTHEST:
            self.top = timestamp

    def passed(self, timestamp: int) -> None:
        """An event is finished. If nothing is open that was before it, it counts at once."""
        if self.top < timestamp <= FARTHEST:
            self.top = timestamp
            if self.clear:
                self._learn(timestamp)

    def advance(self, position: int, reached: int, resting: bool, now: int) -> None:
        """Note how far it is finished.

        Args:
            position: everything below is finished.
            reached: everything that was seen or has passed lies below, but for what is clear.
            resting: nothing is in hand.
            now: milliseconds.
        """
        if not resting or position != self._position:
            self._since = now
            self._empty = False
        self._position, self._reached, self._resting = position, reached, resting
        if self._barrier is not None and position >= self._barrier[0]:
            self._learn(self._barrier[1])
            self._barrier = None
        self.clear = position >= reached
        if self._barrier is None:
            if self.clear:
                self._learn(self.top)
            else:
                self._barrier = (reached, self.top)

    def _learn(self, top: int) -> None:
        if top != LONG_AGO:
            self.watermark = max(self.watermark, top - self.behind)

    def asks(self, now: int) -> bool:
        """Whether it wants to know where its log ends, all of it: it may be idle."""
        quiet = self._resting and now - self._since >= self._idle_after
        return quiet and not (self._empty and now - self._looked < self._habits.renewal // 2)

    def expect(self, timestamp: int) -> None:
        """Nothing older comes any more."""
        self.watermark = max(self.watermark, timestamp)

    def stand(self, reached: int = -1) -> None:
        """Time is to stand still until the next `advance`; everything seen lies below `reached`."""
        self.clear = False
        self._reached = max(self._reached, reached)

    def ends(self, end: int, asked: int) -> None:
        """Where its log ended, after that was asked: of what has come since, it tells nothing."""
        self._looked = asked
        self._empty = self._resting and end <= self._position and asked - self._since >= self._idle_after
        if not self._empty:
            self._since = max(self._since, asked)

    def time(self, now: int) -> LaneTime:
        """What it tells."""
        quiet = now - self._since - self._idle_after
        if quiet < 0 or not self._empty or now - self._looked > self._habits.believed:
            return LaneTime(self.watermark)
        return LaneTime(self.watermark, idle=gone_on(max(self.watermark, self._from), quiet))

    def share(self) -> None:
        """A commit takes what is finished so far."""
        reached, top = self._barrier or (self._reached, self.top)  # of before it went back, perhaps
        self._shared = (self.watermark, max(reached, self._reached), max(top, self.top))

    def rewind(self) -> None:
        """Return to the last share: what was not finished then will be seen again."""
        self.watermark, reached, top = self._shared
        self._barrier = (reached, top)
        self.top = LONG_AGO
        self.clear = False


class PartClock:
    """A part of a connector's source, or a generator: what it has emitted tells the time.

    Args:
        out_of_orderness: milliseconds by which an event may be older than one before it.
        idle_after: milliseconds without traffic after which it does not count.
        watermark: what was told of its source before.
        final: once it has ended, nothing follows, from other parts neither.
        reached: the time that had come without it, or with the wall clock.
    """

    def __init__(
        self,
        out_of_orderness: int,
        idle_after: int,
        watermark: int,
        *,
        final: bool,
        reached: int = LONG_AGO,
    ) -> None:
        self._behind = out_of_orderness
        self._idle_after = idle_after
        self._watermark = watermark
        self._final = final
        self._from = reached
        self._silent: int | None = None
        """Since when it has been asked and had nothing."""
        self._ended = False

    def emitted(self, timestamp: int) -> None:
        """It had events, the latest of which is this old."""
        self._silent = None
        if timestamp != LONG_AGO:
            self._watermark = max(self._watermark, timestamp - self._behind)

    def expect(self, timestamp: int) -> None:
        """Nothing older comes any more."""
        self._watermark = max(self._watermark, timestamp)

    def silent(self, now: int) -> None:
        """It was asked, and had nothing."""
        if self._silent is None:
            self._silent = now

    def end(self, now: int) -> None:
        """It has come to its end: it does not count any more."""
        self.silent(now)
        self._ended = True

    def disturbed(self) -> None:
        """It cannot be asked at present."""
        self._silent = None

    def time(self, now: int) -> LaneTime:
        """What it tells."""
        if self._ended and self._final:
            return LaneTime(self._watermark, ended=True)
        quiet = -1 if self._silent is None else now - self._silent - self._idle_after
        if quiet < 0 and not self._ended:
            return LaneTime(self._watermark)
        return LaneTime(self._watermark, idle=gone_on(max(self._watermark, self._from), max(quiet, 0)))


class EdgeClock:
    """An edge: the lanes of the stage before it tell the time, each for what it has written.

    Args:
        upstream: that stage.
        lanes: in how many it runs.
        goes_by_others: whether the time of its lanes comes from other lanes, not from sources that they read.
    """

    def __init__(self, upstream: str, lanes: int, *, goes_by_others: bool = False) -> None:
        self.upstream = upstream
        self.goes_by_others = goes_by_others
        self._told: Snapshot = (Heard(),) * lanes
        self._barrier: tuple[int, Snapshot] | None = None
        """Behind which offset the lanes had told what."""
        self._version = 0
        self._shared = self._told

    @property
    def waits(self) -> bool:
        """Whether there is a barrier."""
        return self._barrier is not None

    def asks(self, version: int) -> bool:
        """Whether it wants a new barrier, if there is news."""
        return self._barrier is None and version > self._version

    def bar(self, told: Snapshot, version: int, end: int) -> None:
        """Lay a barrier: the edge ended here *after* the lanes had told this."""
        self._barrier = (end, told)
        self._version = version

    def advance(self, position: int) -> None:
        """Everything below is finished."""
        if self._barrier is not None and position >= self._barrier[0]:
            self._told = self._barrier[1]
            self._barrier = None

    def times(self, now: int) -> Iterator[LaneTime]:
        """What the lanes tell."""
        return (heard.at(now) for heard in self._told)

    def share(self) -> None:
        """A commit takes what is finished so far."""
        self._shared = self._told

    def rewind(self) -> None:
        """Return to the last share."""
        if self._told is not self._shared:
            self._told = self._shared
            self._barrier = None
            self._version = 0


def gone_on(watermark: int, since: int) -> int:
    """A watermark that goes on with the wall clock; where nothing is known, nothing goes on."""
    return watermark if watermark == LONG_AGO else watermark + since

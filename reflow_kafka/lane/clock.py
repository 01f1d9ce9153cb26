"""The time of one stage in one lane: what is known of it, and what is told to others (pure).

It never goes back: not when a lane that was idle has traffic again, not when an event comes late, and not
when the lane moves. Only the end of time is taken back: it holds for the run alone, and is not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final

from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.timed.clocks import EdgeClock, PartClock, SourceClock
from reflow_kafka.timed.watermark import UNKNOWN, Board, Habits, LaneTime, combine
from reflow_kafka.units import FARTHEST, LONG_AGO, NEVER

_timestamp = attrgetter("timestamp")
STEP: Final = 1_000
"""Milliseconds by which time must have gone on with the wall clock to be told again, or …"""
SHARE: Final = 100
"""… this part of the time since it was told first, whichever is more."""


class WorkClock:
    """The time of a stage that reads topics.

    Args:
        told: what the lane's last record tells.
        now: the wall clock, in epoch ms.
        habits: how lanes tell each other of time.
        sources: the topics of others that it reads.
        edges: the edges that it reads.
        tells: whether others want to know.
    """

    def __init__(
        self,
        told: LaneTime,
        now: Callable[[], int],
        habits: Habits,
        sources: Mapping[TopicPartition, SourceClock] | None = None,
        edges: Mapping[TopicPartition, EdgeClock] | None = None,
        *,
        tells: bool = True,
    ) -> None:
        self._habits = habits
        self._tells = tells
        self.watermark = told.clock
        """No event is expected any more that is older (epoch ms)."""
        self._clock = told.clock
        """The same, but for the end of time."""
        self._base = told.watermark
        """The same as far as events tell: without what has gone on with the wall clock."""
        self._now = now
        self._sources = sources or {}
        self._edges = edges or {}
        only = list(self._sources.values())
        self._alone = only[0] if len(only) == 1 and not self._edges else None
        """The only input, if that is a topic of others."""
        self._inputs: list[SourceClock | EdgeClock] = [*self._sources.values(), *self._edges.values()]
        self._idle = False
        self._idle_since = 0
        self._ended = False
        self._pending = False
        """Whether it has still something to emit, although nothing comes any more."""
        self._left: Container[TopicPartition] = ()
        """Inputs that nothing is taken from at present."""
        self._over = False
        self._said = (self._clock, self._base, False, False)
        """Clock, base, idle and ended when they were told for the last time."""
        self._said_at = 0
        self._saying = (self._said, 0)
        """The same of what is told next, if that comes to be committed."""
        self._shared = (self._clock, self._base)
        self._moved_at = now()

    # ---- what is known

    def hearing(self, partition: TopicPartition, getter: Callable[[Any], int]) -> Callable[[Any], int]:
        """What finds the time of an event in its value, and is heard here."""
        source = self._sources.get(partition)
        if source is None:
            return getter
        saw = source.saw

        def timestamp_of(value: Any) -> int:
            found = getter(value)
            saw(found)
            return found

        return timestamp_of

    def saw(self, partition: TopicPartition, records: Sequence[Record]) -> None:
        """Records have been taken in hand whose own timestamps are those of the events."""
        source = self._sources.get(partition)
        if source is not None and records:
            newest = max(map(_timestamp, records))
            if newest > FARTHEST:  # who bears it will be refused; the others tell the time
                newest = max((at for at in map(_timestamp, records) if at <= FARTHEST), default=LONG_AGO)
            source.saw(newest)

    def passing(self, partition: TopicPartition) -> Callable[[int], None]:
        """What hears the time of each event of an input when it is finished.

        Nothing may be open that was before it, but for what `update` and `stand` were told of.
        """
        source = self._sources.get(partition)
        if source is None:
            return _ignore
        if source is not self._alone:
            return source.passed
        only, behind = source, source.behind

        def passed(timestamp: int) -> None:
            """What `SourceClock.passed` and `_follow` do, in short: it is done for each event."""
            if only.top < timestamp <= FARTHEST:
                only.top = timestamp
                if only.clear and (watermark := timestamp - behind) > only.watermark:
                    only.watermark = watermark
                    if watermark > self._base:
                        self._base = watermark
                        if watermark > self._clock:
                            self._clock = watermark
                            if not self._over:
                                self.watermark = watermark

        return passed

    def stand(self) -> None:
        """Time stands still until the next update: an event has to wait."""
        for source in self._sources.values():
            source.stand()

    def update(
        self,
        inbox: Inbox,
        *,
        standing: bool = False,
        pending: Callable[[], bool] = lambda: False,
        left: Container[TopicPartition] = (),
    ) -> bool:
        """Note how far everything is finished; whether the watermark has changed.

        Args:
            inbox: knows it.
            standing: events wait for their turn that the inbox knows nothing of any more; so does time.
            pending: whether the stage has something to emit, whenever that is, that takes no more events:
                then it counts as others do that are not idle. Asked when nothing comes any more.
            left: inputs that nothing is taken from at present, whatever there is.
        """
        self._left = left
        if standing:
            for tp, source in self._sources.items():
                source.stand(inbox.reached(tp))
            self._idle = self._ended = False
            return False
        now = self._now()
        for tp, source in self._sources.items():
            source.advance(inbox.position(tp), inbox.reached(tp), inbox.resting(tp), now)
        for tp, edge in self._edges.items():
            edge.advance(inbox.position(tp))
        changed = self._follow(combine(self._times(now), self._times_of_stages(now)), now)
        self._pending = (self._idle or self._ended) and (self._busy(inbox, self._edges) or pending())
        return changed

    def _busy(self, inbox: Inbox, inputs: Container[TopicPartition]) -> bool:
        """Whether events that lanes before it have written are not finished; sources see to theirs."""
        edges = ((tp, edge) for tp, edge in self._edges.items() if tp in inputs and tp not in self._left)
        return any(edge.waits or not inbox.resting(tp) for tp, edge in edges)

    def _times(self, now: int) -> Iterable[LaneTime]:
        """Of sources, be it that they are read here or in the lanes before."""
        yield from (source.time(now) for source in self._sources.values())
        for edge in self._edges.values():
            if not edge.goes_by_others:
                yield from edge.times(now)

    def _times_of_stages(self, now: int) -> Iterable[Iterable[LaneTime]]:
        """Of lanes that go by other lanes themselves, by stage."""
        return (edge.times(now) for edge in self._edges.values() if edge.goes_by_others)

    def of(self, inbox: Inbox, inputs: Container[TopicPartition]) -> int:
        """The time of some inputs by themselves: no older event of theirs is expected. NEVER: none at all.

        What idle lanes had written before they were may not be finished yet: then nothing is known.
        """
        now = self._now()
        sources = [source.time(now) for tp, source in self._sources.items() if tp in inputs]
        stages: list[Iterable[LaneTime]] = []
        for tp, edge in self._edges.items():
            if tp in inputs and edge.goes_by_others:
                stages.append(edge.times(now))
            elif tp in inputs:
                sources.extend(edge.times(now))
        time = combine(sources, stages)
        if time.idle is None:
            return time.clock
        if self._busy(inbox, inputs):
            return LONG_AGO
        return time.clock if stages else NEVER

    def _follow(self, time: LaneTime, now: int) -> bool:
        if time.idle is not None and not self._idle:
            self._idle_since = now
        self._idle, self._ended = time.idle is not None, time.ended
        if not time.ended:
            if time.watermark > self._base:
                self._base = time.watermark
                self._moved_at = now
            self._clock = max(self._clock, time.clock)
        before = self.watermark
        self.watermark = NEVER if time.ended or self._over else self._clock
        return self.watermark != before

    def expect(self, timestamp: int) -> None:
        """Nothing older comes any more from the sources that it knows itself."""
        for source in self._sources.values():
            source.expect(timestamp)

    def end(self) -> None:
        """The run has come to its end: nothing is expected any more."""
        self._over = True
        self.watermark = NEVER

    # ---- what must be asked

    def asks(self, board: Board) -> dict[TopicPartition, Callable[[int], None]]:
        """Partitions of which it must be known where they end now, all of them; and whom to tell.

        What the board tells at this moment counts from there on.
        """
        now = self._now()
        asked: dict[TopicPartition, Callable[[int], None]] = {}
        for tp, source in self._sources.items():
            if source.asks(now):
                asked[tp] = partial(source.ends, asked=now)
        for tp, edge in self._edges.items():
            if edge.asks(version := board.version(edge.upstream)):
                asked[tp] = partial(edge.bar, board.snapshot(edge.upstream), version)
        return asked

    def at_rest(self, board: Board) -> bool:
        """Whether it has gone by all that was told, and nothing is to be told, as long as nothing comes."""
        asks = any(edge.asks(board.version(edge.upstream)) for edge in self._edges.values())
        return not (asks or self.waits or self._untold)

    @property
    def waits(self) -> bool:
        """Whether it waits for events that were there before something was told, and are being worked off."""
        return any(edge.waits for tp, edge in self._edges.items() if tp not in self._left)

    @property
    def moved_at(self) -> int:
        """When anything but the wall clock has moved it for the last time, in its ms."""
        return max((source.since for source in self._sources.values()), default=self._moved_at)

    # ---- what is told

    def _rests(self) -> tuple[bool, bool]:
        """Whether it counts as idle, and as ended: neither while it has still something to emit."""
        return self._idle and not self._pending, self._ended and not self._pending

    def told(self, holds: int = NEVER) -> LaneTime:
        """What to tell with this commit; the stage emits nothing older than `holds`."""
        idle, ended = self._rests()
        self._saying = (self._clock, self._base, idle, ended), self._now()
        return LaneTime(
            watermark=min(self._clock if self._idle and not idle else self._base, holds),
            clock=self._clock,
            idle=min(self._clock, holds) if idle else None,
            ended=ended and holds == NEVER,
        )

    def settled(self) -> None:
        """What was told last has been committed."""
        self._said, self._said_at = self._saying

    def news(self) -> bool:
        """Whether there is anything to tell that others may wait for, even if nothing else is committed."""
        if self._untold:
            return True
        if not self._tells or not (self._idle or self._ended):
            return False
        now = self._now()
        if now - self._said_at >= self._habits.renewal:
            return True
        clock, *_ = self._said
        return self._idle and self._clock - clock >= max(STEP, (now - self._idle_since) // SHARE)

    @property
    def _untold(self) -> bool:
        """Whether events have brought anything that is not told yet."""
        clock, base, idle, ended = self._said
        if not self._tells:
            return False
        if self._rests() != (idle, ended):
            return True
        return not self._idle and (self._clock > clock or self._base > base)

    # ---- going back

    def share(self) -> None:
        """A commit takes what has been finished so far."""
        self._shared = (self._clock, self._base)
        for clock in self._inputs:
            clock.share()

    def rewind(self) -> None:
        """Return to the last share."""
        self._clock, self._base = self._shared
        for clock in self._inputs:
            clock.rewind()
        self.watermark = NEVER if self._over else self._clock


class FeedClock(WorkClock):
    """The time of a source that is no topic: the lowest of its parts'.

    Args:
        told: what the lane's last record tells.
        now: the wall clock, in epoch ms.
        habits: how lanes tell each other of time.
        out_of_orderness: milliseconds by which an event may be older than one before it.
        idle_after: milliseconds without traffic after which a part does not count.
        final: once its parts have ended, nothing follows: there will be no others.
    """

    def __init__(
        self,
        told: LaneTime,
        now: Callable[[], int],
        habits: Habits,
        out_of_orderness: int,
        idle_after: int,
        *,
        final: bool = False,
    ) -> None:
        super().__init__(told, now, habits)
        self._limits = (out_of_orderness, idle_after)
        self._final = final
        self._parts: dict[str, PartClock] = {}
        self._known = False
        """Whether it is known which parts there are."""

    def scanned(self, parts: Iterable[str]) -> None:
        """These parts there are, some perhaps new."""
        self._known = True
        for part in parts:
            self.part(part)

    def expect(self, timestamp: int) -> None:
        for part in self._parts.values():
            part.expect(timestamp)

    def part(self, name: str) -> PartClock:
        """The clock of a part."""
        if name not in self._parts:
            self._parts[name] = PartClock(*self._limits, self._base, final=self._final, reached=self._clock)
        return self._parts[name]

    def _times(self, now: int) -> Iterable[LaneTime]:
        if not self._known:
            return (UNKNOWN,)
        if not self._parts:  # there may be some one day
            return (LaneTime(idle=self._clock),)
        return [part.time(now) for part in self._parts.values()]


def _ignore(timestamp: int) -> None:
    """The lanes before it tell the time."""

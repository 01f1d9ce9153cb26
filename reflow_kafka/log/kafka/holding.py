"""A member's side of the division of lanes: what it holds, gives up, copies, and tells the group. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from reflow_kafka.log.api import MemberOptions
from reflow_kafka.log.kafka.claim import COLD, WARM, Award, Claim

_GATHER: Final = 0.5  # seconds: while more lanes are about to be released, asking once does for several
_PAUSE: Final = 0.25  # seconds between two times of asking, at the least
_SOME_READY: Final = 10.0  # seconds after which a move is asked for although other copies are not ready
_PATIENCE: Final = 600.0  # seconds after which a lane moves to a copy that still is not


class Holding:
    """A member's side: what it holds, what it is giving up, what it tells the group.

    Times are arguments, in seconds of any clock that only goes forward.
    """

    def __init__(self, options: MemberOptions, host: str = "") -> None:
        self.plan = options.plan
        self._fixed = Claim(
            protocol=1,
            plan=options.plan,
            started=options.started,
            lanes=options.lanes,
            instance=options.instance,
            host=host,
            standbys=options.standbys,
        )
        self.held: dict[int, int] = {}
        self.run = ""
        self.ended = False
        self.award: Award | None = None
        self._leaving: dict[int, tuple[int, float]] = {}  # lane → epoch, since when
        self._asked = 0
        self._asked_at = -math.inf
        self._ask_since: float | None = None
        self._announced: Claim | None = None
        # Lanes of others that there is state of, at rest or kept up to date: how many records it is behind.
        # What else lies there is of no lane of this flow, and would make the claim unintelligible.
        self._copies = {lane: COLD for lane in options.kept if lane < options.lanes}
        self._awaited: dict[int, float] = {}  # copies on which a move waits, since when
        self._awarded_at = -math.inf
        self._overdue: set[int] = set()  # of these, those that have been waited for long enough
        self._adrift = False  # nothing held is valid before the next award
        self.misled = False  # the last award was not meant for this process
        self._inherits = False  # the last award may be an answer to the claim of the process before this one

    @property
    def leaving(self) -> frozenset[int]:
        """Lanes whose work has still to stop here."""
        return frozenset(self._leaving)

    @property
    def standbys(self) -> frozenset[int]:
        """Lanes of others to keep a copy of."""
        copies = self.award.copies if self.award is not None else ()
        return frozenset(copies) - self.held.keys() - self._leaving.keys()

    def claim(self) -> Claim:
        """What to tell the group now."""
        claim = msgspec.structs.replace(
            self._fixed,
            held=dict(self.held),
            leaving={lane: epoch for lane, (epoch, _) in self._leaving.items()},
            seen=self.award.epoch if self.award else 0,
            run=self.run,
            ended=self.ended,
            asked=self._asked,
            copies=dict(self._copies),
            ready=tuple(lane for lane in sorted(self._copies) if self._is_ready(lane)),
        )
        self._announced = claim
        return claim

    def awarded(self, award: Award, now: float) -> None:
        """Follow the award: hold what it gives, start to give up what it does not."""
        # The broker answers a restarted static member with what it gave to the process before it.
        self.misled = award.answers not in ("", self.plan)
        if self.misled:
            return
        # That process may have died before it told the group what it had released, and others wait for that;
        # or when the run was over, and the next one begins only if somebody asks.
        unsettled = award.moving > 0 or award.ended
        self._inherits = self.award is None and self._fixed.instance is not None and unsettled
        self._adrift = False
        before = self.standbys
        self._drop(self.held.keys() - set(award.lanes), now)
        for lane in award.lanes:
            # A lane that was to leave and comes back was interrupted: it counts as new.
            self._leaving.pop(lane, None)
            self.held.setdefault(lane, award.epoch)
        self.award = award
        self._follow_copies(before, now)
        # A run that was over before this member took part in it is not its own: it waits for the next one.
        if award.run == self.run:
            self.ended |= award.ended
        elif not award.ended:
            self.run, self.ended = award.run, False

    def lost(self, now: float) -> None:
        """The group no longer counts on this member: nothing may be run until an award says so."""
        self._adrift = True
        self._drop(set(self.held), now)

    def released(self, lane: int) -> None:
        """The lane's work has stopped. (If it has come back meanwhile, it is still claimed.)"""
        if self._leaving.pop(lane, None) is not None and lane not in self.held:
            self._copies[lane] = COLD

    def lags(self, lags: Mapping[int, int | None]) -> None:
        """How many records the copies of lanes are behind; None: unknown."""
        for lane in lags.keys() & self.standbys:
            lag = lags[lane]
            self._copies[lane] = COLD if lag is None else min(lag, COLD)

    def overdue(self, now: float, limit: float) -> list[int]:
        """Lanes that should have been released `limit` seconds ago."""
        return sorted(lane for lane, (_, since) in self._leaving.items() if now - since > limit)

    def stood_still(self, seconds: float) -> None:
        """The whole process was stopped for so long: that is no time in which anything could be released."""
        self._leaving = {lane: (epoch, since + seconds) for lane, (epoch, since) in self._leaving.items()}

    def end_run(self) -> None:
        """Tell the group that the run is over."""
        self.ended = True

    @property
    def must_ask(self) -> bool:
        """Whether the group has to come together again because of this member."""
        if self._announced is None:
            return False
        told = self._announced.held.keys() | self._announced.leaving.keys()
        freed = told - self.held.keys() - self._leaving.keys()
        award = self.award
        awaited = bool(freed) and award is not None and award.moving > 0
        news = self.ended and not self._announced.ended and not (award is not None and award.ended)
        return self._adrift or self.misled or self._inherits or awaited or news

    def ask(self, now: float) -> bool:
        """Whether to ask for that at this moment: soon, but not once for each of many lanes."""
        if not (self.must_ask or self._ripe(now)):
            self._ask_since = None
            return False
        if self._ask_since is None:
            self._ask_since = now
        patience = _GATHER if self._leaving and not self._adrift else 0.0
        if now < max(self._ask_since + patience, self._asked_at + _PAUSE):
            return False
        self._asked, self._asked_at, self._ask_since = self._asked + 1, now, None
        return True

    def _follow_copies(self, before: Iterable[int], now: float) -> None:
        """Bring the books on copies into line with a new award."""
        assert self.award is not None
        mine = self.held.keys() | self._leaving.keys()
        stopped = set(before) - self.standbys
        self._copies = {
            lane: COLD if lane in stopped else self._copies.get(lane, COLD)
            for lane in self._copies.keys() | self.standbys
            if lane not in mine
        }
        self._awarded_at = now
        self._awaited = {lane: self._awaited.get(lane, now) for lane in self.award.awaited}
        self._overdue &= self.standbys

    def _is_ready(self, lane: int) -> bool:
        return self._copies.get(lane, COLD) <= WARM or lane in self._overdue

    def _ripe(self, now: float) -> bool:
        """Whether lanes can move that waited for copies of this member."""
        self._overdue |= {lane for lane, since in self._awaited.items() if now - since > _PATIENCE}
        done = sum(self._is_ready(lane) for lane in self._awaited)
        return done > 0 and (done == len(self._awaited) or now - self._awarded_at > _SOME_READY)

    def _drop(self, lanes: set[int], now: float) -> None:
        for lane in lanes:
            self._leaving[lane] = (self.held.pop(lane), now)

"""How a flow's lanes are divided among the members of its group: pure, no clock, no I/O.

Each time the group comes together every member sends a `Claim`, the leader turns all claims into one `Award`
per member (`divide`), and each member brings its `Holding` into line with its award. The rules:

* Claims are the truth. A lane that somebody claims is given to nobody else: a lane that must move is first
  left out of every award, and given once its owner no longer claims it.
* Of two claims for one lane the one received under the higher epoch wins. So a process that was stopped,
  replaced and then wakes up loses against its successor, whatever it still believes.
* Only members with the newest plan are given lanes; what others claim they are to release.
* Apart from that lanes stay where they are, and no two members differ by more than one lane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from reflow_kafka.log.api import MemberOptions

# Bounds, so that one member's nonsense cannot make the leader count to the moon.
_Lane = Annotated[int, msgspec.Meta(ge=0, lt=100_000)]
_Epoch = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]

_GATHER = 0.5  # seconds: while more lanes are about to be released, asking once does for several
_PAUSE = 0.25  # seconds between two times of asking, at the least


class Claim(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a member says about itself. Lanes map to the epoch under which they were received."""

    protocol: Literal[1]
    plan: str
    started: int  # epoch ms at which the plan was started there: the largest is the newest plan
    lanes: Annotated[int, msgspec.Meta(ge=1, le=100_000)]  # how many the flow has, as this member knows it
    held: dict[_Lane, _Epoch] = {}
    leaving: dict[_Lane, _Epoch] = {}  # no longer to be run, but their work has not stopped yet
    seen: _Epoch = 0  # epoch of the last award
    run: str = ""
    ended: bool = False
    asked: int = 0  # how often this member asked for a new division: a broker ignores an unchanged claim
    instance: str | None = None
    host: str = ""


class Award(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the leader gives to one member."""

    protocol: Literal[1]
    epoch: _Epoch
    lanes: tuple[_Lane, ...] = ()
    moving: int = 0  # lanes in nobody's award because somebody has still to release them
    plan: str = ""  # the plan that rules
    answers: str = ""  # the plan of the claim that this answers
    run: str = ""
    ended: bool = False


_claims = msgspec.json.Decoder(Claim)
_awards = msgspec.json.Decoder(Award)


def encode(message: Claim | Award) -> bytes:
    """The bytes that travel through the group protocol."""
    # `protocol` has no default and is therefore always written.
    return msgspec.json.encode(message)


def decode_claim(data: bytes | None) -> Claim | None:
    """A member's claim, or None if it speaks another language: such a member owns nothing."""
    try:
        return _claims.decode(data or b"")
    except (msgspec.DecodeError, ValueError):
        return None


def decode_award(data: bytes | None) -> Award | None:
    """This member's award, or None if the leader speaks another language."""
    try:
        return _awards.decode(data or b"")
    except (msgspec.DecodeError, ValueError):
        return None


def divide(claims: Mapping[str, Claim | None], *, run: str, floor: int = 0) -> dict[str, Award]:
    """Turn all claims (by member id; None = unintelligible) into one award per member.

    Args:
        claims: of all members of the group.
        run: id for a new run, used if no member knows of one.
        floor: lowest epoch to use. With the time of day here a group that starts afresh, its members knowing
            nothing, still ranks above whatever a forgotten process remembers.
    """
    known = {member: claim for member, claim in claims.items() if claim is not None}
    if not known:
        return {member: Award(protocol=1, epoch=floor, run=run) for member in claims}
    newest = max(known.values(), key=lambda claim: (claim.started, claim.plan))
    highest = max(
        max((claim.seen, *claim.held.values(), *claim.leaving.values())) for claim in known.values()
    )
    eldest = max(known.values(), key=lambda claim: (bool(claim.run), claim.seen, claim.run))
    run = eldest.run or run
    # Only this run's members can end it; a straggler of an earlier run has no say.
    ended = any(claim.ended and claim.run == run for claim in known.values())
    lanes: dict[str, set[int]] = {}
    moving = 0
    if not ended:
        lanes, moving = _deal(known, newest.plan, newest.lanes)
    return {
        member: Award(
            protocol=1,
            epoch=max(highest + 1, floor),
            lanes=tuple(sorted(lanes.get(member, ()))),
            moving=moving,
            plan=newest.plan,
            answers=claim.plan if claim is not None else "",
            run=run,
            ended=ended,
        )
        for member, claim in claims.items()
    }


def _deal(claims: Mapping[str, Claim], plan: str, lanes: int) -> tuple[dict[str, set[int]], int]:
    """Lanes per member with the ruling plan, and how many lanes wait for their release."""
    winner = _winners(claims)
    eligible = sorted(member for member, claim in claims.items() if claim.plan == plan)
    held: dict[str, list[int]] = {}
    leaving: dict[str, list[int]] = {}
    for member in eligible:
        mine = claims[member]
        # The oldest stay: they have the most to lose, and the same choice is made again next time.
        held[member] = sorted(
            (lane for lane in mine.held if lane < lanes and winner[lane] == member),
            key=lambda lane: (mine.held[lane], lane),
        )
        leaving[member] = sorted(
            lane for lane in mine.leaving if lane < lanes and winner[lane] == member and lane not in mine.held
        )
    share, rest = divmod(lanes, len(eligible))
    # One more goes to those that have the most already: fewer lanes move.
    ranked = sorted(eligible, key=lambda member: (-len(held[member]), -len(leaving[member]), member))
    quota = {member: share + (rank < rest) for rank, member in enumerate(ranked)}

    given: dict[str, set[int]] = {}
    for member in eligible:
        # A lane on its way out can at once go back to where it is, but to nobody else.
        given[member] = set((held[member] + leaving[member])[: quota[member]])
    free = [lane for lane in range(lanes) if lane not in winner]
    for lane in free:
        taker = max(ranked, key=lambda member: quota[member] - len(given[member]))
        given[taker].add(lane)
    return given, lanes - sum(map(len, given.values()))


def _winners(claims: Mapping[str, Claim]) -> dict[int, str]:
    """Who has the best claim to each lane that anybody claims."""
    best: dict[int, tuple[int, str]] = {}
    for member, claim in claims.items():
        for lane, epoch in (claim.leaving | claim.held).items():
            best[lane] = max(best.get(lane, (-1, "")), (epoch, member))
    return {lane: member for lane, (_, member) in best.items()}


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
        self._adrift = False  # nothing held is valid before the next award
        self.misled = False  # the last award was not meant for this process

    @property
    def leaving(self) -> frozenset[int]:
        """Lanes whose work has still to stop here."""
        return frozenset(self._leaving)

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
        )
        self._announced = claim
        return claim

    def awarded(self, award: Award, now: float) -> None:
        """Follow the award: hold what it gives, start to give up what it does not."""
        # The broker answers a restarted static member with what it gave to the process before it.
        self.misled = award.answers not in ("", self.plan)
        if self.misled:
            return
        self._adrift = False
        self._drop(self.held.keys() - set(award.lanes), now)
        for lane in award.lanes:
            # A lane that was to leave and comes back was interrupted: it counts as new.
            self._leaving.pop(lane, None)
            self.held.setdefault(lane, award.epoch)
        self.award = award
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
        self._leaving.pop(lane, None)

    def overdue(self, now: float, limit: float) -> list[int]:
        """Lanes that should have been released `limit` seconds ago."""
        return sorted(lane for lane, (_, since) in self._leaving.items() if now - since > limit)

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
        return self._adrift or self.misled or awaited or news

    def ask(self, now: float) -> bool:
        """Whether to ask for that at this moment: soon, but not once for each of many lanes."""
        if not self.must_ask:
            self._ask_since = None
            return False
        if self._ask_since is None:
            self._ask_since = now
        patience = _GATHER if self._leaving and not self._adrift else 0.0
        if now < max(self._ask_since + patience, self._asked_at + _PAUSE):
            return False
        self._asked, self._asked_at, self._ask_since = self._asked + 1, now, None
        return True

    def _drop(self, lanes: set[int], now: float) -> None:
        for lane in lanes:
            self._leaving[lane] = (self.held.pop(lane), now)

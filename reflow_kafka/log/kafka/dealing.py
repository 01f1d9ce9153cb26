"""Who is to own each lane, and who keeps copies of its state: the heart of the division, pure.

Without standbys lanes move at once. With them state goes ahead of its lane:

* A lane without owner goes to who has a copy that is ready, even if that makes members uneven.
* A lane moves for balance only to a copy that is ready. Until then its owner keeps it, and the member that
  is to get it keeps a copy, a *warm-up*, and tells when it is ready.
* Nobody that owns a lane, claims it or is given it copies it. Copies stay where they are, evenly, if they can
  on another host than the owner; one that is to be elsewhere stays until that one is ready.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from reflow_kafka.log.kafka.claim import COLD, Claim


class Deal(NamedTuple):
    """By member: the lanes to own, those to copy, and which of these are waited for."""

    lanes: dict[str, set[int]]
    copies: dict[str, set[int]]
    awaited: dict[str, set[int]]
    moving: int
    """Lanes that go nowhere until somebody has released them."""


def deal(claims: Mapping[str, Claim], plan: str, lanes: int) -> Deal:
    """Divide the lanes among the members with the ruling plan, of which there is at least one."""
    return _Dealer(claims, plan, lanes).deal()


class _Dealer:
    def __init__(self, claims: Mapping[str, Claim], plan: str, lanes: int) -> None:
        self.claims, self.lanes = claims, lanes
        self.eligible = sorted(member for member, claim in claims.items() if claim.plan == plan)
        self.spares = max(claims[member].standbys for member in self.eligible)
        self.winner = _winners(claims)
        self.ready = {member: frozenset(claims[member].ready) for member in self.eligible}
        self.holders: dict[int, list[str]] = defaultdict(list)  # who has state of a lane
        for member in self.eligible:
            for lane in claims[member].copies:
                self.holders[lane].append(member)
        self.given: dict[str, set[int]] = {}
        self.copies: dict[str, set[int]] = {member: set() for member in self.eligible}
        self.awaited: dict[str, set[int]] = {member: set() for member in self.eligible}
        self.promised: dict[int, str] = {}  # lanes that leave their owner → who has them ready
        self.waiting = 0  # lanes that would move to who has still to release them

    def deal(self) -> Deal:
        self._keep()
        self._give()
        self._move()
        if self.spares:
            self._copy()
        moving = self.lanes - sum(map(len, self.given.values())) + self.waiting
        return Deal(self.given, self.copies, self.awaited, moving)

    # --- owners

    def _keep(self) -> None:
        """All that members have a right to stays with them, at first."""
        for member in self.eligible:
            mine = self.claims[member]
            claimed = mine.held.keys() | mine.leaving.keys()
            self.given[member] = {
                lane for lane in claimed if lane < self.lanes and self.winner[lane] == member
            }
        share, rest = divmod(self.lanes, len(self.eligible))
        # One more goes to those that have the most already: fewer lanes move.
        self.ranked = sorted(self.eligible, key=self._possessions)
        self.quota = {member: share + (rank < rest) for rank, member in enumerate(self.ranked)}

    def _possessions(self, member: str) -> tuple[int, int, str]:
        given, held = self.given[member], self.claims[member].held
        kept = sum(lane in held for lane in given)
        return -kept, kept - len(given), member

    def _room(self, member: str) -> int:
        return self.quota[member] - len(self.given[member])

    def _give(self) -> None:
        """Lanes that nobody claims: to who is least behind, else to who has the most room."""
        free = [lane for lane in range(self.lanes) if lane not in self.winner]
        for lane in sorted(free, key=self._nearest):  # what is left of a lane decides before mere room does
            near = [member for member in self.holders[lane] if self._distance(member, lane) < COLD]
            some = [member for member in self.holders[lane] if self._room(member) > 0]
            if near:
                taker = min(near, key=lambda member: (self._distance(member, lane), -self._room(member)))
            else:
                taker = max(some or self.ranked, key=self._room)
            self.given[taker].add(lane)

    def _nearest(self, lane: int) -> int:
        return min((self._distance(member, lane) for member in self.holders[lane]), default=COLD + 1)

    def _move(self) -> None:
        """Let go what is too much, if whoever gets it is ready."""
        room = {member: self._room(member) for member in self.ranked}
        for member in self.eligible:
            for lane in self._excess(member, room):
                taker = self._taker(lane, room)
                room[taker] -= 1
                if not self.spares:
                    self.given[member].discard(lane)
                elif self._claims(taker, lane):  # which it has lost: it is to release it first
                    self.waiting += 1
                else:
                    self._warm(taker, lane, member)

    def _warm(self, taker: str, lane: int, owner: str) -> None:
        """Let a lane go to a copy that is ready, or make the copy ready first."""
        self.copies[taker].add(lane)
        if self._is_ready(taker, lane):
            self.given[owner].discard(lane)
            self.promised[lane] = taker
        else:
            self.awaited[taker].add(lane)

    def _taker(self, lane: int, room: Mapping[str, int]) -> str:
        there = [member for member in self.holders[lane] if room[member] > 0]
        if there:
            return min(there, key=lambda member: (self._distance(member, lane), -room[member]))
        return max(self.ranked, key=room.__getitem__)

    def _excess(self, member: str, room: Mapping[str, int]) -> list[int]:
        """Lanes beyond its quota: those that others have ready first, then the newest."""
        mine = self.claims[member]

        def cost(lane: int) -> tuple[int, bool, int, int]:
            near = (self._distance(taker, lane) for taker in self.holders[lane] if room[taker] > 0)
            # The oldest stay: they have the most to lose, and the same choice is made again next time.
            return min(near, default=COLD + 1), lane in mine.held, -mine.held.get(lane, 0), -lane

        # What was free a moment ago has come to the best place there is.
        claimed = sorted((lane for lane in self.given[member] if lane in self.winner), key=cost)
        return claimed[: max(0, len(self.given[member]) - self.quota[member])]

    def _claims(self, member: str, lane: int) -> bool:
        claim = self.claims[member]
        return lane in claim.held or lane in claim.leaving

    def _is_ready(self, member: str, lane: int) -> bool:
        return lane in self.ready.get(member, ())

    def _distance(self, member: str, lane: int) -> int:
        """How far a copy is from being of use; COLD: state that is merely there, above: none."""
        return 0 if self._is_ready(member, lane) else self.claims[member].copies.get(lane, COLD + 1)

    # --- copies

    def _copy(self) -> None:
        load = dict.fromkeys(self.eligible, 0)
        limit = -(-self.lanes * self.spares // len(self.eligible))
        owners = self.winner | self.promised
        owners |= {lane: member for member, lanes in self.given.items() for lane in lanes}
        may = {lane: self._candidates(lane, owners.get(lane)) for lane in range(self.lanes)}
        chosen: dict[int, list[str]] = {lane: [] for lane in range(self.lanes)}
        for only_present in (True, False):  # what is there comes before what is to be made
            for lane in range(self.lanes):
                while len(chosen[lane]) < min(self.spares, len(may[lane])):
                    hosts = self._addresses([owners.get(lane), *chosen[lane]])
                    left = [member for member in may[lane] if member not in chosen[lane]]
                    best = min(
                        left,
                        key=lambda member: (
                            self.claims[member].host in hosts,
                            load[member] >= limit,
                            self._distance(member, lane),
                            load[member],
                            member,
                        ),
                    )
                    if only_present and lane not in self.claims[best].copies:
                        break
                    chosen[lane].append(best)
                    load[best] += 1
        for lane, members in chosen.items():
            self._settle(lane, members, may[lane])

    def _candidates(self, lane: int, owner: str | None) -> list[str]:
        return [member for member in self.eligible if member != owner and not self._claims(member, lane)]

    def _addresses(self, members: list[str | None]) -> frozenset[str]:
        known = (self.claims[member].host for member in members if member is not None)
        return frozenset(host for host in known if host)

    def _settle(self, lane: int, chosen: list[str], may: list[str]) -> None:
        """Copies that are ready stay until as many of the chosen are."""
        unready = [member for member in chosen if not self._is_ready(member, lane)]
        instead = [member for member in may if member not in chosen and self._is_ready(member, lane)]
        for member in (*chosen, *instead[: len(unready)]):
            self.copies[member].add(lane)
        if instead:
            for member in unready:
                self.awaited[member].add(lane)


def _winners(claims: Mapping[str, Claim]) -> dict[int, str]:
    """Who has the best claim to each lane that anybody claims."""
    best: dict[int, tuple[int, str]] = {}
    for member, claim in claims.items():
        for lane, epoch in (claim.leaving | claim.held).items():
            best[lane] = max(best.get(lane, (-1, "")), (epoch, member))
    return {lane: member for lane, (_, member) in best.items()}

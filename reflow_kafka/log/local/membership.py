"""Dividing a flow's lanes between the members of one process."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import TypeVar

from reflow_kafka.clock import monotonic
from reflow_kafka.log.api import MemberOptions

M = TypeVar("M")


def divide(lanes: int, members: Sequence[M], owners: Mapping[int, M]) -> dict[int, M]:
    """Give every lane to a member: sizes differ by at most one, and lanes stay where they are if they can."""
    if not members:
        return {}
    held: dict[int, list[int]] = {at: [] for at in range(len(members))}
    for lane in range(lanes):
        owner = owners.get(lane)
        if owner is not None and owner in members:
            held[members.index(owner)].append(lane)
    share, extra = divmod(lanes, len(members))
    # Those that hold most keep one lane more: fewest moves.
    order = sorted(held, key=lambda at: (-len(held[at]), at))
    quota = {at: share + (1 if rank < extra else 0) for rank, at in enumerate(order)}
    kept = {lane: at for at, mine in held.items() for lane in mine[: quota[at]]}
    free = [lane for lane in range(lanes) if lane not in kept]
    for at, mine in held.items():
        missing = quota[at] - min(len(mine), quota[at])
        kept.update(dict.fromkeys(free[:missing], at))
        free = free[missing:]
    return {lane: members[at] for lane, at in sorted(kept.items())}


class LocalGroup:
    """The members of one flow, and which lane is whose.

    A lane is first taken from its owner's `wanted` and given to the next only when the owner has released it.
    """

    def __init__(self) -> None:
        self.members: list[LocalMembership] = []
        self.waiting: list[LocalMembership] = []  # for the run after one that has ended
        self._run = ""
        self._ended = False  # the run is: nobody gets lanes any more
        self._owners: dict[int, LocalMembership] = {}  # may run the lane, or will when it looks
        self._targets: dict[int, LocalMembership] = {}  # shall run the lane

    def join(self, member: LocalMembership) -> None:
        """A new member; the first one starts a new run."""
        if self._ended and self.members:
            self.waiting.append(member)
        else:
            self._enter([member])

    def _enter(self, members: list[LocalMembership]) -> None:
        if not self.members:
            self._run = str(uuid.uuid4())
            self._ended = False
        for member in members:
            member.run = self._run
        self.members += members
        self._divide()

    def knows(self, member: LocalMembership) -> bool:
        """Whether this is a member, with or without lanes."""
        return member in self.members or member in self.waiting

    def leave(self, member: LocalMembership) -> None:
        """A member goes, its work has stopped."""
        if member in self.waiting:
            self.waiting.remove(member)
        if member not in self.members:
            return
        self.members.remove(member)
        self._owners = {lane: owner for lane, owner in self._owners.items() if owner is not member}
        if self.waiting and not self.members:
            waiting, self.waiting = self.waiting, []
            self._enter(waiting)
        else:
            self._divide()

    def release(self, member: LocalMembership, lane: int) -> None:
        """A member stopped a lane."""
        member.shown.discard(lane)
        if self._owners.get(lane) is member:
            del self._owners[lane]
            self._hand_out()

    def end_run(self) -> None:
        """The run has ended: take the lanes from everybody."""
        self._ended = True
        self._divide()

    def wanted_by(self, member: LocalMembership) -> frozenset[int]:
        """What a member should run now."""
        return frozenset(
            lane
            for lane, owner in self._owners.items()
            if owner is member and self._targets.get(lane) is member
        )

    def _divide(self) -> None:
        """Only members with the newest plan get lanes."""
        newest = max((member.options for member in self.members), key=lambda o: o.started, default=None)
        if self._ended:
            newest = None
        able = [member for member in self.members if newest and member.options.plan == newest.plan]
        self._targets = divide(newest.lanes if newest else 0, able, self._owners)
        self._hand_out()

    def _hand_out(self) -> None:
        for lane, member in self._targets.items():
            owner = self._owners.get(lane)
            if owner is None or lane not in owner.shown:  # who never saw a lane need not release it
                self._owners[lane] = member
        for member in self.members:
            member.look()


class LocalMembership:
    """A `Membership` in a group of this process."""

    def __init__(self, group: LocalGroup, options: MemberOptions) -> None:
        self.options = options
        self.run = ""  # identity of the run of the flow; set by the group
        self._group = group
        self._news = asyncio.Event()
        self._seen: frozenset[int] = frozenset()
        self.shown: set[int] = set()
        """Lanes that it was told to run, and has not released since."""

    async def start(self) -> None:
        """Join; the first assignment is known at once."""
        self._group.join(self)

    def wanted(self) -> frozenset[int]:
        """The lanes this member should run now."""
        wanted = self._group.wanted_by(self)
        self.shown |= wanted
        return wanted

    def standbys(self) -> frozenset[int]:
        """None: copies in the process that may die would be of no use."""
        return frozenset()

    def lags(self, lags: Mapping[int, int | None]) -> None:
        """There are no copies."""

    async def changed(self) -> None:
        """Returns after the next change, or at once if one was not yet waited for."""
        await self._news.wait()
        self._news.clear()

    def look(self) -> None:
        """The group changed: does that concern this member?"""
        wanted = self._group.wanted_by(self)
        if wanted != self._seen:
            self._seen = wanted
            self._news.set()

    def released(self, lane: int) -> None:
        """The lane's work has stopped here."""
        self._group.release(self, lane)
        self._news.set()  # if it is wanted here again, it has to be opened again

    def proof(self) -> float:
        """Now, as long as this is a member: there is no coordinator that could lose sight of it."""
        return monotonic() if self._group.knows(self) else -math.inf

    def end_run(self) -> None:
        """Announce that this run has ended."""
        self._group.end_run()

    def alive(self) -> None:
        """Nothing watches: a loop that stands still would stop the whole group anyway."""

    async def stop(self) -> None:
        """Leave; the lanes of this member are free at once."""
        self._group.leave(self)
        self._news.set()

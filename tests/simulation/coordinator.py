"""The broker's side of a group: who belongs to it, and in which generation."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulation.network import after

OK, ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING, FENCED_INSTANCE = 0, 22, 25, 27, 82
SESSION, REBALANCE = 10.0, 60.0


@dataclass
class Joined:
    """The answer to a join."""

    member: str
    generation: int
    metadata: dict[str, Any] | None
    """What all members say, for the one that is to divide the lanes."""


@dataclass(eq=False)
class _Member:
    id: str
    metadata: Any = None
    session: asyncio.Handle | None = None
    join: asyncio.Future[Joined] | None = None
    sync: asyncio.Future[tuple[int, Any]] | None = None


class Coordinator:
    """The broker's side of a group: who belongs to it, and in which generation."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.generation = 0
        self._members: dict[str, _Member] = {}
        self._instances: dict[str, str] = {}
        """The member that each static identity is."""
        self._numbers = itertools.count(1)
        self._state = "stable"
        self._leader = ""
        self._awards: Mapping[str, Any] = {}
        self._patience: asyncio.Handle | None = None

    def join(self, id: str, instance: str | None, metadata: Any, answer: asyncio.Future[Joined]) -> int:
        """A member is there, and waits for all others to come."""
        if id and id not in self._members:
            return FENCED_INSTANCE if instance in self._instances else UNKNOWN_MEMBER
        before = None if id or instance is None else self._instances.get(instance)
        if not id:
            id = f"member-{next(self._numbers):04}"
            self._members[id] = _Member(id) if before is None else self._replaced(before, id)
            if instance is not None:
                self._instances[instance] = id
        member = self._members[id]
        member.metadata = metadata
        self._attend(member)
        if before is not None and self._state == "stable":
            # Who was here already, under another name, goes on with what it had, and leads nobody for now.
            _answer(answer, Joined(id, self.generation, None))
            return OK
        member.join = answer
        self._gather()
        return OK

    def _replaced(self, old: str, new: str) -> _Member:
        """The static member under its new name: it keeps its place, what it was given, and the lead."""
        before = self._members.pop(old)
        if before.session is not None:
            before.session.cancel()
        if self._leader == old:
            self._leader = new
        self._awards = {(new if id == old else id): award for id, award in self._awards.items()}
        return _Member(new)

    def sync(self, id: str, generation: int, awards: Mapping[str, Any] | None, answer: Any) -> int:
        """A member waits for its award; the leader brings them."""
        if code := self._refused(id, generation):
            return code
        if self._state == "joining":
            return REBALANCING
        self._members[id].sync = answer
        if awards is not None:
            self._awards, self._state = awards, "stable"
        if self._state == "stable":
            for member in self._members.values():
                if member.sync is not None:
                    _answer(member.sync, (OK, self._awards.get(member.id)))
                    member.sync = None
        return OK

    def heartbeat(self, id: str, generation: int) -> int:
        """A member lives."""
        if code := self._refused(id, generation):
            return code
        self._attend(self._members[id])
        return REBALANCING if self._state == "joining" else OK

    def leave(self, id: str) -> None:
        """A member goes, or nothing was heard of it for too long."""
        member = self._members.pop(id, None)
        if member is None:
            return
        self._forget(member)
        for member in self._members.values():
            if member.sync is not None:
                _answer(member.sync, (REBALANCING, None))
                member.sync = None
        self._gather()

    def _forget(self, member: _Member) -> None:
        if member.session is not None:
            member.session.cancel()
        self._instances = {name: id for name, id in self._instances.items() if id != member.id}

    def _refused(self, id: str, generation: int) -> int:
        if id not in self._members:
            return UNKNOWN_MEMBER
        return OK if generation == self.generation else ILLEGAL_GENERATION

    def _attend(self, member: _Member) -> None:
        """Begin a member's session anew."""
        if member.session is not None:
            member.session.cancel()
        member.session = after(SESSION, lambda: self._silent(member))

    def _silent(self, member: _Member) -> None:
        if member.join is None:  # one that waits is not expected to say anything
            self.leave(member.id)

    def _gather(self) -> None:
        """Have all members come; those that do not in time are no members any more."""
        if self._state != "joining":
            self._state = "joining"
            self._patience = after(REBALANCE, self._go_on_without)
        if all(member.join is not None for member in self._members.values()):
            self._come_together()

    def _go_on_without(self) -> None:
        for member in [member for member in self._members.values() if member.join is None]:
            del self._members[member.id]
            self._forget(member)
        self._come_together()

    def _come_together(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self.generation += 1
        self._state = "syncing" if self._members else "stable"
        if self._leader not in self._members:
            self._leader = min(self._members, default="")
        everything = {member.id: member.metadata for member in self._members.values()}
        for member in self._members.values():
            assert member.join is not None
            metadata = everything if member.id == self._leader else None
            _answer(member.join, Joined(member.id, self.generation, metadata))
            member.join = None
            self._attend(member)


def _answer(future: asyncio.Future[Any], answer: Any) -> None:
    after(0.0, lambda: future.done() or future.set_result(answer))

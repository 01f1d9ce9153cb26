"""What the state of a key is: answered by the lane that has it, here or in another engine.

An answer is what the lane has committed, with where it stood then. A query that came from another engine is
never sent on again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from reflow_kafka.clock import monotonic
from reflow_kafka.engine.owners import Owner, Owners
from reflow_kafka.engine.runner import Runner
from reflow_kafka.errors import StateUnavailable, UsageError
from reflow_kafka.lane.peek import AsOf, asked_for, decoder, lanes_of
from reflow_kafka.topology.plan import Node

PAUSE: Final = (0.05, 1.0)
"""Seconds between two tries of a query that waits for its lane."""


class NoSuchStage(UsageError):
    """Nothing by this name keeps state that can be asked for."""


class NotHere(StateUnavailable):
    """Another engine has sent the query here, and the lane is not here."""


class OwnerSilent(StateUnavailable):
    """The owner of the lane has not answered in time."""


class Query(msgspec.Struct, frozen=True):
    """What is asked for."""

    stage: str
    key: bytes
    store: str | None = None
    """A named store of the stage; None: its state."""
    flow: str | None = None
    """None: there is only one with such a stage."""


class Question(msgspec.Struct, frozen=True):
    """What one engine asks another."""

    query: Query
    lane: int
    incarnation: str
    """Of the lane that is meant."""


class Answer(msgspec.Struct, frozen=True):
    """What there is to tell of a key, as it travels."""

    flow: str
    stage: str
    key: str
    """As text; bytes that are none are escaped."""
    found: bool
    value: msgspec.Raw
    """JSON; null if nothing was found."""
    as_of: AsOf


@dataclass(frozen=True, slots=True)
class Lookup:
    """What `Engine.lookup` tells of a key."""

    value: Any
    """None if there is nothing."""
    found: bool
    lane: int
    """The lane that has answered, as it stood after its last commit."""
    offset: int
    """Of the changelog of the stage in this lane: all records before it are in the answer."""
    positions: Mapping[str, int]
    """Of the topics that the stage reads: all events before these offsets are in the answer."""


class Others(Protocol):
    """The other engines."""

    async def ask(self, address: str, question: Question) -> Answer:
        """Ask one of them.

        Raises:
            NotHere: it does not run the lane, or nobody is there.
            StateUnavailable: it cannot answer, or does not.
        """


@dataclass(frozen=True, slots=True)
class _Target:
    """A query, and the stage that it is for."""

    query: Query
    runner: Runner
    node: Node

    def lanes(self) -> tuple[int, ...]:
        """Where the answer may be."""
        return lanes_of(self.runner.env.plan, self.node, self.query.key, self.query.store)

    def here(self, lane: int, incarnation: str = "") -> Answer | None:
        """The answer of a lane that runs in this engine."""
        key = self.query.key
        seen = self.runner.look(self.node, lane, key, self.query.store, incarnation)
        if seen is None:
            return None
        found, as_of = seen
        value = msgspec.Raw(b"null" if found is None else found)
        text = key.decode("utf-8", "backslashreplace")
        return Answer(self.runner.name, self.node.name, text, found is not None, value, as_of)

    def read(self, answer: Answer) -> Lookup:
        """The answer as the program gets it."""
        value = None
        if answer.found:
            value = decoder(self.node, self.query.key, self.query.store)(bytes(answer.value))
        as_of = answer.as_of
        return Lookup(value, answer.found, as_of.lane, as_of.offset, as_of.positions)


class Queries:
    """Answers queries about the flows of an engine.

    Args:
        runners: of the engine; they are added while it starts.
    """

    def __init__(self, runners: Sequence[Runner]) -> None:
        self.others: Others | None = None
        """None: only lanes that run here can be asked."""
        self._runners = runners
        self._owners: dict[str, Owners] = {}

    async def lookup(self, query: Query, timeout: float) -> Lookup:
        """Ask, for as long as `timeout` says while nobody can answer."""
        target = self._find(query)
        until = monotonic() + timeout
        pause = PAUSE[0]
        while True:
            try:
                async with asyncio.timeout(max(until - monotonic(), 0)):
                    return target.read(await self._ask(target))
            except TimeoutError:
                raise OwnerSilent(
                    f"nobody has told of {query.key!r} in {query.stage!r} within {timeout:g} s"
                ) from None
            except StateUnavailable:
                if monotonic() + pause > until:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE[1])

    async def ask(self, query: Query) -> Answer:
        """The answer of whoever can give it, at once.

        Raises:
            NoSuchStage: the stage is not there, or keeps nothing.
            UsageError: several flows have such a stage.
            StateUnavailable: nobody can tell just now.
        """
        return await self._ask(self._find(query))

    def answer(self, question: Question) -> Answer:
        """The answer to another engine, if the lane is here.

        Raises:
            NoSuchStage: the stage is not there, or keeps nothing.
            NotHere: the lane does not run here.
        """
        answer = self._find(question.query).here(question.lane, question.incarnation)
        if answer is None:
            raise NotHere(f"lane {question.lane} of {question.query.flow!r} does not run here")
        return answer

    # ---- inside

    def _find(self, query: Query) -> _Target:
        stage, store, flow = query.stage, query.store, query.flow
        runners = [r for r in self._runners if flow in (None, r.name)]
        nodes = [(r, n) for r in runners for n in r.env.plan.all_nodes if asked_for(n, store)]
        found = [(r, n) for r, n in nodes if n.name == stage]
        if len(found) == 1:
            return _Target(query, *found[0])
        if found:
            names = ", ".join(runner.name for runner, _ in found)
            raise UsageError(f"found stage {stage!r} in several flows ({names}): say flow=")
        if not self._runners:
            raise StateUnavailable("the engine is starting, or stops")
        if not runners:
            there = ", ".join(runner.name for runner in self._runners)
            raise NoSuchStage(f"found no flow {flow!r}, there is {there}")
        what = "state" if store is None else f"a store {store!r}"
        there = ", ".join(sorted(node.name for _, node in nodes)) or "none"
        raise NoSuchStage(f"found no stage {stage!r} with {what}, there is {there}")

    async def _ask(self, target: _Target) -> Answer:
        first, *others = target.lanes()
        answer = await self._of_lane(target, first)
        for lane in others:
            if answer.found:
                break
            other = await self._of_lane(target, lane)
            answer = other if other.found else answer
        return answer

    async def _of_lane(self, target: _Target, lane: int) -> Answer:
        answer = target.here(lane)
        if answer is not None:
            return answer
        runner = target.runner
        owners = self._owners.setdefault(runner.name, Owners(runner.env))
        owner = await owners.of(lane)
        try:
            return await self._of_other(target, lane, owner)
        except NotHere:  # somebody has taken over since
            owner = await owners.of(lane, not_=owner)
        try:
            return await self._of_other(target, lane, owner)
        except NotHere as error:  # that is between two engines; to whoever has asked, the lane is nowhere
            raise StateUnavailable(str(error)) from error

    async def _of_other(self, target: _Target, lane: int, owner: Owner) -> Answer:
        runner = target.runner
        if owner.http == runner.env.http:
            raise NotHere(f"lane {lane} of {runner.name!r} moves, or restores its state")
        if self.others is None:
            raise StateUnavailable(
                f"lane {lane} of {runner.name!r} runs in the engine at {owner.http}, and this one, without "
                "http=, asks no others"
            )
        query = msgspec.structs.replace(target.query, flow=runner.name)
        return await self.others.ask(owner.http, Question(query, lane, owner.incarnation))

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
from reflow_kafka.lane.peek import AsOf, can_be_asked, decoder, lanes_of
from reflow_kafka.serde.keys import encode_key
from reflow_kafka.topology.plan import Node

PAUSE: Final = (0.05, 1.0)
"""Seconds between two tries of a query that waits for its lane."""


class NoSuchStage(UsageError):
    """Nothing by this name keeps state that can be asked for."""


class NotHere(StateUnavailable):
    """Another engine has sent the query here, and the lane is not here."""


class OwnerSilent(StateUnavailable):
    """The owner of the lane has not answered in time."""


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


class Question(msgspec.Struct, frozen=True):
    """What one engine asks another."""

    flow: str
    stage: str
    key: bytes
    lane: int
    incarnation: str


class Others(Protocol):
    """The other engines."""

    async def ask(self, address: str, question: Question) -> Answer:
        """Ask one of them.

        Raises:
            NotHere: it does not run the lane, or nobody is there.
            StateUnavailable: it cannot answer, or does not.
        """


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

    # ---- from the program

    async def lookup(self, stage: str, key: object, flow: str | None, timeout: float) -> Lookup:
        """Ask, for as long as `timeout` says while nobody can answer."""
        raw = encode_key(key)
        if raw is None:
            raise UsageError(
                f"found no key to ask stage {stage!r} for, wanted one: without key there is no state"
            )
        runner, node = self._find(stage, flow)
        until = monotonic() + timeout
        pause = PAUSE[0]
        while True:
            try:
                async with asyncio.timeout(max(until - monotonic(), 0)):
                    return _lookup(node, await self._ask(runner, node, raw))
            except TimeoutError:
                raise OwnerSilent(
                    f"nobody told the state of {key!r} in {stage!r} within {timeout:g} s"
                ) from None
            except StateUnavailable:
                if monotonic() + pause > until:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE[1])

    # ---- from elsewhere

    async def ask(self, stage: str, key: bytes, flow: str | None = None) -> Answer:
        """The answer of whoever can give it, at once.

        Raises:
            NoSuchStage: the stage is not there, or keeps nothing.
            UsageError: several flows have such a stage.
            StateUnavailable: nobody can tell just now.
        """
        return await self._ask(*self._find(stage, flow), key)

    def answer(self, question: Question) -> Answer:
        """The answer to another engine, if the lane is here.

        Raises:
            NoSuchStage: the stage is not there, or keeps nothing.
            NotHere: the lane does not run here.
        """
        runner, node = self._find(question.stage, question.flow)
        answer = _here(runner, node, question.lane, question.key, question.incarnation)
        if answer is None:
            raise NotHere(f"lane {question.lane} of {question.flow!r} does not run here")
        return answer

    # ---- inside

    def _find(self, stage: str, flow: str | None) -> tuple[Runner, Node]:
        runners = [r for r in self._runners if flow in (None, r.name)]
        found = [(r, n) for r in runners for n in r.env.plan.all_nodes if n.name == stage and can_be_asked(n)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(runner.name for runner, _ in found)
            raise UsageError(f"found stage {stage!r} in several flows ({names}): say flow=")
        if not self._runners:
            raise StateUnavailable("the engine is starting, or stops")
        if not runners:
            there = ", ".join(runner.name for runner in self._runners)
            raise NoSuchStage(f"found no flow {flow!r}, there is {there}")
        stages = sorted(n.name for r in runners for n in r.env.plan.all_nodes if can_be_asked(n))
        raise NoSuchStage(f"found no stage {stage!r} with state, there is {', '.join(stages) or 'none'}")

    async def _ask(self, runner: Runner, node: Node, key: bytes) -> Answer:
        answer: Answer | None = None
        for lane in lanes_of(runner.env.plan, node, key):
            other = await self._of_lane(runner, node, lane, key)
            if other.found or answer is None:
                answer = other
            if answer.found:
                break
        assert answer is not None  # a stage has a lane
        return answer

    async def _of_lane(self, runner: Runner, node: Node, lane: int, key: bytes) -> Answer:
        answer = _here(runner, node, lane, key)
        if answer is not None:
            return answer
        owners = self._owners.setdefault(runner.name, Owners(runner.env))
        owner = await owners.of(lane)
        try:
            return await self._of_other(owner, runner, node, lane, key)
        except NotHere:  # somebody has taken over since
            owner = await owners.of(lane, not_=owner)
        try:
            return await self._of_other(owner, runner, node, lane, key)
        except NotHere as error:  # that is between two engines; to whoever has asked, the lane is nowhere
            raise StateUnavailable(str(error)) from error

    async def _of_other(self, owner: Owner, runner: Runner, node: Node, lane: int, key: bytes) -> Answer:
        if owner.http == runner.env.http:
            raise NotHere(f"lane {lane} of {runner.name!r} moves, or restores its state")
        if self.others is None:
            raise StateUnavailable(
                f"lane {lane} of {runner.name!r} runs in the engine at {owner.http}, and this one, without "
                "http=, asks no others"
            )
        question = Question(runner.name, node.name, key, lane, owner.incarnation)
        return await self.others.ask(owner.http, question)


def _lookup(node: Node, answer: Answer) -> Lookup:
    value = decoder(node)(bytes(answer.value)) if answer.found else None
    as_of = answer.as_of
    return Lookup(value, answer.found, as_of.lane, as_of.offset, as_of.positions)


def _here(runner: Runner, node: Node, lane: int, key: bytes, incarnation: str = "") -> Answer | None:
    seen = runner.look(node, lane, key, incarnation)
    if seen is None:
        return None
    raw, as_of = seen
    text = key.decode("utf-8", "backslashreplace")
    return Answer(
        runner.name, node.name, text, raw is not None, msgspec.Raw(b"null" if raw is None else raw), as_of
    )

"""The life of a lane in this engine: take over, work, and after any failure take over again.

    waiting ──► taking over ──► running ──► stopped
       ▲             │             │
       └── back-off ─┴─────────────┘   any error of the log, any doubt

A lane goes on by itself after everything that a new writer and a fresh look at the log can heal. What they
cannot heal (data loss, missing permission, a flow that says stop, a broken disk) ends the lane with that
error, and the engine with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections.abc import Callable
from typing import Final

from reflow_kafka.clock import monotonic
from reflow_kafka.errors import (
    DataLoss,
    FlowStopped,
    LaneLost,
    LogDoubt,
    LogError,
    NotPermitted,
    RecordRefused,
    ReflowError,
    StateError,
    TopologyMismatch,
)
from reflow_kafka.lane.clock import WorkClock
from reflow_kafka.lane.env import LaneEnv, place_logger
from reflow_kafka.lane.peek import AsOf
from reflow_kafka.lane.refusals import Refusals
from reflow_kafka.lane.resources import open_for_workers
from reflow_kafka.lane.session import Session
from reflow_kafka.lane.takeover import Ownership, take_over
from reflow_kafka.lane.work import Queue, Tally
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.topology.plan import Node

log = logging.getLogger(__name__)

BACKOFF: Final = (0.1, 5.0)
PROOF_AGE: Final = 6.7
"""Seconds (two thirds of the session time-out) for which an answered heartbeat proves the assignment."""
STUCK_AFTER: Final = 5
"""Take-overs without progress after which a lane counts as stuck."""
STEADY: Final = 60.0
"""Seconds of running after which former failures no longer count: an idle lane does not move."""
FATAL: Final = (DataLoss, FlowStopped, NotPermitted, StateError, TopologyMismatch)


class Phase(enum.Enum):
    """Where a lane stands."""

    WAITING = "waiting"
    TAKING_OVER = "taking over"
    RUNNING = "running"
    STOPPED = "stopped"


class Lane:
    """One lane of one flow, for as long as it is assigned to this engine."""

    def __init__(self, env: LaneEnv, number: int) -> None:
        self.number = number
        self.phase = Phase.WAITING
        self.take_overs = 0
        self.restored = 0
        """Changelog records read at the last take-over."""
        self._took = 0.0
        self._env = env
        self._log = place_logger(log, flow=env.plan.flow.name, lane=number)
        self._session: Session | None = None
        self._refusals = Refusals()
        self._stopping = asyncio.Event()
        self._lost = False
        """Whether the last take-over found that data are lost."""
        self._failures = 0
        self._failed_at = float("-inf")
        self._stuck_since: float | None = None
        self._past: dict[str, Tally] = {}
        self._past_commits = 0

    @property
    def stuck(self) -> bool:
        """Whether it is taken over again and again without moving."""
        return self._failures >= STUCK_AFTER

    @property
    def commits(self) -> int:
        """Commits since this engine was given the lane."""
        return self._past_commits + (self._session.committer.commits if self._session else 0)

    @property
    def remaining(self) -> int:
        """Offsets of external inputs still before the end of a finite run."""
        return self._session.remaining() if self._session else 0

    def tallies(self) -> dict[str, Tally]:
        """Counts per stage since this engine was given the lane."""
        total: dict[str, Tally] = {}
        for name, tally in self._past.items():
            total.setdefault(name, Tally()).add(tally)
        for work in self._session.works if self._session else ():
            for name, tally in work.tallies().items():
                total.setdefault(name, Tally()).add(tally)
        return total

    def queues(self) -> dict[str, Queue]:
        """What is in hand at this moment, per stage."""
        return {work.node.name: work.queue() for work in self._session.works} if self._session else {}

    def caught_up(self, end: Callable[[TopicPartition], int], before: float) -> bool:
        """Whether it has done everything below the ends of its inputs; see `Session.caught_up`."""
        return self._session is not None and self._session.caught_up(end, before)

    @property
    def clocks(self) -> list[WorkClock]:
        """The clocks of its stages, while it runs."""
        return self._session.clocks if self._session else []

    def expect(self, timestamp: int) -> None:
        """No older events come any more from its sources."""
        if self._session:
            self._session.expect(timestamp)

    def keep_time(self) -> bool:
        """Note how far time has come in each stage, and tell; False while it does not run."""
        return self._session is not None and self._session.keep_time()

    def look(
        self, node: Node, key: bytes, store: str | None, incarnation: str = ""
    ) -> tuple[bytes | None, AsOf] | None:
        """What is committed of a key in a stage; None while the lane does not run here.

        With `incarnation`, None also if this is not the lane that is meant but one of the same name.
        """
        session = self._session
        if session is None or self.number not in self._env.membership.wanted():
            return None
        if incarnation not in ("", session.own.record.incarnation):
            return None
        return session.look(node, key, store)

    def stop(self) -> None:
        """Finish what is in progress, commit, end; `run` returns then."""
        self._stopping.set()
        if self._session is not None:
            self._session.stop()

    async def run(self) -> None:
        """Keep the lane going until `stop`; raises only what cannot heal."""
        try:
            while not self._stopping.is_set():
                try:
                    own = await self._take_over()
                    if own is None:
                        return
                    await self._work(own)
                except Exception as error:
                    if (task := asyncio.current_task()) is not None and task.cancelling():
                        # Something failed just then; a TaskGroup tells of that, not of the cancellation.
                        raise asyncio.CancelledError from error
                    await self._heal(_cause(error))
        finally:
            self.phase = Phase.STOPPED

    async def _proven(self) -> bool:
        """Wait for a proof of assignment younger than the last failure; False if the lane is to stop."""
        began = monotonic()
        while not self._stopping.is_set():
            membership = self._env.membership
            proof = membership.proof()
            fresh = proof > self._failed_at and monotonic() - proof < PROOF_AGE
            # A lane that is no longer wanted will be stopped; a take-over would only disturb its new owner.
            if fresh and self.number in membership.wanted():
                if self._stuck_since is not None:  # a broker that is away does not make a lane stuck
                    self._stuck_since += monotonic() - began
                return True
            await self._pause(0.05)
        return False

    async def _take_over(self) -> Ownership | None:
        """Take the lane over when its turn comes; None if it is to stop."""
        self.phase = Phase.WAITING
        async with self._env.taking_over:
            if not await self._proven():
                return None
            self.phase = Phase.TAKING_OVER
            began = monotonic()
            own = await self._owned()
        self.take_overs += 1
        self.restored = sum(own.restored.records.values())
        self._took = monotonic() - began
        return own

    async def _owned(self) -> Ownership:
        """Take the lane over. Data must seem to be lost twice.

        They do, too, to an owner that is fenced while it looks: the lane record of its successor tells of a
        commit whose changelog is not marked yet. The next look is after a new fence.
        """
        try:
            own = await take_over(self._env, self.number)
        except DataLoss as error:
            if self._lost:
                raise
            self._lost = True
            raise LogDoubt(str(error)) from error
        self._lost = False
        return own

    async def _work(self, own: Ownership) -> None:
        """Work, until the lane is to stop or something fails."""
        async with contextlib.AsyncExitStack() as stack:
            session = await self._session_of(own, stack)
            self._log.info(
                "running (taken over in %.2f s, %d changelog records read%s)",
                self._took,
                self.restored,
                f", in full: {own.restored.reason}" if own.restored.reason else "",
            )
            self._session = session
            self.phase = Phase.RUNNING
            if self._stopping.is_set():
                session.stop()
            try:
                await session.run()
            finally:
                self._remember(session)
                self._session = None
                self.phase = Phase.WAITING
                await session.close()

    async def _session_of(self, own: Ownership, stack: contextlib.AsyncExitStack) -> Session:
        env = self._env
        try:
            resources = await open_for_workers(env.plan, self.number, stack, env.resources)
            return Session(env, self.number, own, self._refusals, resources)
        except BaseException:
            own.restored.stores.close()
            await own.writer.close()
            raise

    def _remember(self, session: Session) -> None:
        for work in session.works:
            for name, tally in work.tallies().items():
                self._past.setdefault(name, Tally()).add(tally)
        self._past_commits += session.committer.commits
        if session.committer.moved or monotonic() - session.began > STEADY:
            self._failures = 0
            self._stuck_since = None

    async def _heal(self, error: BaseException) -> None:
        """Decide what a failure means, and wait a little before the next try."""
        if isinstance(error, FATAL):
            raise error
        if isinstance(error, RecordRefused):  # no doubt about the lane, and each try halves what is suspected
            self._log.warning("%s; looking for the events that led to it", error)
            return
        self._failed_at = monotonic()
        self._failures += 1
        if self._stuck_since is None:
            self._stuck_since = self._failed_at
        elif self.stuck and self._failed_at - self._stuck_since > self._env.stuck_timeout:
            raise FlowStopped(
                f"{self}: taken over {self._failures} times in {self._env.stuck_timeout:g} s without moving; "
                f"last error: {type(error).__name__}: {error}"
            ) from error
        delay = min(BACKOFF[0] * 2 ** (self._failures - 1), BACKOFF[1])
        if isinstance(error, LaneLost):
            self._log.info("lost (%s); again in %.1f s if still assigned", error, delay)
        elif isinstance(error, LogError | ReflowError):
            self._log.warning("%s: %s; taking over again in %.1f s", type(error).__name__, error, delay)
        else:
            self._log.error("unexpected; taking over again in %.1f s", delay, exc_info=error)
        await self._pause(delay)

    async def _pause(self, delay: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stopping.wait()

    def __str__(self) -> str:
        return f"lane {self.number} of {self._env.plan.flow.name!r}"


def _cause(error: BaseException) -> BaseException:
    """The one error that matters of a group: a fatal one if there is one, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_cause(inner) for inner in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, FATAL)), leaves[0])

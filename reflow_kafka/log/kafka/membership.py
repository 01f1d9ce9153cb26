"""Membership in a flow's consumer group, as the engine's main loop sees it.

The work is done by a `GroupMember` on a thread of its own, so that a handler which blocks the main loop does
not cost the membership.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from reflow_kafka.errors import BrokerUnavailable, ReflowError
from reflow_kafka.log.api import MemberOptions
from reflow_kafka.log.kafka.member import GroupMember, MemberTimes
from reflow_kafka.log.kafka.private_group import self_test
from reflow_kafka.observe.stack import standing
from reflow_kafka.observe.stall import ADVICE

logger = logging.getLogger(__name__)

_START_TIMEOUT = 30.0  # to reach the coordinator; after that the other members may take their time
_STOP_TIMEOUT = 8.0


class KafkaMembership:
    """The `Membership` of this process in the consumer group named like the flow.

    Args:
        bootstrap: addresses of brokers.
        options: how this member presents itself.
        client_options: aiokafka's options for the connections.
        max_stall: seconds without `alive` after which the group is left.
        session_timeout: seconds without heartbeat after which the broker gives this member up.
        heartbeat_interval: seconds between heartbeats; by the next one a member learns of a rebalance.
        rebalance_timeout: seconds that a rebalance waits for a member.
    """

    def __init__(
        self,
        bootstrap: str,
        options: MemberOptions,
        *,
        client_options: Mapping[str, Any] | None = None,
        max_stall: float = 300.0,
        session_timeout: float = 10.0,
        heartbeat_interval: float = 1.0,
        rebalance_timeout: float = 60.0,
    ) -> None:
        self._where = f"group {options.flow!r} at {bootstrap}"
        self._max_stall, self._stalled = max_stall, 0.0
        self._join_timeout = rebalance_timeout + session_timeout
        times = MemberTimes(session_timeout, heartbeat_interval, rebalance_timeout)
        self._member = GroupMember(
            bootstrap, options, client_options or {}, times, notify=self._notify, watch=self._watch
        )
        self._main_thread = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._version = 0
        # Per task, so that what one has taken note of is still news to the others.
        self._told: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()
        self._told_at_start = 0
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def run(self) -> str:
        """Identity of this run of the flow; empty for who came after its end and waits for the next one."""
        return self._member.run

    async def start(self) -> None:
        """Join; returns once the first assignment is known.

        Raises:
            BrokerUnavailable: it was not known within the time limit.
            NotPermitted: authorisation.
        """
        self_test()
        self._loop = asyncio.get_running_loop()
        self._main_thread = threading.get_ident()
        self._member.start()
        began = time.monotonic()
        try:
            while not self._member.awarded:
                self.alive()
                if self._member.error is not None:
                    raise self._member.error
                joining = self._member.joining
                limit = _START_TIMEOUT + (self._join_timeout if joining else 0.0)
                if time.monotonic() - began > limit:
                    why = "its other members did not come together" if joining else "no answer"
                    raise BrokerUnavailable(f"{self._where} could not be joined within {limit:g} s: {why}")
                await self._news(timeout=0.5)
        except BaseException:
            await self.stop()
            raise
        self._told_at_start = self._version

    def wanted(self) -> frozenset[int]:
        """The lanes this member should run now; none while it is not certain that it still is a member."""
        return self._member.wanted()

    def standbys(self) -> frozenset[int]:
        """The lanes of others to keep a copy of."""
        return self._member.standbys()

    def lags(self, lags: Mapping[int, int | None]) -> None:
        """How many records the copies of lanes are behind their owners; None: unknown."""
        self._member.lags(lags)

    async def changed(self) -> None:
        """Returns when something has changed since it last returned to this task, or since `start`.

        Raises:
            ReflowError: membership is lost for good.
        """
        task = asyncio.current_task()
        assert task is not None
        while self._told.get(task, self._told_at_start) == self._version and self._member.error is None:
            await self._news()
        if self._member.error is not None:
            raise self._member.error.with_traceback(None)
        self._told[task] = self._version

    def released(self, lane: int) -> None:
        """The lane's work has stopped here; it may be given to another member."""
        self._member.released(lane)

    def proof(self) -> float:
        """When the last heartbeat that was answered had been *sent*; -inf if this is no member at present."""
        return self._member.proof()

    def alive(self) -> None:
        """The main loop makes progress."""
        self._stalled = 0.0

    def end_run(self) -> None:
        """Announce that this run has ended: no lane is assigned in it after this."""
        self._member.end_run()

    async def stop(self) -> None:
        """Leave the group and end the thread, within a few seconds; never raises.

        A static member leaves too: who is stopped on purpose is not waited for. One that crashes is, until
        its session ends.
        """
        self._member.leave()
        deadline = time.monotonic() + _STOP_TIMEOUT
        while self._member.running:
            if time.monotonic() > deadline:
                logger.warning("%s: the membership's thread did not end in time", self._where)
                break
            await asyncio.sleep(0.01)

    def _watch(self, elapsed: float) -> ReflowError | None:
        """Called on the member's thread: does the main loop still make progress?"""
        self._stalled += elapsed
        if self._stalled <= self._max_stall:
            return None
        stands = standing(self._main_thread)
        assert stands is not None, "the thread of the loop does not end before this one"
        who = stands.place or "what runs there"
        return ReflowError(
            f"{who} has blocked the loop for {self._max_stall:g} s, at {stands.line}, so this engine has "
            f"left {self._where} and its lanes go to others; {ADVICE}. "
            f"This is where it stands:\n{stands.stack}"
        )

    def _notify(self) -> None:
        """Called on any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the main loop is closed
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._version += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _news(self, timeout: float | None = None) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            self._waiters.discard(waiter)

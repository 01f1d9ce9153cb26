"""A member of a flow's consumer group, on its own thread and event loop.

A consumer subscribes to ``<flow>.progress`` alone and never reads; partition p of that topic stands for lane
p. Who gets which lane is decided in `assignor`; claims and awards travel as the group protocol's user data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from reflow_kafka.errors import NotPermitted, ReflowError
from reflow_kafka.log.api import MemberOptions
from reflow_kafka.log.kafka.claim import Award, Claim
from reflow_kafka.log.kafka.errors import classify, describe, root
from reflow_kafka.log.kafka.holding import Holding
from reflow_kafka.log.kafka.private_group import Kind, LaneAssignor, PrivateGroup

logger = logging.getLogger(__name__)

_TICK = 0.25
_CONNECT_TIMEOUT = 15.0
_RELEASE_TIMEOUT = 15.0  # the engine's own limit is 10 s: this is the net below it
_STUCK = 30.0  # without an award and without asking for one: begin anew
_BACKOFF, _MAX_BACKOFF = 0.1, 5.0

# Error codes of the Kafka protocol.
_OK, _REBALANCING, _NOT_PERMITTED = 0, 27, 30
_FORGOTTEN = frozenset({22, 25, 82})  # illegal generation, unknown member, fenced instance
_FOR_GOOD = {
    23: "group {flow!r} is in use by consumers of another kind: stop them, or give the flow another name",
    24: "the broker refuses {flow!r} as a group id",
    26: "the broker refuses a session time-out of {session:g} s: it must lie between the broker's settings "
    "group.min.session.timeout.ms and group.max.session.timeout.ms",
    _NOT_PERMITTED: "this user is not permitted to join group {flow!r}: it needs READ on the group",
    82: "another process has joined group {flow!r} with instance id {instance!r}: each engine needs its own",
}


class MemberTimes(NamedTuple):
    """Time limits in seconds."""

    session: float
    heartbeat: float
    rebalance: float


class GroupMember:
    """Joins the group, comes back whenever it falls out of it, and knows what it may run at this moment.

    Public methods may be called from any thread. `notify` is called, on any thread, when something changed.
    `watch` is called often, on the member's thread, with the seconds gone by; what it returns ends it all.
    """

    def __init__(
        self,
        bootstrap: str,
        options: MemberOptions,
        client_options: Mapping[str, Any],
        times: MemberTimes,
        notify: Callable[[], None],
        watch: Callable[[float], ReflowError | None],
    ) -> None:
        self._options, self._times, self._notify, self._watch = options, times, notify, watch
        self._flow, self._topic = options.flow, f"{options.flow}.progress"
        self._consumer_options: dict[str, Any] = {
            **client_options,
            "bootstrap_servers": bootstrap,
            "group_id": options.flow,
            "group_instance_id": options.instance,
            "enable_auto_commit": False,
            "session_timeout_ms": int(times.session * 1000),
            "heartbeat_interval_ms": int(times.heartbeat * 1000),
            "rebalance_timeout_ms": int(times.rebalance * 1000),
            "max_poll_interval_ms": 2**31 - 1,  # nothing is ever polled
            # An answer that does not come is given up while there is still time for another try.
            "request_timeout_ms": int(times.session * 1000 * 2 / 3),
            "retry_backoff_ms": 250,
        }
        self.error: ReflowError | None = None
        """Why membership is lost for good."""
        self._lock = threading.Lock()
        self._holding = Holding(options, socket.gethostname())
        self._valid = False  # the last award still counts
        self._confirmed = -math.inf
        self._ticked = math.inf
        self._leaving = False
        self._overruled = ""
        self._group: PrivateGroup | None = None
        self._kicked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._live, name=f"member of {options.flow}", daemon=True)

    # --- from any thread

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the thread has not ended yet."""
        return self._thread.is_alive()

    @property
    def awarded(self) -> bool:
        """Whether an assignment was ever received."""
        return self._holding.award is not None

    @property
    def joining(self) -> bool:
        """Whether the coordinator has been asked and has not answered yet."""
        group = self._group
        return group is not None and group.joining

    @property
    def run(self) -> str:
        """Identity of the run."""
        return self._holding.run

    def wanted(self) -> frozenset[int]:
        """The lanes to run now."""
        with self._lock:
            self._check()
            return frozenset(self._holding.held)

    def standbys(self) -> frozenset[int]:
        """The lanes to keep copies of: as last awarded, as it does no harm to go on with that."""
        with self._lock:
            return self._holding.standbys

    def lags(self, lags: Mapping[int, int | None]) -> None:
        """How many records the copies are behind."""
        with self._lock:
            self._holding.lags(lags)

    def proof(self) -> float:
        """When the last confirmation was asked for; -inf if this is no member at present."""
        with self._lock:
            return self._confirmed if self._check() else -math.inf

    def released(self, lane: int) -> None:
        """The lane's work has stopped."""
        with self._lock:
            self._holding.released(lane)
            back = lane in self._holding.held
        if back:
            self._notify()  # it was asked for again meanwhile, and has to be opened again
        self._kick()

    def end_run(self) -> None:
        """Announce the end of the run."""
        with self._lock:
            self._holding.end_run()
        self._kick()

    def leave(self) -> None:
        """Leave the group and end the thread; returns at once."""
        self._leaving = True
        self._kick()

    def _kick(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # that loop is closed
                self._loop.call_soon_threadsafe(self._kicked.set)

    def _check(self) -> bool:
        """Whether the last award still counts; under the lock.

        Asked at every look: a process that was stopped must not trust what it held for even one moment.
        """
        now = time.monotonic()
        unseen = now - self._confirmed
        if self.joining:
            unseen = (
                0.0  # no heartbeats are sent while a join waits, but for as long the broker keeps the member
            )
        silent = max(unseen, now - self._ticked) > self._times.session
        if self._valid and (silent or self._is_over()):
            if silent:
                logger.warning("group %s: no heartbeat was answered in time", self._flow)
            self._lose(now)
        return self._valid

    def _lose(self, now: float) -> None:
        self._valid = False
        self._holding.lost(now)
        self._notify()

    def _is_over(self) -> bool:
        return self._leaving or self.error is not None

    # --- on the member's own thread

    def _live(self) -> None:
        try:
            asyncio.run(self._belong())
        except BaseException as error:
            logger.exception("%s: the membership's thread failed", self._flow)
            self._fail(ReflowError(f"membership in group {self._flow!r} failed: {error!r}"))

    async def _belong(self) -> None:
        """Be a member, with a new consumer whenever one has become of no use."""
        self._loop = asyncio.get_running_loop()
        self._ticked = time.monotonic()
        pause = _BACKOFF
        while not self._is_over():
            before = self._holding.award
            try:
                await self._consume()
            except Exception as error:
                if isinstance(refusal := classify(error, what=f"joining {self._flow!r}"), NotPermitted):
                    self._fail(refusal)
                if self.error is None:
                    logger.warning("group %s is joined anew: %s", self._flow, describe(root(error)))
            until = time.monotonic() + pause
            while not self._is_over() and time.monotonic() < until:
                await self._tick()
            pause = min(pause * 2, _MAX_BACKOFF) if before is self._holding.award else _BACKOFF

    async def _consume(self) -> None:
        assignor = LaneAssignor(self._topic, self._claim, self._follow)
        self._group = group = PrivateGroup(self._consumer_options, assignor, self._heard)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                await group.start()
            group.join(self._topic)
            well = time.monotonic()
            while not self._is_over():
                await self._tick()
                group.check()
                now = time.monotonic()
                if self._valid or group.joining:
                    well = now
                elif now - well > _STUCK:
                    raise TimeoutError(f"no assignment within {_STUCK:g} s")
                with self._lock:
                    ask, award = group.settled and self._holding.ask(now), self._holding.award
                if ask:
                    group.rejoin()
                elif group.joining or (award is not None and award.moving):
                    group.look()
        finally:
            self._group = None
            with self._lock:
                self._lose(time.monotonic())
            await group.close()

    async def _tick(self) -> None:
        """Wait a moment, or for news from the main loop, and see to what time brings with it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TICK):
                await self._kicked.wait()
        self._kicked.clear()
        with self._lock:
            self._check()
            now = time.monotonic()
            elapsed, self._ticked = now - self._ticked, now
            self._holding.stood_still(max(0.0, elapsed - 2 * _TICK))
            overdue = self._holding.overdue(now, _RELEASE_TIMEOUT)
            for lane in overdue:
                self._holding.released(lane)
        if overdue:
            text = "group %s: lanes %s are given up, not released within %g s"
            logger.error(text, self._flow, overdue, _RELEASE_TIMEOUT)
        # If the whole process was stopped, nobody is to blame for that time.
        if error := self._watch(min(elapsed, 2 * _TICK)):
            self._fail(error)

    def _heard(self, kind: Kind, sent: float, code: int) -> None:
        """An answer of the coordinator."""
        with self._lock:
            if (code == _OK and kind != "join") or (code == _REBALANCING and kind == "heartbeat"):
                self._confirmed = max(self._confirmed, sent)
            if code in _FORGOTTEN:
                self._lose(time.monotonic())
        if code in _FOR_GOOD:
            kind_of = NotPermitted if code == _NOT_PERMITTED else ReflowError
            instance, session = self._options.instance, self._times.session
            self._fail(kind_of(_FOR_GOOD[code].format(flow=self._flow, instance=instance, session=session)))

    def _claim(self) -> Claim:
        """What to tell the group."""
        with self._lock:
            return self._holding.claim()

    def _follow(self, award: Award | None) -> None:
        """An award has come, or something that is none."""
        if self._group is not None:
            self._group.hold_still()  # before anything else can run
        if award is None:
            raise ReflowError(f"group {self._flow!r} is led by a program of another kind or version")
        with self._lock:
            self._holding.awarded(award, time.monotonic())
            self._valid = not self._holding.misled
        if self._valid and award.plan not in (self._options.plan, self._overruled):
            self._overruled = award.plan
            logger.warning("group %s: lanes go to engines with a newer plan (%s)", self._flow, award.plan)
        self._kicked.set()
        self._notify()

    def _fail(self, error: ReflowError) -> None:
        self.error = self.error or error
        self._kicked.set()
        self._notify()

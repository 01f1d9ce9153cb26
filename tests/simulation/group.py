"""What stands in for the client's part in a group; all else of membership is real.

The lanes are divided by the real assignor, and a machine's part is the real `GroupMember`, only that it runs
on the simulated loop instead of a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaError

from reflow_kafka.errors import LogError, ReflowError
from reflow_kafka.log.kafka.member import GroupMember
from reflow_kafka.log.kafka.private_group import Kind, LaneAssignor
from tests.simulation.coordinator import (
    ILLEGAL_GENERATION,
    OK,
    REBALANCE,
    REBALANCING,
    UNKNOWN_MEMBER,
    Coordinator,
    Joined,
)
from tests.simulation.network import Network


class SimulatedGroup:
    """What `PrivateGroup` is to a `GroupMember`, over the simulated network."""

    def __init__(
        self, options: Mapping[str, Any], assignor: LaneAssignor, heard: Callable[[Kind, float, int], None]
    ) -> None:
        self.joining = False
        self.settled = False
        self._coordinator: Coordinator = options["coordinator"]
        self._network: Network = options["network"]
        self._interval = options["heartbeat_interval_ms"] / 1000
        self._timeout = options["request_timeout_ms"] / 1000
        self._assignor = assignor
        self._heard = heard
        self._instance: str | None = options["group_instance_id"]
        self._member, self._generation = "", 0
        self._known_as = ""
        self._again = asyncio.Event()
        self._coordinating: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect."""
        await self._call("connecting", lambda: None)

    def join(self, topic: str) -> None:
        """Take part from now on."""
        self._coordinating = asyncio.get_running_loop().create_task(self._coordinate(topic))

    def rejoin(self) -> None:
        """Make the whole group come together again."""
        self.settled = False
        self._again.set()

    def check(self) -> None:
        """Raise what has gone wrong for good."""
        assert self._coordinating is not None
        if self._coordinating.done():
            self._coordinating.result()

    def look(self) -> None:
        """Send a heartbeat out of turn."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())

    def hold_still(self) -> None:
        """Nothing is ever fetched."""

    async def close(self) -> None:
        """Leave."""
        tasks = {task for task in (self._looking, self._coordinating) if task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(LogError, TimeoutError):
            async with asyncio.timeout(2.0):
                await self._call("leaving", lambda: self._coordinator.leave(self._member))

    async def _call(self, what: str, effect: Callable[[], Any]) -> Any:
        async with asyncio.timeout(self._timeout):
            return await self._network.call(what, effect)

    async def _coordinate(self, topic: str) -> None:
        while True:
            try:
                await self._come(topic)
                await self._stay()
            except (LogError, TimeoutError, KafkaError):
                await asyncio.sleep(0.25)
            finally:
                self.joining = False

    async def _come(self, topic: str) -> None:
        """Join, and learn what this member is given."""
        self._again.clear()
        self.settled, self.joining = False, True
        sent = time.monotonic()
        joined: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        metadata = self._assignor.metadata([topic])
        id = self._name()
        code = await self._call(
            "joining", lambda: self._coordinator.join(id, self._instance, metadata, joined)
        )
        if self._failed("join", sent, code):
            return
        async with asyncio.timeout(REBALANCE + self._timeout):
            answer = await joined
        self._heard("join", sent, OK)
        self._member, self._generation = answer.member, answer.generation
        awards = None
        if answer.metadata is not None:
            cluster = SimpleNamespace(partitions_for_topic=lambda _: set(range(self._coordinator.lanes)))
            awards = self._assignor.assign(cluster, answer.metadata)
        sent = time.monotonic()
        synced: asyncio.Future[tuple[int, Any]] = asyncio.get_running_loop().create_future()
        code = await self._call(
            "syncing", lambda: self._coordinator.sync(self._member, self._generation, awards, synced)
        )
        if not code:
            async with asyncio.timeout(REBALANCE + self._timeout):
                code, award = await synced
        self.joining = False
        if self._failed("sync", sent, code):
            return
        self.settled = not self._again.is_set()
        self._heard("sync", sent, OK)
        self._assignor.on_assignment(award)

    def _name(self) -> str:
        """Under which to join: as in `PrivateGroup`, a static member asks under its old name first."""
        if self._member:
            self._known_as = self._member
        elif self._instance is not None:
            known_as, self._known_as = self._known_as, ""
            return known_as
        return self._member

    async def _stay(self) -> None:
        """Send heartbeats until the group has to come together again."""
        while self._generation and not self._again.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._again.wait()
            if not self._again.is_set():
                await self._beat()

    async def _beat(self) -> None:
        sent = time.monotonic()
        code = await self._call(
            "heartbeat", lambda: self._coordinator.heartbeat(self._member, self._generation)
        )
        if not self._failed("heartbeat", sent, code):
            self._heard("heartbeat", sent, OK)

    async def _look(self) -> None:
        sent, generation = time.monotonic(), self._generation
        with contextlib.suppress(LogError, TimeoutError):
            code = await self._call("look", lambda: self._coordinator.heartbeat(self._member, generation))
            if code not in {OK, REBALANCING}:
                return
            self._heard("heartbeat", sent, code)
            if code == REBALANCING and self.settled and generation == self._generation:
                self._again.set()

    def _failed(self, kind: Kind, sent: float, code: int) -> bool:
        """Whether an answer says that this member has to join again."""
        if code == OK:
            return False
        self._heard(kind, sent, code)
        if code in (UNKNOWN_MEMBER, ILLEGAL_GENERATION):
            self._member = "" if code == UNKNOWN_MEMBER else self._member
            self._generation = 0
        self._again.set()
        return True


class SimulatedMember(GroupMember):
    """A group member on the loop of its machine."""

    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._live_here())

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _live_here(self) -> None:
        try:
            await self._belong()
        except Exception as error:
            self._fail(ReflowError(f"membership failed: {error!r}"))
            raise

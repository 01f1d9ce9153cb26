"""Using the embedded log from a program that lives longer than workers do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Final, TypeVar

from reflow_kafka.errors import BrokerUnavailable, LogDoubt
from reflow_kafka.log.api import OutRecord, TopicPartition, TopicSpec
from reflow_kafka.log.embedded.client import RemoteLog
from reflow_kafka.log.embedded.lock import InUse, last_change
from reflow_kafka.log.embedded.log import EmbeddedLog
from reflow_kafka.log.embedded.protocol import DEADLINE
from reflow_kafka.log.embedded.service import LogClient, LogService, Page

T = TypeVar("T")

PAUSE: Final = 0.05
"""Seconds between two looks for a worker; for so long the log is free at least after it was open here."""
_TURNS: Final = 3
"""Of the event loop, in which it notices that a connection was closed."""


class RoamingLog:
    """A `LogClient` whose every call goes to whoever has the log open at that moment.

    That is the worker, if one runs. If not, the log is opened here for this one call, and closed again, so
    that a worker which starts finds it free. One call at a time: what waits for records wants one of its own.

    Args:
        data_dir: directory of the log.
        timeout: seconds after which a call gives up that finds the log neither served nor free.
    """

    def __init__(self, data_dir: Path, *, timeout: float = DEADLINE) -> None:
        self._data_dir = data_dir
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self._remote: RemoteLog | None = None
        self._free_from = 0.0
        self._nothing: tuple[str, int, int, int] | None = None  # what was read here in vain, and when

    async def close(self) -> None:
        """Hang up."""
        if self._remote is not None:
            await self._remote.close()
            self._remote = None

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int | None]:
        """How many partitions each topic has; None if it does not exist."""
        return await self._call(lambda log: log.partition_counts(topics))

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create topics that are missing."""
        return await self._call(lambda log: log.ensure_topics(topics))

    async def publish(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        """Append records.

        Raises:
            LogDoubt: the worker went away in the middle; they may be written.
        """
        await self._call(lambda log: log.publish(topic, partition, records), again=False)

    async def start_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset of the first record still kept."""
        return await self._call(lambda log: log.start_offsets(partitions))

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the last committed record."""
        return await self._call(lambda log: log.end_offsets(partitions))

    async def read(
        self, topic: str, partition: int, offset: int, max_records: int = 2000, timeout: float = 0.5
    ) -> Page:
        """Committed records from `offset` on; without a worker it looks once and does not wait."""
        if self._nothing == (topic, partition, offset, last_change(self._data_dir)):
            async with self._turn:
                remote = await self._reach()
            if remote is None:  # nobody has had it open since: it is not opened just to find nothing again
                await asyncio.sleep(min(timeout, PAUSE))
                return Page((), offset)

        async def read(log: LogClient) -> Page:
            wait = timeout if isinstance(log, RemoteLog) else 0
            return await log.read(topic, partition, offset, max_records=max_records, timeout=wait)

        page = await self._call(read)
        empty = self._remote is None and not page.records
        self._nothing = (topic, partition, page.next_offset, last_change(self._data_dir)) if empty else None
        return page

    async def _call(self, act: Callable[[LogClient], Awaitable[T]], *, again: bool = True) -> T:
        give_up = time.monotonic() + self._timeout
        async with self._turn:
            while True:
                try:
                    remote = await self._reach()
                    return await (self._opened(act) if remote is None else act(remote))
                except InUse:  # by a worker that is just starting or stopping
                    if time.monotonic() >= give_up:
                        raise
                except BrokerUnavailable as error:  # the worker has gone
                    if not again:
                        raise LogDoubt(f"{error}; what was to be written may be written") from error
                    if time.monotonic() >= give_up:
                        raise
                await asyncio.sleep(PAUSE)

    async def _reach(self) -> RemoteLog | None:
        """The worker that has the log open, if there is one."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if self._remote is None or not self._remote.alive():
            await self.close()
            remote = RemoteLog(self._data_dir)
            if await remote.connect():
                self._remote = remote
        return self._remote

    async def _opened(self, act: Callable[[LogClient], Awaitable[T]]) -> T:
        await asyncio.sleep(self._free_from - time.monotonic())
        log = EmbeddedLog(self._data_dir, serve=False)
        await log.start()
        try:
            return await act(LogService(log))
        finally:
            await log.stop()
            self._free_from = time.monotonic() + PAUSE

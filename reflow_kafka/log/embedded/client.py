"""Using the embedded log from any program: through the worker that has it open, or directly if none has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from reflow_kafka.errors import BrokerUnavailable, LogError
from reflow_kafka.log.api import OutRecord, TopicPartition, TopicSpec
from reflow_kafka.log.embedded.lock import InUse
from reflow_kafka.log.embedded.log import EmbeddedLog
from reflow_kafka.log.embedded.protocol import (
    DEADLINE,
    MAX_MESSAGE,
    RESULTS,
    Request,
    Response,
    error_of,
    receive,
    socket_file,
    transmit,
)
from reflow_kafka.log.embedded.service import MAX_READ_TIMEOUT, LogClient, LogService, Page

_encode = msgspec.msgpack.Encoder().encode


@asynccontextmanager
async def open_client(data_dir: Path, *, timeout: float = DEADLINE) -> AsyncIterator[LogClient]:
    """Access to the embedded log in `data_dir`.

    Raises:
        UsageError: another process has it open but does not answer within `timeout` s.
    """
    deadline = time.monotonic() + timeout
    while True:
        remote = RemoteLog(data_dir)
        if await remote.connect():
            try:
                yield remote
            finally:
                await remote.close()
            return
        log = EmbeddedLog(data_dir)
        try:
            await log.start()
        except InUse:
            # A worker that is just starting, or just stopping.
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
            continue
        try:
            yield LogService(log)
        finally:
            await log.stop()
        return


class RemoteLog:
    """A `LogClient` for a log that another process has open. One call at a time."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def connect(self) -> bool:
        """Reach the worker; False if there is none."""
        try:
            async with asyncio.timeout(DEADLINE):
                path = str(socket_file(self._data_dir))
                self._streams = await asyncio.open_unix_connection(path)
        except (OSError, TimeoutError):
            return False
        return True

    def alive(self) -> bool:
        """Whether it is connected, and the worker has not gone, as far as that is known."""
        return self._streams is not None and not self._streams[0].at_eof()

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int | None]:
        """How many partitions each topic has; None if it does not exist."""
        counts: dict[str, int | None] = await self._call("partition_counts", list(topics))
        return counts

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create external topics that are missing."""
        warnings: list[str] = await self._call("ensure_topics", list(topics))
        return warnings

    async def publish(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        """Append records."""
        await self._call("publish", topic, partition, list(records))

    async def start_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset of the first record still kept."""
        asked = list(dict.fromkeys(partitions))
        return dict(zip(asked, await self._call("start_offsets", asked), strict=True))

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset after the last committed record."""
        asked = list(dict.fromkeys(partitions))
        return dict(zip(asked, await self._call("end_offsets", asked), strict=True))

    async def read(
        self, topic: str, partition: int, offset: int, max_records: int = 2000, timeout: float = 0.5
    ) -> Page:
        """Committed records from `offset` on; see `LogClient.read`."""
        timeout = min(timeout, MAX_READ_TIMEOUT)
        return Page(*await self._call("read", topic, partition, offset, max_records, timeout, wait=timeout))

    async def _call(self, method: str, *arguments: Any, wait: float = 0.0) -> Any:
        message = _encode(Request(method, msgspec.Raw(_encode(arguments))))
        if len(message) > MAX_MESSAGE:
            raise LogError(f"{method}: a request of {len(message):,} bytes is too large, divide it")
        async with self._turn:
            if self._streams is None and not await self.connect():
                raise BrokerUnavailable(f"no worker has the log in {self._data_dir} open any more")
            answer = await self._exchange(message, DEADLINE + wait)
        response = msgspec.msgpack.decode(answer, type=Response)
        if response.failure is not None:
            raise error_of(response.failure)
        return msgspec.msgpack.decode(response.result, type=RESULTS[method])

    async def _exchange(self, message: bytes, timeout: float) -> bytes:
        assert self._streams is not None
        reader, writer = self._streams
        answer = None
        try:
            await transmit(writer, message)
            answer = await receive(reader, timeout)
        except (OSError, TimeoutError) as error:
            raise BrokerUnavailable(f"the worker on {self._data_dir} does not answer: {error!r}") from error
        finally:
            if answer is None:
                await self.close()  # an answer that comes late must not be taken for the next one
        if answer is None:
            raise BrokerUnavailable(f"the worker that had the log in {self._data_dir} open has gone")
        return answer

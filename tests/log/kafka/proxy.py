"""A TCP proxy in front of one broker that knows enough of the protocol to break it at a chosen request."""

from __future__ import annotations

import asyncio
import io
import struct
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from aiokafka.protocol import metadata

from tests.support.door import HOST, Door

METADATA, END_TXN, PRODUCE, FETCH, INIT_PRODUCER_ID, OFFSET_FETCH = 3, 26, 0, 1, 22, 9


class Proxy(Door):
    """Stands between clients (aiokafka's) and a broker; it puts its own address into metadata.

    `lose_request` and `lose_answer` break the connection at the next request of a kind: before, or after, the
    broker has seen it. `seen` counts the requests by kind.
    """

    def __init__(self, upstream: str) -> None:
        host, port = upstream.rsplit(":", 1)
        super().__init__(int(port), host)
        self._lost_requests: Counter[int] = Counter()
        self._lost_answers: Counter[int] = Counter()
        self.seen: Counter[int] = Counter()

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def lose_request(self, kind: int) -> None:
        """Break the connection instead of passing on the next request of this kind."""
        self._lost_requests[kind] += 1

    def lose_answer(self, kind: int) -> None:
        """Break the connection instead of passing on the answer to the next request of this kind."""
        self._lost_answers[kind] += 1

    def pumps(
        self, client: tuple[StreamReader, StreamWriter], server: tuple[StreamReader, StreamWriter]
    ) -> tuple[Coroutine[Any, Any, None], Coroutine[Any, Any, None]]:
        pending: dict[int, tuple[int, int]] = {}
        return self._requests(client[0], server[1], pending), self._answers(server[0], client[1], pending)

    async def _requests(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        pending: dict[int, tuple[int, int]],
    ) -> None:
        while frame := await _frame(reader):
            kind, version, correlation = struct.unpack_from(">hhi", frame)
            await self.flowing.wait()
            self.seen[kind] += 1
            if self._lost_requests[kind]:
                self._lost_requests[kind] -= 1
                return
            pending[correlation] = kind, version
            writer.write(struct.pack(">i", len(frame)) + frame)
            await writer.drain()

    async def _answers(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        pending: dict[int, tuple[int, int]],
    ) -> None:
        while frame := await _frame(reader):
            (correlation,) = struct.unpack_from(">i", frame)
            kind, version = pending.pop(correlation)
            await self.flowing.wait()
            if self._lost_answers[kind]:
                self._lost_answers[kind] -= 1
                return
            if kind == METADATA:
                frame = frame[:4] + self._with_own_address(frame[4:], version)
            writer.write(struct.pack(">i", len(frame)) + frame)
            await writer.drain()

    def _with_own_address(self, body: bytes, version: int) -> bytes:
        answer = getattr(metadata, f"MetadataResponse_v{version}").decode(io.BytesIO(body))
        answer.brokers = [(node, HOST, self.port, *rest) for node, _, _, *rest in answer.brokers]
        encoded: bytes = answer.encode()
        return encoded


async def _frame(reader: StreamReader) -> bytes:
    try:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, OSError):
        return b""

"""A TCP proxy in front of one broker that knows enough of the protocol to break it at a chosen request."""

from __future__ import annotations

import asyncio
import contextlib
import io
import struct
from collections import Counter
from types import TracebackType
from typing import Self

from aiokafka.protocol import metadata

METADATA, END_TXN, PRODUCE, FETCH, INIT_PRODUCER_ID, OFFSET_FETCH = 3, 26, 0, 1, 22, 9


class Proxy:
    """Stands between clients (aiokafka's) and a broker; it puts its own address into metadata.

    `cut` and `resume` take the network away and back; `freeze` and `thaw` keep connections but hold all;
    `delay` holds every answer back. `lose_request` and `lose_answer` break the connection at the next request
    of a kind: before, or after, the broker has seen it. `seen` counts the requests by kind.
    """

    def __init__(self, upstream: str) -> None:
        self._host, port = upstream.rsplit(":", 1)
        self._port = int(port)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cut = False
        self._lost_requests: Counter[int] = Counter()
        self._lost_answers: Counter[int] = Counter()
        self.delay = 0.0
        self.seen: Counter[int] = Counter()

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._drop()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """Close all connections, and new ones at once."""
        self._cut = True
        await self._drop()

    def resume(self) -> None:
        """Let connections through again."""
        self._cut = False

    def freeze(self) -> None:
        """Let nothing pass, as if the broker were stopped."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything pass that was held up."""
        self._flowing.set()

    def lose_request(self, kind: int) -> None:
        """Break the connection instead of passing on the next request of this kind."""
        self._lost_requests[kind] += 1

    def lose_answer(self, kind: int) -> None:
        """Break the connection instead of passing on the answer to the next request of this kind."""
        self._lost_answers[kind] += 1

    async def _drop(self) -> None:
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            if not self._cut:
                answers, upstream = await asyncio.open_connection(self._host, self._port)
                pending: dict[int, tuple[int, int]] = {}
                pumps = [
                    asyncio.ensure_future(self._requests(reader, upstream, pending)),
                    asyncio.ensure_future(self._answers(answers, writer, pending)),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            for each in (upstream, writer):
                if each is not None:
                    each.transport.abort()
                    with contextlib.suppress(OSError):
                        await each.wait_closed()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pending: dict[int, tuple[int, int]],
    ) -> None:
        while frame := await _frame(reader):
            kind, version, correlation = struct.unpack_from(">hhi", frame)
            await self._flowing.wait()
            self.seen[kind] += 1
            if self._lost_requests[kind]:
                self._lost_requests[kind] -= 1
                return
            pending[correlation] = kind, version
            writer.write(struct.pack(">i", len(frame)) + frame)
            await writer.drain()

    async def _answers(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pending: dict[int, tuple[int, int]],
    ) -> None:
        while frame := await _frame(reader):
            (correlation,) = struct.unpack_from(">i", frame)
            kind, version = pending.pop(correlation)
            await asyncio.sleep(self.delay)
            await self._flowing.wait()
            if self._lost_answers[kind]:
                self._lost_answers[kind] -= 1
                return
            if kind == METADATA:
                frame = frame[:4] + self._with_own_address(frame[4:], version)
            writer.write(struct.pack(">i", len(frame)) + frame)
            await writer.drain()

    def _with_own_address(self, body: bytes, version: int) -> bytes:
        answer = getattr(metadata, f"MetadataResponse_v{version}").decode(io.BytesIO(body))
        answer.brokers = [(node, "127.0.0.1", self.port, *rest) for node, _, _, *rest in answer.brokers]
        encoded: bytes = answer.encode()
        return encoded


async def _frame(reader: asyncio.StreamReader) -> bytes:
    try:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, OSError):
        return b""

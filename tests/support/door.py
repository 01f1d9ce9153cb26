"""A TCP proxy in front of one port, which can be shut, frozen and slowed down."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import Coroutine
from typing import Any

HOST = "127.0.0.1"
_PIECE = 64 * 1024


class Door:
    """Passes bytes; who wants to know what passes overrides `pumps`. It belongs to the loop that opens it."""

    def __init__(self, target: int = 0, host: str = HOST) -> None:
        self.target = target
        """The port behind it."""
        self.delay = 0.0
        """Seconds for which every piece is held back, in each direction."""
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._host = host
        self._server: asyncio.Server | None = None
        self._shut = False
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)

    async def close(self) -> None:
        """Listen no more, and close all connections."""
        assert self._server is not None
        self._server.close()
        await self._drop()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """Close all connections, and new ones at once."""
        self._shut = True
        await self._drop()

    async def freeze(self) -> None:
        """Let nothing pass, as if nobody answered, and keep the connections."""
        self.flowing.clear()

    async def heal(self) -> None:
        """Let everything through again."""
        self._shut, self.delay = False, 0.0
        self.flowing.set()

    def pumps(
        self, client: tuple[StreamReader, StreamWriter], server: tuple[StreamReader, StreamWriter]
    ) -> tuple[Coroutine[Any, Any, None], Coroutine[Any, Any, None]]:
        """What passes requests and answers on; the connection ends with either."""
        return self._pump(client[0], server[1]), self._pump(server[0], client[1])

    async def _pump(self, reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                await asyncio.sleep(self.delay)
                await self.flowing.wait()
                writer.write(piece)
                await writer.drain()

    async def _drop(self) -> None:
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        try:
            if not self._shut:
                server = await asyncio.open_connection(self._host, self.target)
                writers.append(server[1])
                pumps = [asyncio.ensure_future(pump) for pump in self.pumps((reader, writer), server)]
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
            for each in writers:
                each.transport.abort()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

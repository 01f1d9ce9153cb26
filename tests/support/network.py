"""A network between clients and brokers that can be cut, frozen and slowed down: bytes, no protocol."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

HOST = "127.0.0.1"
_PIECE = 64 * 1024


class Network:
    """One door per broker, each a proxy; it runs in a thread of its own."""

    def __init__(self, doors: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._doors = self._do(_open(doors))

    @property
    def doors(self) -> list[int]:
        """The ports that clients connect to."""
        return [door.port for door in self._doors]

    def lead_to(self, ports: Sequence[int]) -> None:
        """Where the doors lead."""
        for door, port in zip(self._doors, ports, strict=True):
            door.target = port

    def cut(self, number: int) -> None:
        """Close all connections through a door, and refuse new ones."""
        self._do(self._doors[number].cut())

    def freeze(self, number: int) -> None:
        """Let nothing pass, and keep the connections."""
        self._do(self._doors[number].freeze())

    def slow(self, number: int, delay: float) -> None:
        """Hold every piece back for so long, in each direction."""
        self._doors[number].delay = delay

    def heal(self, number: int) -> None:
        """Let everything through."""
        self._do(self._doors[number].heal())

    def close(self) -> None:
        """Close all doors."""
        if self._loop.is_closed():
            return
        for door in self._doors:
            self._do(door.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _open(count: int) -> list[Door]:
    return [await Door().open() for _ in range(count)]


class Door:
    """A proxy in front of one port."""

    def __init__(self) -> None:
        self.target = 0
        self.delay = 0.0
        self._server: asyncio.Server | None = None
        self._shut = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> Door:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        return self

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def cut(self) -> None:
        self._shut = True
        await self._drop()

    async def freeze(self) -> None:
        self._flowing.clear()

    async def heal(self) -> None:
        self._shut, self.delay = False, 0.0
        self._flowing.set()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._drop()

    async def _drop(self) -> None:
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        try:
            if not self._shut:
                answers, upstream = await asyncio.open_connection(HOST, self.target)
                writers.append(upstream)
                pumps = [
                    asyncio.ensure_future(self._pump(reader, upstream)),
                    asyncio.ensure_future(self._pump(answers, writer)),
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
            for each in writers:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                await asyncio.sleep(self.delay)
                await self._flowing.wait()
                writer.write(piece)
                await writer.drain()

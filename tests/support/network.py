"""A network between clients and brokers that can be cut, frozen and slowed down: bytes, no protocol."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Sequence
from itertools import product
from typing import Any

HOST = "127.0.0.1"
_PIECE = 64 * 1024

Place = tuple[int, int]
"""Way and broker."""


class Network:
    """Several ways to some brokers, a proxy at each end of each way; it runs in a thread of its own.

    Who is to be cut off alone gets a way that nobody else uses.
    """

    def __init__(self, ways: int, brokers: int) -> None:
        self.ways = ways
        self.brokers = brokers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._doors: dict[Place, Door] = self._do(_open(list(product(range(ways), range(brokers)))))

    def port(self, way: int, broker: int) -> int:
        """The port that clients connect to."""
        return self._doors[way, broker].port

    def lead(self, way: int, broker: int, port: int) -> None:
        """Where a way ends."""
        self._doors[way, broker].target = port

    def cut(self, way: int | None, broker: int | None) -> None:
        """Close all connections, and refuse new ones; None: of all ways, to all brokers."""
        for door in self._chosen(way, broker):
            self._do(door.cut())

    def freeze(self, way: int | None, broker: int | None) -> None:
        """Let nothing pass, and keep the connections."""
        for door in self._chosen(way, broker):
            self._do(door.freeze())

    def slow(self, delay: float) -> None:
        """Hold every piece back for so long, in each direction."""
        for door in self._doors.values():
            door.delay = delay

    def heal(self) -> None:
        """Let everything through."""
        for door in self._doors.values():
            self._do(door.heal())

    def _chosen(self, way: int | None, broker: int | None) -> list[Door]:
        return [door for (w, b), door in self._doors.items() if way in (None, w) and broker in (None, b)]

    def close(self) -> None:
        """Close all doors."""
        if self._loop.is_closed():
            return
        for door in self._doors.values():
            self._do(door.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _open(places: Sequence[Place]) -> dict[Place, Door]:
    return {place: await Door().open() for place in places}


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

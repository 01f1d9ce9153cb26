"""A network between clients and brokers that can be cut, frozen and slowed down: bytes, no protocol."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from itertools import product
from typing import Any

from tests.support.door import Door

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
    doors = {place: Door() for place in places}
    for door in doors.values():
        await door.open()
    return doors

"""A generator function as a source: read like any connector.

A synchronous generator may block in its own time (it sleeps, it reads a device), so it runs in a thread of
its own; an asynchronous one is a task. Either way what it yields becomes available at once. The position
object is encoded at each `yield`, so the position that is committed is exactly the one after the last event
taken, whatever the generator has done to the object since.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from reflow_kafka.connector import ConnectorContext
from reflow_kafka.event import Event
from reflow_kafka.lane.calls import from_within
from reflow_kafka.serde.typed import Codec
from reflow_kafka.value import State

AHEAD: Final = 1000
"""Events a generator may run ahead of what the lane has taken."""


@dataclass(frozen=True, slots=True)
class GeneratorSource:
    """The generator of a source stage, seen as a connector `Source` of one part."""

    function: Callable[..., Any]
    """Takes the position object, if `position` is set; everything else is bound already."""
    position: Callable[[], Any] | None = None
    codec: Codec | None = None
    boxed: bool = False

    async def parts(self) -> Sequence[str]:
        """One, indivisible."""
        return [""]

    async def open(self, part: str, position: Any | None, ctx: ConnectorContext) -> GeneratorReader:
        """Start the generator, at its beginning or at a committed position."""
        if self.position is None:
            return GeneratorReader(self.function(), lambda: None)
        assert self.codec is not None
        codec = self.codec
        value = self.position() if position is None else codec.decode(orjson.dumps(position))
        held: Any = State(value) if self.boxed else value
        return GeneratorReader(
            self.function(held), lambda: orjson.loads(codec.encode(held.value if self.boxed else held))
        )


class GeneratorReader:
    """Holds a running generator."""

    def __init__(self, items: Any, position: Callable[[], Any]) -> None:
        self._current = position
        self._position: Any = None
        self._ready: deque[tuple[Any, Any]] = deque()
        self._arrived = asyncio.Event()
        self._space = threading.Semaphore(AHEAD)  # what a thread waits for …
        self._room = asyncio.Event()  # … and a task
        self._over = False
        self._closed = threading.Event()
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        if inspect.isasyncgen(items):
            self._task = self._loop.create_task(self._pump_async(items))
        else:
            threading.Thread(target=self._pump, args=(iter(items),), daemon=True, name="source").start()

    async def read(self, max_events: int) -> Sequence[Event[Any]] | None:
        """What has been yielded; waits a little if nothing has."""
        if not self._ready and not self._over:
            self._arrived.clear()
            try:
                async with asyncio.timeout(0.5):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        events: list[Event[Any]] = []
        while self._ready and len(events) < max_events:
            item, self._position = self._ready.popleft()
            self._space.release()
            self._room.set()
            events.append(item if isinstance(item, Event) else Event(item))
        if events or not self._over:
            return events
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return None

    def position(self) -> Any:
        """The position object as it was at the yield of the last event read."""
        return self._position

    async def committed(self, position: Any) -> None:
        """A generator has nobody to tell."""

    async def close(self) -> None:
        """Stop the generator at its next `yield`."""
        self._closed.set()
        self._space.release()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _pump(self, items: Iterator[Any]) -> None:
        try:
            while not self._closed.is_set():
                self._space.acquire()
                item = self if self._closed.is_set() else next(items, self)
                if item is self:
                    break
                if item is None:
                    self._space.release()
                    continue
                self._ready.append((item, self._current()))
                self._tell()
        except BaseException as error:
            self._error = error
        self._over = True
        self._tell()

    def _tell(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the loop is closed: nobody reads any more
            self._closed.set()

    async def _pump_async(self, items: AsyncIterator[Any]) -> None:
        try:
            async for item in items:
                if item is None:
                    continue
                self._ready.append((item, self._current()))
                self._arrived.set()
                if len(self._ready) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except asyncio.CancelledError as error:
            self._error = from_within(error)
        except Exception as error:
            self._error = error
        self._over = True
        self._arrived.set()

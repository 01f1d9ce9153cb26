"""An event loop whose time does not pass by itself, and the clock that belongs to it.

As long as anything can be done it is done, in no time. When nothing can, whoever drives the loop says how far
time may go on: it then jumps to the next timer. What threads, processes and connections do takes real time:
while one of them is waited for, the loop's time passes as it really does, and the time of day stands still.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Callable
from typing import Any, Final

from reflow_kafka.clock import Clock

TURN: Final = 1e-7
"""Seconds that a turn takes at least: a wait that rounding makes endlessly short comes to its end."""
LOOK: Final = 0.5
"""Seconds of real time after which is looked again whether somebody is still waited for."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs until it is told to stop, or time may go on no further.

    Args:
        idle: asked when nothing can be done before the `virtual` second it is given (infinity: ever): up to
            which time may go on; None: the loop stops.
        connected: whether a connection is waited for; asked only while any is open.
    """

    def __init__(self, idle: Callable[[float], float | None], connected: Callable[[], bool]) -> None:
        self.virtual = 0.0
        """Seconds that were jumped over so far: the time of day."""
        self.give_up_at = math.inf
        """When it stops in any case (`time.perf_counter`)."""
        self._real = 0.0
        """Seconds that others have taken."""
        self._idle = idle
        self._connected = connected
        self._outside: set[asyncio.Future[Any]] = set()
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Seconds."""
        return self.virtual + self._real

    # ---- what happens outside

    def create_outside_future(self) -> asyncio.Future[Any]:
        """A future that a thread or process brings about; time does not go on without it."""
        return self._from_outside(self.create_future())

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """As any loop does; the result comes from outside."""
        return self._from_outside(super().run_in_executor(executor, func, *args))

    def _from_outside(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        self._outside.add(future)
        future.add_done_callback(self._outside.discard)
        return future

    # ---- time

    def _turns(self) -> None:
        """What comes next takes place later than what came before; but not for ever."""
        self._real += TURN
        if time.perf_counter() > self.give_up_at:
            self.stop()

    def _wait(self, seconds: float, connections: bool) -> float:
        """Nothing can be done for so long: let time go on; seconds for which it really has to."""
        outside = any(not future.done() for future in self._outside)
        if outside or (connections and self._connected()):
            return min(seconds, LOOK)
        until = self._idle(self.virtual + seconds)
        if until is None:
            self.stop()
        else:
            self.virtual = min(self.virtual + seconds, until)
        return 0.0

    def _waited(self, seconds: float) -> None:
        self._real += seconds


class _Selector(selectors.DefaultSelector):
    """Where a loop waits for what comes from outside."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        self._loop._turns()
        if events or timeout == 0:
            return events
        connections = len(self.get_map()) > 1  # by one of its own the loop is woken by threads
        wait = self._loop._wait(math.inf if timeout is None else timeout, connections)
        if wait:
            began = time.perf_counter()
            events = super().select(wait)
            self._loop._waited(time.perf_counter() - began)
        return events


class VirtualClock(Clock):
    """The clock of such a loop.

    Args:
        loop: the loop.
        start: the time of day at which it stands until it is told to `go`, in epoch milliseconds.
    """

    runs = False

    def __init__(self, loop: VirtualLoop, start: int) -> None:
        self._loop = loop
        self._start = start
        self._since = math.inf

    def go(self) -> None:
        """Go on from now on."""
        self._since = min(self._since, self._loop.virtual)

    def monotonic(self) -> float:
        """Seconds on the loop's clock."""
        return self._loop.time()

    def now(self) -> int:
        """The time of day in epoch milliseconds."""
        return self._start + round(max(self._loop.virtual - self._since, 0) * 1000)

"""The threads in which one worker runs handlers that block."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final

from reflow_kafka.lane.calls import attempt, from_outside

log = logging.getLogger(__name__)

MAX_GIVEN_UP: Final = 100
"""Threads hanging in calls that nobody waits for any more, from which on they are not replaced."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call on its way to a thread and back."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    future: asyncio.Future[Any]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    thread: threading.Thread | None = None
    """Set when it begins."""
    finished: bool = False
    given_up: bool = False
    result: Any = None
    error: BaseException | None = None


class Threads:
    """Up to `count` threads for the blocking calls of one worker; calls begin in the order they were made.

    Threads are started when they are needed, and kept. They are daemons: a call that never returns keeps
    neither `close` nor the end of the program waiting.

    The way there and back costs 4 to 7 µs of CPU time per call where many are under way, as those that finish
    while the loop is busy wake it once, and 20 µs where each has to wake a thread and the loop.

    Args:
        name: what the threads are called.
        count: calls that run at once.
        max_given_up: threads hanging in calls that were given up, from which on they are not replaced, so
            that a service which never answers does not cost ever more of them.
    """

    def __init__(self, name: str, count: int, *, max_given_up: int = MAX_GIVEN_UP) -> None:
        self._name = name
        self._count = count
        self._max_given_up = max_given_up
        self._loop: asyncio.AbstractEventLoop | None = None
        # Shared: a lock guards what waits, and the marks of each call.
        self._lock = threading.Lock()
        self._waiting: OrderedDict[_Call, None] = OrderedDict()
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # one per call that waits, False for "end"
        self._tidings: deque[_Call | threading.Thread] = deque()
        self._told = False
        # The loop's alone.
        self._threads: set[threading.Thread] = set()
        self._given_up: set[threading.Thread] = set()
        self._running: set[_Call] = set()
        """Calls that are awaited: waiting or running."""
        self._numbers = itertools.count()
        self._closed = False
        self._leaving: asyncio.Future[None] | None = None

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call it in a thread, with the context variables of here; returns or raises what it does.

        If the awaiting task is cancelled while the call runs (a time-out), the call cannot be stopped: it
        goes on to its end unheeded, and a fresh thread takes the place of its own.

        Raises:
            RuntimeError: the threads are closed, or the function raised StopIteration.
            AwaitedCancelled: the function raised CancelledError.
        """
        if self._closed:
            raise RuntimeError(f"the threads {self._name!r} are closed")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        call = _Call(function, args, kwargs, from_outside(self._loop))
        with self._lock:
            self._waiting[call] = None
        self._running.add(call)
        try:
            self._tokens.put(True)
            self._grow()
            return await call.future
        except BaseException:
            if not call.finished:
                self._give_up(call)
            raise

    async def collect(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[Any]:
        """The same for a generator function: what it yields, collected in the thread."""
        results: list[Any] = await self.call(_collect, function, *args, **kwargs)
        return results

    async def close(self, timeout: float) -> None:
        """Let calls come to their ends, also those given up, but wait no longer than `timeout` seconds.

        Who awaits a call that has not ended by then gets a RuntimeError.
        """
        self._closed = True
        for _ in self._threads:
            self._tokens.put(False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._threads or self._given_up:
                    self._leaving = from_outside(asyncio.get_running_loop())
                    await self._leaving
        if hanging := len(self._threads | self._given_up):
            log.warning("%s: calls in %d threads have not ended within %g s", self._name, hanging, timeout)
        for call in self._running:
            if not call.future.done():
                call.future.set_exception(RuntimeError(f"the threads {self._name!r} were closed before it"))

    # ---- in the loop

    def _grow(self) -> None:
        """Start a thread if there is work for one more."""
        if len(self._threads) >= min(self._count, len(self._running)):
            return
        if len(self._given_up) >= self._max_given_up:
            return
        thread = threading.Thread(target=self._work, name=f"{self._name}-{next(self._numbers)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more of them
            if not self._threads:
                raise
            return
        self._threads.add(thread)
        if self._closed:
            self._tokens.put(False)

    def _give_up(self, call: _Call) -> None:
        with self._lock:
            if call.finished:  # just now: it is on its way back
                return
            call.given_up = True
            waits = call.thread is None
            if waits:
                del self._waiting[call]
        self._running.discard(call)
        if waits:
            if not self._closed:
                with contextlib.suppress(Empty):
                    self._tokens.get_nowait()
            return
        assert call.thread is not None
        self._threads.discard(call.thread)
        self._given_up.add(call.thread)
        if len(self._given_up) == self._max_given_up:
            log.warning("%s: %d calls given up still run; none more", self._name, self._max_given_up)
        self._grow()

    def _deliver(self) -> None:
        """Hand over what has come from the threads since the last time."""
        self._told = False
        while self._tidings:
            tiding = self._tidings.popleft()
            if isinstance(tiding, threading.Thread):
                self._threads.discard(tiding)
                self._given_up.discard(tiding)
                if self._leaving is not None and not self._leaving.done():
                    self._leaving.set_result(None)
                self._grow()
                continue
            self._running.discard(tiding)
            if tiding.future.done():  # cancelled when it had just finished
                continue
            if tiding.error is None:
                tiding.future.set_result(tiding.result)
            else:
                tiding.future.set_exception(tiding.error)

    # ---- in a thread

    def _work(self) -> None:
        while self._tokens.get():
            call = self._next()
            if call is None:
                continue
            call.result, call.error = call.context.run(attempt, call.function, *call.arguments, **call.named)
            with self._lock:
                call.finished = True
            if call.given_up:
                break
            self._tell(call)
            del call  # nothing of it is kept while the thread waits for the next
        self._tell(threading.current_thread())

    def _next(self) -> _Call | None:
        """The call whose turn it is; None if it was given up since the thread was woken."""
        with self._lock:
            if not self._waiting:
                return None
            call, _ = self._waiting.popitem(last=False)
            call.thread = threading.current_thread()
            return call

    def _tell(self, tiding: _Call | threading.Thread) -> None:
        self._tidings.append(tiding)
        if self._told:  # the loop has been woken and has not looked yet: it will find this, too
            return
        self._told = True
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._deliver)


def _collect(function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
    return list(function(*args, **kwargs))

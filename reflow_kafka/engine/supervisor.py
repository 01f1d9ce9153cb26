"""Several engine processes on one machine: started, watched, restarted and stopped together.

The supervisor is one loop over a queue of what happened: a child ended, a signal came, the code changed, or a
moment has come. Nothing else changes anything, so there is nothing to lock. What to do about a child that
ended is decided in `restarts`.

Children stand in process groups of their own, so that Ctrl-C reaches them once, through the supervisor, and
not twice. They die with it (`Seat.take`).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from reflow_kafka.engine.restarts import (
    HEALTHY_AFTER,
    Await,
    Exit,
    Finished,
    Policy,
    Restart,
    StopAll,
    decide,
)
from reflow_kafka.engine.seat import Seat

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KILL_MARGIN = 3.0  # what a child needs beyond the time limit of its own stop
_ABORT_TIMEOUT = 5.0  # for children that were told to end at once


@dataclass(slots=True)
class _Child:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    crashes: int = 0
    restarted: bool = False
    due: float | None = None
    """When it is to be started."""
    awaits: bool = False
    """It is started when the code changes."""

    @property
    def unfinished(self) -> bool:
        return self.process is not None or self.due is not None or self.awaits

    def forget(self) -> None:
        """It is not to be started, as things stand."""
        self.due, self.awaits = None, False


@dataclass(frozen=True, slots=True)
class _Ended:
    child: _Child
    code: int


@dataclass(frozen=True, slots=True)
class _Signalled:
    pass


@dataclass(frozen=True, slots=True)
class _Changed:
    pass


class Supervisor:
    """Runs `engines` processes of one command until they are done or it is told to stop.

    Args:
        command: the command line of each process.
        engines: how many.
        policy: whether they end by themselves, and whether their code may change.
        shutdown_timeout: seconds in which a process stops by itself; a little later it is killed.
        changes: for ``reload``: yields whenever the code has changed (iterated in a thread).
    """

    def __init__(
        self,
        command: Sequence[str],
        engines: int,
        *,
        policy: Policy | None = None,
        shutdown_timeout: float = 25.0,
        changes: Iterable[object] = (),
    ) -> None:
        self._command = list(command)
        self._children = [_Child(number) for number in range(engines)]
        self._policy = policy or Policy()
        self._shutdown_timeout = shutdown_timeout
        self._changes = changes
        self._name = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._happened: SimpleQueue[_Ended | _Signalled | _Changed] = SimpleQueue()
        self._plan_time = 0
        self._code = 0
        self._stopping = False
        self._reloading = False
        self._kill_at: float | None = None

    def run(self) -> int:
        """Run them all and return the exit code; to be called in the main thread, once."""
        with ExitStack() as stack:
            stack.enter_context(_on_stop_signals(lambda: self._happened.put(_Signalled())))
            stack.callback(self._kill)
            if self._policy.reload:
                threading.Thread(target=self._watch, name="reload", daemon=True).start()
            self._begin()
            while any(child.unfinished for child in self._children):
                self._start_due()
                try:
                    self._handle(self._happened.get(timeout=self._patience()))
                except Empty:
                    self._kill_late()
        return self._code

    def _patience(self) -> float | None:
        moments = [child.due for child in self._children if child.due is not None]
        if self._kill_at is not None:
            moments.append(self._kill_at)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    # --- what happens

    def _handle(self, happened: _Ended | _Signalled | _Changed) -> None:
        match happened:
            case _Ended(child, code):
                self._ended(child, code)
            case _Signalled():
                self._signalled()
            case _Changed() if not self._stopping:
                self._reload()

    def _ended(self, child: _Child, code: int) -> None:
        child.process = None
        if self._stopping:
            # One that had not come to handle signals yet was ended by ours.
            self._code = self._code or int(code not in (0, -signal.SIGTERM))
        elif self._reloading:
            self._begin_anew()
        else:
            self._ended_by_itself(child, code)

    def _ended_by_itself(self, child: _Child, code: int) -> None:
        now = time.monotonic()
        first = not child.restarted and not self._any_healthy(now, child.started)
        match decide(Exit(code, now - child.started, child.crashes, first), self._policy):
            case Restart(delay, crashes):
                child.due, child.crashes, child.restarted = now + delay, crashes, True
                _tell(child, f"{_how(code)}, it is started again in {delay:g} s")
            case Finished():
                _tell(child, "is done", logging.INFO)
            case Await():
                child.awaits = True
                _tell(child, f"{_how(code)}, it is started again when its code changes")
            case StopAll(code):
                self._code = code
                if any(other.unfinished for other in self._children):
                    _tell(child, f"{_how(code)}, which a restart would not change: all engines stop")
                self._stop(self._shutdown_timeout + _KILL_MARGIN)

    def _any_healthy(self, now: float, *starts: float) -> bool:
        running = (child.started for child in self._children if child.process is not None)
        return any(now - started >= HEALTHY_AFTER for started in (*starts, *running))

    def _signalled(self) -> None:
        if not self._stopping:
            logger.info("the engines stop")
            self._stop(self._shutdown_timeout + _KILL_MARGIN)
        else:
            self._code = self._code or 1
            self._stop(_ABORT_TIMEOUT)

    def _stop(self, patience: float) -> None:
        self._stopping = True
        for child in self._children:
            child.forget()
        self._end_all(patience)

    def _reload(self) -> None:
        logger.info("the code has changed: the engines are started anew")
        self._reloading = True
        for child in self._children:
            child.forget()
        self._end_all(self._shutdown_timeout + _KILL_MARGIN)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """New code may be a new plan, so it begins when the last engine with the old one has ended."""
        if all(child.process is None for child in self._children):
            self._reloading, self._kill_at = False, None
            self._begin()

    # --- processes

    def _begin(self) -> None:
        self._plan_time = time.time_ns() // 1_000_000
        for child in self._children:
            child.due, child.crashes, child.restarted = time.monotonic(), 0, False

    def _start_due(self) -> None:
        for child in self._children:
            if child.due is not None and child.due <= time.monotonic():
                child.forget()
                self._start(child)

    def _start(self, child: _Child) -> None:
        seat = Seat(f"{self._name}-{child.number}", self._plan_time, os.getpid())
        child.started = time.monotonic()
        process = child.process = subprocess.Popen(
            self._command,
            env={**os.environ, **seat.environment(), **self._loading()},
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        _tell(child, f"runs as process {process.pid}", logging.DEBUG)
        threading.Thread(
            target=lambda: self._happened.put(_Ended(child, process.wait())), daemon=True
        ).start()

    def _loading(self) -> dict[str, str]:
        # Python takes compiled code for current if the file has the same length and same second of change:
        # of two edits in one second the first would run on. So none is kept where code may change.
        return {"PYTHONDONTWRITEBYTECODE": "1"} if self._policy.reload else {}

    def _watch(self) -> None:
        for _ in self._changes:
            self._happened.put(_Changed())

    def _end_all(self, patience: float) -> None:
        self._kill_at = time.monotonic() + patience
        for child in self._children:
            if child.process is not None:
                child.process.terminate()

    def _kill_late(self) -> None:
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = None
            for child in self._children:
                if child.process is not None:
                    _tell(child, "did not stop in time and is killed")
            self._kill()

    def _kill(self) -> None:
        for child in self._children:
            if child.process is not None:
                child.process.kill()


def _tell(child: _Child, what: str, level: int = logging.WARNING) -> None:
    logger.log(level, "engine %d %s", child.number, what)


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


@contextmanager
def _on_stop_signals(call: Callable[[], None]) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: call()) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""The program of a process: run what the engine sends, one call after the other.

A thread reads what the engine says, so that it can take calls back while one runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final

from reflow_kafka.context import Context
from reflow_kafka.lane.processes.handlers import Handlers, name_of
from reflow_kafka.lane.processes.job import Job
from reflow_kafka.lane.processes.wire import (
    RAISED,
    RETURNED,
    UNAVAILABLE,
    Calls,
    Failure,
    Frames,
    Logged,
    Progress,
    Ready,
    Recall,
    Recalled,
    Results,
    Setup,
    frame,
)
from reflow_kafka.process import die_with, run_handlers
from reflow_kafka.value import CLEARED, State

FLUSH: Final = 0.005
"""Seconds for which results may wait for others, to go in one message."""
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""The engine decides what they mean; it gets them, too."""


def main(channel: int, progress: int, parent: int) -> None:
    """Serve the engine `parent` through these descriptors until it closes them."""
    die_with(parent)
    run_handlers()
    for number in STOP_SIGNALS:  # not SIG_IGN, which programs that handlers start would inherit
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    for descriptor in (channel, progress):
        os.set_inheritable(descriptor, False)
    server = Server(socket.socket(fileno=channel), Progress(progress))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the engine has gone
        server.serve()


class Server:
    """Runs calls in the main thread, in the order in which they come."""

    def __init__(self, channel: socket.socket, progress: Progress) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._progress = progress
        self._handlers = Handlers()
        self._calls: deque[tuple[int, int, bytes | None]] = deque()
        self._jobs: dict[int, Job] = {}
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # True: there are calls; False: the end
        self._results: list[tuple[int, int, bytes, float]] = []
        self._sent = 0.0

    def serve(self) -> None:
        threading.Thread(target=self._read, name="engine", daemon=True).start()
        while self._tokens.get():
            while self._calls:
                try:
                    call = self._calls.popleft()
                except IndexError:  # recalled just now
                    break
                self._results.append(self._run(*call))
                if time.monotonic() - self._sent > FLUSH:
                    self._flush()
            self._progress.write(0, 0.0)
            if self._tokens.empty():
                self._flush()
        self._handlers.close()

    def _flush(self) -> None:
        if self._results:
            self._send(Results(self._results))
            self._results = []
        self._sent = time.monotonic()

    def _send(self, message: object) -> None:
        data = frame(message)
        with self._sending:
            self._channel.sendall(data)

    # ---- the reading thread

    def _read(self) -> None:
        frames = Frames()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while data := self._channel.recv(262_144):
                for message in frames.feed(data):
                    self._received(message)
        self._calls.clear()
        self._tokens.put(False)

    def _received(self, message: object) -> None:
        if isinstance(message, Calls):
            self._jobs.update(message.jobs)
            self._calls.extend(message.calls)
            self._tokens.put(True)
        elif isinstance(message, Recall):
            self._send(Recalled(self._recall(message.numbers)))
        elif isinstance(message, Setup):
            self._handlers.set_up(message)
            root = logging.getLogger()
            root.handlers = [Forward(self._send)]
            root.setLevel(message.log_level)
            self._send(Ready())

    def _recall(self, numbers: Sequence[int] | None) -> list[int]:
        """Take back what has not begun; the main thread takes from the other end meanwhile."""
        taken: list[tuple[int, int, bytes | None]] = []
        kept: list[tuple[int, int, bytes | None]] = []
        with contextlib.suppress(IndexError):
            while True:
                call = self._calls.pop()
                (taken if numbers is None or call[0] in numbers else kept).append(call)
        self._calls.extend(reversed(kept))
        self._tokens.put(True)
        return [number for number, *_ in taken]

    # ---- a call

    def _run(self, number: int, job_number: int, arguments: bytes | None) -> tuple[int, int, bytes, float]:
        job = self._jobs[job_number]
        try:
            handler = self._handlers.loaded.get(job_number)
            if handler is None:
                self._progress.write(number, time.monotonic(), loading=True)
                handler = self._handlers.load(job_number, job)
            if arguments is not None and self._handlers.main is not None and b"__main__" in arguments:
                self._progress.write(number, time.monotonic(), loading=True)
                self._handlers.import_main()
        except BaseException as error:
            return number, UNAVAILABLE, _failure(error, job), -1.0
        if arguments is None:
            return number, RETURNED, _dumps(None), -1.0
        began = time.monotonic()
        self._progress.write(number, began)
        try:
            args, named = pickle.loads(arguments)  # noqa: S301 - from our own engine
            result = handler(*args, **named)
            if job.collects:
                result = list(result)
            if job.returns_state:
                result = (result, *_state(args[0], named.get("ctx")))
        except BaseException as error:
            return number, RAISED, _failure(error, job), time.monotonic() - began
        try:
            blob = _dumps(result)
        except Exception as error:
            return number, RAISED, _failure(_unsendable(result, error, job), job), time.monotonic() - began
        return number, RETURNED, blob, time.monotonic() - began


def _state(state: Any, context: Any) -> tuple[Any, bool]:
    cleared = (isinstance(state, State) and state.value is CLEARED) or (
        isinstance(context, Context) and context._cleared
    )
    return (None if cleared else state), cleared


def _dumps(value: object) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _unsendable(result: object, error: Exception, job: Job) -> Exception:
    if job.returns_state and isinstance(result, tuple):
        with contextlib.suppress(Exception):
            _dumps(result[0])
            return TypeError(f"the state, {name_of(result[1])}, cannot be sent between processes: {error}")
        result = result[0]
    if job.collects and isinstance(result, list):
        for item in result:
            try:
                _dumps(item)
            except Exception:
                result = item
                break
    return TypeError(f"the result, {name_of(result)}, cannot be sent between processes: {error}")


def _failure(error: BaseException, job: Job) -> bytes:
    """The error as it is sent: itself if it survives that, otherwise what can be said of it."""
    trace = "".join(traceback.format_exception(error))
    sent: BaseException = error
    if isinstance(error, StopIteration) or not isinstance(error, Exception):  # no future takes them
        sent = RuntimeError(f"stage {job.stage!r} raised {error!r} in its process")
    else:
        try:
            pickle.loads(_dumps(error))  # noqa: S301 - it may be pickled well and still not come back
        except Exception:
            what = "".join(traceback.format_exception_only(error)).strip()
            sent = RuntimeError(f"{what} (a {type(error).__qualname__} cannot be sent between processes)")
    return _dumps(Failure(sent, trace))


# ---- logging


class Forward(logging.Handler):
    """Log records go to the engine, which knows how to show them."""

    def __init__(self, send: Callable[[object], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = dict(vars(record))
            fields.update(msg=self.format(record), args=None, exc_info=None, exc_text=None, stack_info=None)
            try:
                _dumps(fields)
            except Exception:
                fields = {name: _readable(value) for name, value in fields.items()}
            self._send(Logged(fields))
        except OSError:  # the engine has gone
            pass
        except Exception:
            self.handleError(record)


def _readable(value: object) -> object:
    return value if isinstance(value, str | int | float | None) else repr(value)

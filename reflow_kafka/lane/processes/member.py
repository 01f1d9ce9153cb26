"""One process of the pool, as the engine sees it."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Final, cast

from reflow_kafka.lane.processes.call import Call
from reflow_kafka.lane.processes.wire import (
    Calls,
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

log = logging.getLogger(__name__)

AHEAD: Final = 0.02
"""Seconds of work that a process is given at most beyond the first call, so that it never waits for more."""
MAX_CALLS: Final = 2000
MAX_BYTES: Final = 1_048_576
"""Of arguments, beyond the first call."""
_GRACE: Final = 0.2
"""Seconds between the end of what it says and its own, or the other way round."""
_END_PATIENCE: Final = 5.0
"""Seconds that a killed process may take to end."""


class Member(asyncio.Protocol):
    """A process with the calls that it has been sent, in the order in which it runs them.

    `results` is told of calls that have ended, `recalled` of those it gave back; `changed` that it is ready,
    `lost` that it has ended, its calls still in `calls`.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        progress: Progress,
        *,
        ready: Callable[[Member], None],
        results: Callable[[Member, Results], None],
        recalled: Callable[[Member, Recalled], None],
        lost: Callable[[Member], None],
    ) -> None:
        self.process = process
        self.progress = progress
        self.calls: dict[int, Call] = {}
        self.load = 0.0
        """Seconds of work it has been given."""
        self.is_ready = False
        self.killed = False
        """On purpose, by us."""
        self.is_gone = False
        self.is_stuck = False
        """It runs a long call: nothing is to wait behind that."""
        self.recalling = False
        self.overdue: tuple[int, float] | None = None
        """The call that ran for too long when last looked at, and since when it ran."""
        self.transport: asyncio.Transport | None = None
        self._on_ready = ready
        self._on_results = results
        self._on_recalled = recalled
        self._on_lost = lost
        self._size = 0
        self._frames = Frames()
        self._jobs: set[int] = set()
        self._outgoing = Calls([], {})
        self._ending: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        return f"process {self.process.pid}"

    # ---- what the pool asks

    @property
    def has_room(self) -> bool:
        """Whether it may be given another call."""
        if not self.is_ready or self.is_stuck or self.killed or self.is_gone:
            return False
        if not self.calls:
            return True
        return self.load < AHEAD and self._size < MAX_BYTES and len(self.calls) < MAX_CALLS

    def give(self, call: Call, job: int, seconds: float) -> None:
        """Another call, of the job of this number, goes out with the next `send`."""
        call.member = self
        call.seconds = seconds
        self.calls[call.number] = call
        self.load += seconds
        self._size += call.size
        if job not in self._jobs:
            self._jobs.add(job)
            self._outgoing.jobs[job] = call.job
        self._outgoing.calls.append((call.number, job, call.arguments))

    def send(self) -> None:
        """Send what was given."""
        if self._outgoing.calls:
            self._write(self._outgoing)
            self._outgoing = Calls([], {})

    def take(self, number: int) -> Call | None:
        """A call that has ended or come back; None if it is not known here any more."""
        call = self.calls.pop(number, None)
        if call is not None:
            self._size -= call.size
            self.load = self.load - call.seconds if self.calls else 0.0
        return call

    def recall(self, numbers: list[int] | None = None) -> None:
        """Ask for calls that have not begun: these, or all."""
        self._write(Recall(numbers))

    def running(self) -> Call | None:
        """The call that runs at this moment, if its handler has been loaded."""
        number, _, loading = self.progress.read()
        return None if loading else self.calls.get(number)

    def begin(self, setup: Setup) -> None:
        """Tell it what it has to know, as the first thing."""
        self._write(setup)

    def kill(self) -> None:
        """End it at once; `lost` follows."""
        self.killed = True
        self.process.kill()

    def kill_unless_ready(self) -> None:
        """It has had time enough to start."""
        if not self.is_ready and self.process.poll() is None:
            log.warning("%s is not ready after so long a time; killed", self)
            self.process.kill()

    def ended(self) -> None:
        """It is no more, although its channel is open: what it started has that, too."""
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        loop.call_later(_GRACE, self.transport.abort)  # what it said last may still be on its way

    def close(self, grace: float) -> None:
        """Let it finish its call and end, but kill it after `grace` seconds; `lost` follows."""
        self.killed = True
        if self.transport is None or self.transport.is_closing():
            self.process.kill()
            return
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(grace, self._kill_if_there)

    def _kill_if_there(self) -> None:
        if self.process.returncode is None:
            self.process.kill()

    def _write(self, message: object) -> None:
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.write(frame(message))

    # ---- what comes from it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.killed:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            if isinstance(message, Results):
                self.is_stuck = False
                self._on_results(self, message)
            elif isinstance(message, Recalled):
                self._on_recalled(self, message)
            elif isinstance(message, Ready):
                self.is_ready = True
                self._on_ready(self)
            elif isinstance(message, Logged):
                record = logging.makeLogRecord(message.record)
                logger = logging.getLogger(record.name)
                if logger.isEnabledFor(record.levelno):
                    logger.handle(record)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        """Make sure that it has ended: only then may its calls run elsewhere."""
        await self._ended_within(_GRACE)
        self.process.kill()
        if not await self._ended_within(_END_PATIENCE):
            log.error("%s does not end although it was killed; its calls are run elsewhere", self)
        self._on_lost(self)
        self.progress.close()

    async def _ended_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.002)
        return True

    def how_it_ended(self) -> str:
        """In words."""
        status = self.process.returncode
        if status is None:
            return "did not end"
        if status >= 0:
            return f"ended with exit code {status}"
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"was ended by {name}"

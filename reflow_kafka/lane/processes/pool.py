"""The processes of an engine, shared by all its stages with ``run_in="process"``."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from reflow_kafka.errors import ProcessDied
from reflow_kafka.lane.calls import from_outside
from reflow_kafka.lane.processes.call import Call, fail, pickled, settle, stopped
from reflow_kafka.lane.processes.job import Job
from reflow_kafka.lane.processes.member import AHEAD, Member
from reflow_kafka.lane.processes.start import setup, start
from reflow_kafka.lane.processes.wire import Recalled, Results

log = logging.getLogger(__name__)

WATCH_EVERY: Final = 0.05
"""Seconds between looks at what processes do; a time-out is so much later at most, twice."""
START_TIMEOUT: Final = 60.0
"""Seconds that a process may take until it is ready."""
BACKOFF: Final = (0.1, 5.0)
"""Seconds before a process is replaced that died without having done anything: the first time, at most."""
MAX_DEATHS: Final = 5
"""Processes that may die in a row without having done anything; or with the same call waiting in them."""


class Processes:
    """Runs calls in up to `count` processes, which are started when they are needed, and kept.

    Calls begin in the order they were made, and are sent in batches: what has come together until a process
    has room, as much as it does in some 20 ms, spread evenly. Where many are under way, a call with a small
    dict each way costs 4 µs of CPU time in the engine and 6 µs in the process beyond what the handler takes,
    most of it pickling; alone, 20 µs in the engine and 60 µs from call to result.

    A process that dies fails the call it ran with `ProcessDied`; calls that waited there for their turn are
    run elsewhere, also if it is killed because a call took too long or was given up. Processes die with the
    engine, whatever happens to it.

    Args:
        count: how many processes; as many as there are CPUs unless given.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count if count is not None else _cpus()
        self._members: list[Member] = []
        self._waiting: deque[Call] = deque()
        self._jobs: dict[Job, int] = {}
        self._seconds: dict[int, float] = {}
        """How long a call of a job takes, by its number."""
        self._numbers = itertools.count(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._feeding = False
        self._watching = False
        self._failures = 0
        """Processes that died in a row without having done anything."""
        self._not_before = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._leaving: asyncio.Future[None] | None = None

    @property
    def pids(self) -> list[int]:
        """Process ids of those that run."""
        return [member.process.pid for member in self._members]

    async def call(
        self,
        job: Job,
        args: Sequence[Any],
        named: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Any:
        """Run the job's handler with these arguments in a process.

        If the awaiting task is cancelled while the call runs, its process is killed; before, it does not run.

        Args:
            job: what to run.
            args: its data.
            named: its arguments by name.
            timeout: seconds it may *run*; waiting for a process, and loading the handler, do not count.

        Returns:
            What the handler returns; see `Job` for generators and for stages with state.

        Raises:
            ProcessDied: the process died while it ran the call; it may be tried again.
            TimeoutError: it ran for longer than `timeout`; its process has been killed.
            FlowStopped: processes cannot run this handler, or none can be started: no event is to blame.
            TypeError: arguments, result or state cannot be sent between processes.
            Exception: what the handler raised.
        """
        return await self._submit(job, pickled(job, args, named or {}), timeout)

    async def check(self, job: Job) -> None:
        """Load the job's handler in a process, so that one which cannot be found there is known early.

        Raises:
            FlowStopped: it cannot be loaded, or no process can be started.
        """
        await self._submit(job, None, None)

    async def close(self, timeout: float) -> None:
        """Let all processes end, and kill those that have not done so within `timeout` seconds.

        Who still awaits a call gets a RuntimeError.
        """
        self._closed = True
        for call in self._waiting:
            fail(call, RuntimeError("the processes were closed before the call"))
        self._waiting.clear()
        for member in self._members:
            member.close(timeout)
        while self._members:
            self._leaving = from_outside(asyncio.get_running_loop())
            await self._leaving

    # ---- calls

    async def _submit(self, job: Job, arguments: bytes | None, timeout: float | None) -> Any:
        if self._closed:
            raise RuntimeError("the processes are closed")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        call = Call(job, next(self._numbers), arguments, from_outside(self._loop), timeout)
        self._waiting.append(call)
        self._feed_soon()
        try:
            return await call.future
        except asyncio.CancelledError:
            self._given_up(call)
            raise

    def _given_up(self, call: Call) -> None:
        """Nobody waits for it any more; its future is done."""
        member = call.member
        call.arguments = None if member is None else call.arguments
        if member is None or call.number not in member.calls or member.killed:
            return
        if member.running() is call:
            member.kill()
        else:
            member.recall([call.number])

    def _feed_soon(self) -> None:
        """Give out calls once those that are being made right now have been made, too."""
        if not self._feeding and self._loop is not None:
            self._feeding = True
            self._loop.call_soon(self._feed)

    def _feed(self) -> None:
        self._feeding = False
        waiting = self._waiting
        room = [(member.load, at, member) for at, member in enumerate(self._members) if member.has_room]
        heapq.heapify(room)
        while waiting and room:
            call = waiting.popleft()
            if call.future.done():
                continue
            _, at, member = room[0]
            job = self._jobs.get(call.job)
            if job is None:
                job = self._jobs[call.job] = len(self._jobs)
            member.give(call, job, self._seconds.get(job, AHEAD))
            if member.has_room:
                heapq.heapreplace(room, (member.load, at, member))
            else:
                heapq.heappop(room)
        for member in self._members:
            member.send()
        if waiting:
            self._start_more()
        self._watch_soon()

    def _results(self, member: Member, message: Results) -> None:
        self._failures = 0
        for number, how, blob, seconds in message.results:
            call = member.take(number)
            if call is None:
                continue
            if seconds >= 0:
                job = self._jobs[call.job]
                before = self._seconds.get(job, seconds)
                self._seconds[job] = before + (seconds - before) * 0.2
            if not call.future.done():
                settle(call, how, blob)
        if self._waiting:
            self._feed()

    def _recalled(self, member: Member, message: Recalled) -> None:
        member.recalling = False
        self._back([call for number in message.numbers if (call := member.take(number)) is not None])

    def _back(self, calls: list[Call]) -> None:
        """Calls that did not run go back to the head of the queue."""
        for call in calls:
            call.member = None
        self._waiting.extendleft(call for call in reversed(calls) if not call.future.done())
        if self._waiting:
            self._feed_soon()

    # ---- processes

    def _start_more(self) -> None:
        """Start a process for what waits; while they start, no more than as many again."""
        assert self._loop is not None
        starting = sum(not member.is_ready for member in self._members)
        if self._closed or len(self._members) >= self.count or starting > len(self._members) - starting:
            return
        if (delay := self._not_before - time.monotonic()) > 0:
            self._loop.call_later(delay, self._feed_soon)
            return
        try:
            process, channel, progress = start()
        except OSError as error:
            self._not_started(f"cannot be started: {error}")
            self._feed_soon()
            return
        member = Member(
            process,
            progress,
            ready=lambda _: self._feed_soon(),
            results=self._results,
            recalled=self._recalled,
            lost=self._lost,
        )
        self._members.append(member)
        self._keep(self._loop.create_task(self._connect(member, channel)))
        self._loop.call_later(START_TIMEOUT, member.kill_unless_ready)

    async def _connect(self, member: Member, channel: socket.socket) -> None:
        assert self._loop is not None
        try:
            await self._loop.create_unix_connection(lambda: member, sock=channel)
            member.begin(setup())
        except OSError as error:
            channel.close()
            member.connection_lost(error)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _lost(self, member: Member) -> None:
        """A process has ended, on purpose or not; what it had is failed, or run elsewhere."""
        self._members.remove(member)
        number, _, loading = member.progress.read()
        calls = list(member.calls.values())
        for call in calls:
            if call.verdict is not None:
                fail(call, call.verdict)
        if self._closed:
            for call in calls:
                fail(call, RuntimeError("the processes were closed during the call"))
            if self._leaving is not None and not self._leaving.done():
                self._leaving.set_result(None)
            return
        if not member.killed:
            what = f"{member} {member.how_it_ended()}"
            if loading or not member.is_ready:
                self._not_started(what)
            else:
                log.warning("%s", what)
            for call in calls:
                self._survived(call, what, ran=call.number == number and not loading, loading=loading)
        self._back(calls)

    def _survived(self, call: Call, what: str, *, ran: bool, loading: bool) -> None:
        """A process died that had this call; it is blamed if it ran, or if this happens again and again."""
        call.deaths += 1
        if ran:
            fail(call, ProcessDied(f"stage {call.job.stage!r}: {what} during the call"))
        elif call.deaths >= MAX_DEATHS and loading:
            fail(call, stopped(call, f"{what} while it loaded the handler, {call.deaths} times"))
        elif call.deaths >= MAX_DEATHS:
            fail(call, ProcessDied(f"stage {call.job.stage!r}: {what}, as {call.deaths} before that had it"))

    def _not_started(self, what: str) -> None:
        """A process died before it could do anything; after some of them it is not the process's fault."""
        self._failures += 1
        backoff = min(BACKOFF[0] * 2 ** (self._failures - 1), BACKOFF[1])
        self._not_before = time.monotonic() + backoff
        log.warning("%s before it could run anything; the next one in %.1f s", what, backoff)
        if self._failures >= MAX_DEATHS:
            why = f"{what} before it could run anything, like {self._failures - 1} before it"
            for call in self._waiting:
                fail(call, stopped(call, why))
            self._waiting.clear()

    # ---- watching

    def _watch_soon(self) -> None:
        if not self._watching and self._loop is not None and any(member.calls for member in self._members):
            self._watching = True
            self._loop.call_later(WATCH_EVERY, self._watch)

    def _watch(self) -> None:
        self._watching = False
        now = time.monotonic()
        for member in self._members:
            if member.calls and not member.killed:
                self._look(member, now)
        self._watch_soon()

    def _look(self, member: Member, now: float) -> None:
        if member.process.poll() is not None:
            member.ended()
            return
        number, since, loading = member.progress.read()
        call = member.calls.get(number)
        if call is None or now - since < WATCH_EVERY:
            return
        member.is_stuck = True
        if not loading:
            if call.future.done():  # given up when it was about to begin
                member.kill()
                return
            if call.timeout is not None and now - since > call.timeout:
                if member.overdue == (number, since):
                    what = f"the call ran for more than {call.timeout:g} s"
                    call.verdict = TimeoutError(f"stage {call.job.stage!r}: {what}")
                    member.kill()
                    return
                member.overdue = (number, since)
        if len(member.calls) > 1 and not member.recalling and self._has_other(member):
            member.recalling = True
            member.recall()

    def _has_other(self, member: Member) -> bool:
        """Whether what waits behind a long call could run elsewhere."""
        others = any(other.has_room for other in self._members if other is not member)
        return others or len(self._members) < self.count


def _cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

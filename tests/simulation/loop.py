"""An event loop on virtual time, on which machines run that can be frozen and killed between any two steps.

A step is one callback: what a task does from one await to the next. Which of those that are ready comes next
is chosen by a seed, and everything that runs is summed up in `trace`: two runs with the same trace did the
same in the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

TURN = 1e-6
"""Seconds that one turn of the loop takes."""
THREAD = 0.005
"""Seconds that pass before what was handed to a thread is done."""
_CLOSES = 50
"""Awaits at most in the `finally` blocks of one coroutine."""


class Deadlock(Exception):
    """Nothing is left to be done, and nobody has set a timer."""


class Killed(BaseException):
    """Code of a machine that is dead tried to reach the outside."""


class Machine:
    """What lives and dies together: tasks, timers and callbacks of one process."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.alive = True
        self.steps = 0
        self.dies_at = 0
        """The step before which it dies; 0: none."""
        self.death: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.held: list[asyncio.Handle] | None = None
        """What would have run while it is frozen; None: it is not."""

    def __repr__(self) -> str:
        return f"<machine {self.name}>"


_machine: contextvars.ContextVar[Machine | None] = contextvars.ContextVar("machine", default=None)
OUTSIDE = contextvars.Context()
"""What runs in it belongs to no machine."""


def this_machine() -> Machine | None:
    """The machine whose code is running; None: the world's own."""
    return _machine.get()


def check_alive() -> None:
    """Keep what a dead machine's `finally` blocks do from having any effect."""
    machine = _machine.get()
    if machine is not None and not machine.alive:
        raise Killed


class Task(asyncio.Task[T]):
    """A task that knows its machine, and whose place in a set does not depend on where it lies in memory."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, T], context: contextvars.Context, **more: Any):
        self.number = number
        self.context = context
        self.machine = context.get(_machine)
        super().__init__(coro, context=context, **more)

    def __hash__(self) -> int:
        return self.number


class SimulatedLoop(asyncio.BaseEventLoop):
    """For what uses no sockets, and threads only for what needs no other.

    Args:
        rng: chooses among what is ready; None: first come, first served, as on any other loop.
    """

    def __init__(self, rng: random.Random | None) -> None:
        super().__init__()
        self.now = 1_000.0
        self.trace = 0
        self.steps = 0
        self._rng = rng
        self._killed = False
        self._numbers = itertools.count(1)
        self._alarms: list[tuple[int, int, asyncio.Future[None]]] = []
        self.set_task_factory(self._make_task)

    def _make_task(
        self, loop: Any, coro: Any, context: contextvars.Context | None = None, **more: Any
    ) -> Task[Any]:
        context = contextvars.copy_context() if context is None else context
        return Task(next(self._numbers), coro, context, loop=self, **more)

    def time(self) -> float:
        return self.now

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(self, _: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """What a thread does happens all at one moment, some time later."""
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            try:
                result = func(*args)
            except Exception as error:
                _ = future.done() or future.set_exception(error)
            else:
                _ = future.done() or future.set_result(result)

        self.call_later(THREAD, run)
        return future

    # ---- steps

    def _run_once(self) -> None:
        ready, timers = self._ready, self._scheduled  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            while timers and timers[0]._cancelled:
                heapq.heappop(timers)._scheduled = False
            if not timers:
                raise Deadlock("every task waits for another one")
            self.now = max(self.now, timers[0]._when)
        self.now += TURN
        while timers and timers[0]._when <= self.now:
            timer = heapq.heappop(timers)
            timer._scheduled = False
            ready.append(timer)
        turn = list(ready)
        ready.clear()
        if self._rng is not None and len(turn) > 1:
            self._rng.shuffle(turn)
        for handle in turn:
            if not handle._cancelled:
                self._step(handle)

    def _step(self, handle: asyncio.Handle) -> None:
        machine = handle._context.get(_machine)  # type: ignore[attr-defined]
        number = 0
        if machine is not None:
            if machine.held is not None:
                machine.held.append(handle)
                return
            if not machine.alive:
                return
            machine.steps += 1
            if machine.steps == machine.dies_at:
                self.kill(machine)
                return
            number = machine.number
        task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
        self.steps += 1
        self.note(number, task.number if isinstance(task, Task) else 0)
        handle._run()
        while self._alarms and self._alarms[0][0] <= self.steps:
            alarm = heapq.heappop(self._alarms)[2]
            _ = alarm.done() or alarm.set_result(None)

    def passed(self, steps: int) -> asyncio.Future[None]:
        """Done when so many steps more have run."""
        future = self.create_future()
        heapq.heappush(self._alarms, (self.steps + steps, next(self._numbers), future))
        return future

    def note(self, *what: int) -> None:
        """Let something count for the trace."""
        self.trace = hash((self.trace, *what))

    # ---- machines

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nobody asks for the errors of tasks that had just ended when their machine, or the history, ended.

        When the collector finds them it may be in the middle of anything, and to log a traceback is not safe
        everywhere: it parses source.
        """
        if not ((self._killed or self.is_closed()) and "never retrieved" in context["message"]):
            super().call_exception_handler(context)

    def spawn(self, machine: Machine, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something on a machine."""
        context = contextvars.copy_context()
        context.run(_machine.set, machine)
        return self.create_task(work, context=context)

    def on(self, machine: Machine, action: Callable[[], object]) -> None:
        """Have a callback run on a machine soon."""
        context = contextvars.copy_context()
        context.run(_machine.set, machine)
        self.call_soon(action, context=context)

    def freeze(self, machine: Machine) -> None:
        """As SIGSTOP does."""
        machine.held = []

    def thaw(self, machine: Machine) -> None:
        """As SIGCONT does."""
        if machine.held is not None:
            self._ready.extend(machine.held)  # type: ignore[attr-defined]
            machine.held = None

    def kill(self, machine: Machine) -> None:
        """As SIGKILL does: nothing of the machine runs any more, and no `finally` has any effect.

        Its coroutines are closed now, or the garbage collector would do so at any time later.
        """
        self._killed = True
        machine.alive = False
        machine.held = None
        if not machine.death.done():
            machine.death.set_result(None)
        while tasks := sorted(self._tasks_of(machine), key=lambda task: task.number):
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                asyncio.tasks._unregister_task(task)
                _close(task)

    def _tasks_of(self, machine: Machine) -> list[Task[Any]]:
        return [
            task for task in asyncio.all_tasks(self) if isinstance(task, Task) and task.machine is machine
        ]


def _close(task: Task[Any]) -> None:
    coroutine = task.get_coro()
    for _ in range(_CLOSES):
        with contextlib.suppress(BaseException):  # whatever it says now, nobody hears it
            task.context.run(coroutine.close)
            return
    raise AssertionError(f"{task} cannot be killed")


def run_virtually(main: Coroutine[Any, Any, T], rng: random.Random | None = None, *, limit: float) -> T:
    """Run a coroutine on virtual time, for at most `limit` virtual seconds.

    With `rng` that decides what runs first, and work appears to take some time now and then, as
    `time.perf_counter` tells it.
    """
    loop = SimulatedLoop(rng if rng is not None and rng.random() < 0.7 else None)
    worked = 0.0

    def perf_counter() -> float:
        nonlocal worked
        if rng is not None:
            worked += rng.choice((0.0, 0.0, 0.001, 0.02))
        return loop.time() + worked

    clocks = {"monotonic": loop.time, "time": loop.time, "thread_time": perf_counter}
    patched = mock.patch.multiple(time, perf_counter=perf_counter, **clocks)
    idle = mock.patch("reflow_kafka.lane.commits.cpu_used_and_missed", return_value=(0.0, 0.0))
    with patched, idle, asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(asyncio.wait_for(main, limit))

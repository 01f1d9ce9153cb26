"""Time that passes only when nothing else is to be done, and then at once."""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

TURN = 1e-6
"""Seconds that one turn of the loop takes."""


class Deadlock(Exception):
    """Nothing is left to be done, and nobody has set a timer."""


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise Deadlock("every task waits for another one")
        self.now += max(timeout, 0.0) + TURN
        return super().select(0)


class NumberedTask(asyncio.Task[T]):
    """A task whose place in a set does not depend on where it lies in memory."""

    def __init__(self, number: int, *args: Any, **kwargs: Any) -> None:
        self.number = number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self.number


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, for what uses neither threads nor sockets."""

    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)
        numbers = itertools.count()
        self.set_task_factory(
            lambda loop, coro, **options: NumberedTask(next(numbers), coro, loop=loop, **options)
        )

    def time(self) -> float:
        return self.clock.now


def run_virtually(main: Coroutine[Any, Any, T], rng: random.Random | None = None, *, limit: float) -> T:
    """Run a coroutine on virtual time, for at most `limit` virtual seconds.

    With `rng` work appears to take some time now and then, as `time.perf_counter` tells it.
    """
    loop = VirtualLoop()
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

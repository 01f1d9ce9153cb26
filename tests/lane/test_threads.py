"""Blocking calls of a worker: order, results, errors, and those that never come back."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reflow_kafka.lane.calls import AwaitedCancelled
from reflow_kafka.lane.threads import Threads

pytestmark = pytest.mark.timeout(30)

place = contextvars.ContextVar("place", default="nowhere")


@asynccontextmanager
async def threads(count: int, **options: Any) -> AsyncIterator[Threads]:
    pool = Threads("stage", count, **options)
    try:
        yield pool
    finally:
        await pool.close(10)
    for thread in threading.enumerate():
        if thread.name.startswith("stage-"):
            thread.join(10)
            assert not thread.is_alive()


class Gate:
    """Calls that hang until it is opened, and tell how many hang."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def pass_through(self, result: Any = None) -> Any:
        self.entered.release()
        assert self.open.wait(20)
        return result

    async def until_entered(self, count: int = 1) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(self.entered.acquire, timeout=20)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_results_arguments_errors_and_context() -> None:
    def handler(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    async with threads(2) as pool:
        # No name of an argument is taken.
        assert await pool.call(handler, 1, self=2, function=3, collect=4) == (
            (1,),
            {"self": 2, "function": 3, "collect": 4},
        )
        place.set("here")
        assert await pool.call(place.get) == "here"
        with pytest.raises(ZeroDivisionError):
            await pool.call(divmod, 1, 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.call(next, iter(()))

        def cancel() -> None:
            raise asyncio.CancelledError

        with pytest.raises(AwaitedCancelled):
            await pool.call(cancel)


async def test_a_generator_runs_in_the_thread_to_its_end() -> None:
    def split(text: str) -> Iterator[tuple[str, str]]:
        for word in text.split():
            yield word, threading.current_thread().name

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("bad")

    async with threads(1) as pool:
        results = await pool.collect(split, "a b")
        assert [word for word, _ in results] == ["a", "b"]
        assert {name for _, name in results} == {"stage-0"}
        with pytest.raises(ValueError, match="bad"):
            await pool.collect(broken)


async def test_no_more_than_count_run_at_once_and_they_begin_in_order() -> None:
    running: list[int] = []
    begun: list[int] = []
    most = 0
    guard = threading.Lock()

    def work(n: int) -> int:
        nonlocal most
        with guard:
            begun.append(n)
            running.append(n)
            most = max(most, len(running))
        with guard:
            running.remove(n)
        return n

    async with threads(3) as pool:
        assert await asyncio.gather(*(pool.call(work, n) for n in range(500))) == list(range(500))
        assert most <= 3
    async with threads(1) as pool:
        begun.clear()
        await asyncio.gather(*(pool.call(work, n) for n in range(500)))
        assert begun == list(range(500))


async def test_threads_are_started_when_needed_and_kept() -> None:
    async with threads(8) as pool:
        names = {await pool.call(lambda: threading.current_thread().name) for _ in range(20)}
        assert names == {"stage-0"}
        together = threading.Barrier(8)
        await asyncio.gather(*(pool.call(together.wait, 10) for _ in range(8)))


async def test_a_call_given_up_loses_no_capacity() -> None:
    gate = Gate()
    async with threads(2) as pool:
        for _ in range(5):  # more often than there are threads
            hanging = asyncio.create_task(pool.call(gate.pass_through))
            await gate.until_entered()
            await cancelled(hanging)
        together = threading.Barrier(2)
        await asyncio.gather(*(pool.call(together.wait, 10) for _ in range(2)))
        gate.open.set()


async def test_a_timeout_of_all_threads_lets_those_that_wait_go_on() -> None:
    gate = Gate()
    async with threads(2) as pool:
        hanging = [asyncio.create_task(pool.call(gate.pass_through)) for _ in range(2)]
        await gate.until_entered(2)
        waiting = [asyncio.create_task(pool.call(int, n)) for n in range(10)]
        await asyncio.sleep(0)
        for task in hanging:
            await cancelled(task)
        assert await asyncio.gather(*waiting) == list(range(10))
        gate.open.set()


async def test_a_call_given_up_before_it_begins_never_does() -> None:
    gate = Gate()
    ran: list[int] = []
    async with threads(1) as pool:
        hanging = asyncio.create_task(pool.call(gate.pass_through, "late"))
        await gate.until_entered()
        waiting = [asyncio.create_task(pool.call(ran.append, n)) for n in range(4)]
        await asyncio.sleep(0)
        await cancelled(waiting[0])
        await cancelled(waiting[2])
        gate.open.set()
        assert await hanging == "late"
        await asyncio.gather(waiting[1], waiting[3])
        assert ran == [1, 3]


async def test_calls_that_never_return_are_not_replaced_without_end() -> None:
    gate = Gate()
    async with threads(2, max_given_up=3) as pool:
        for _ in range(3):
            hanging = asyncio.create_task(pool.call(gate.pass_through))
            await gate.until_entered()
            await cancelled(hanging)
        before = threading.active_count()
        waiting = [asyncio.create_task(pool.call(int, n)) for n in range(3)]
        await asyncio.sleep(0.01)
        assert threading.active_count() <= before
        gate.open.set()  # those given up end, and there is room again
        assert await asyncio.gather(*waiting) == [0, 1, 2]


async def test_close_waits_for_what_runs_but_not_for_ever() -> None:
    gate = Gate()
    pool = Threads("stage", 2)
    hanging = asyncio.create_task(pool.call(gate.pass_through, "done"))
    await gate.until_entered()
    closing = asyncio.create_task(pool.close(20))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="closed"):
        await pool.call(int)
    assert not closing.done()
    gate.open.set()
    await closing
    assert await hanging == "done"

    gate = Gate()
    pool = Threads("stage", 1)
    tasks = [asyncio.create_task(pool.call(gate.pass_through)) for _ in range(3)]
    await gate.until_entered()
    await pool.close(0.01)
    for task in tasks:
        with pytest.raises(RuntimeError, match="closed"):
            await task
    gate.open.set()


async def test_nothing_of_a_finished_call_is_kept() -> None:
    class Large:
        pass

    async with threads(1) as pool:
        large = Large()
        gone = weakref.ref(large)
        assert await pool.call(lambda it: it is not None, large)
        await pool.call(int)
        del large
        gc.collect()
        assert gone() is None


@pytest.mark.parametrize("seed", range(3))
async def test_with_time_outs_at_any_moment_every_other_call_gets_its_own_result(seed: int) -> None:
    dice = random.Random(seed)
    pauses = [dice.choice((0, 0, 0.0005)) for _ in range(600)]

    def work(n: int) -> int:
        time.sleep(pauses[n])
        return n

    async with threads(4) as pool:
        tasks = [asyncio.create_task(pool.call(work, n)) for n in range(600)]
        given_up = set()
        while not all(task.done() for task in tasks):
            n = dice.randrange(600)
            if tasks[n].cancel():
                given_up.add(n)
            await asyncio.sleep(0.0001)
        for n, task in enumerate(tasks):
            if n not in given_up:
                assert task.result() == n


def test_a_call_that_never_returns_does_not_keep_the_process() -> None:
    program = """
import asyncio, threading
from reflow_kafka.lane.threads import Threads

async def main():
    pool = Threads("stage", 2)
    try:
        async with asyncio.timeout(0.1):
            await pool.call(threading.Event().wait)
    except TimeoutError:
        print("given up")
    task = asyncio.create_task(pool.call(threading.Event().wait))
    await asyncio.sleep(0.1)
    await pool.close(0.1)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == "given up\n"

"""Calling connectors."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading

import pytest

from reflow_kafka.lane.calls import AwaitedCancelled, call

place = contextvars.ContextVar("place", default="nowhere")


async def test_blocking_calls_do_not_wait_for_each_other() -> None:
    together = threading.Barrier(50)
    async with asyncio.timeout(10):
        await asyncio.gather(*(call(together.wait, 10) for _ in range(50)))


async def test_results_errors_and_context_of_a_blocking_call() -> None:
    place.set("here")
    assert await call(place.get) == "here"
    with pytest.raises(ZeroDivisionError):
        await call(divmod, 1, 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await call(next, iter(()))


async def test_a_cancellation_that_is_not_ours_is_a_failure() -> None:
    async def broken() -> None:
        raise asyncio.CancelledError

    with pytest.raises(AwaitedCancelled):
        await call(broken)
    task = asyncio.create_task(call(asyncio.sleep, 60))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_call_that_never_returns_does_not_keep_the_process() -> None:
    program = """
import asyncio, threading
from reflow_kafka.lane.calls import call

async def main():
    try:
        async with asyncio.timeout(0.1):
            await call(threading.Event().wait)
    except TimeoutError:
        print("given up")

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "given up\n"

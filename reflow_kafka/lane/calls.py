"""Calling other people's methods, which may be `def` or `async def`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class AwaitedCancelled(RuntimeError):
    """The code of a flow awaited something that was cancelled; nobody has cancelled its own task."""


def from_within(error: asyncio.CancelledError) -> AwaitedCancelled:
    """A cancellation that came out of other people's code as the failure that it is.

    Left as it is it would end the task in silence: nobody asks a cancelled task for its error.

    Raises:
        CancelledError: it is the current task that is cancelled.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    return AwaitedCancelled("it awaited something that was cancelled")


class TimedOut(TimeoutError):
    """A handler took longer than its stage's `timeout`."""


async def within(limit: float, work: Awaitable[T]) -> T:
    """Wait for `work`, for at most `limit` seconds; then it is cancelled.

    Raises:
        TimedOut: it did not finish in time.
    """
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            return await work
    except TimeoutError as error:
        if scope.expired():
            raise TimedOut(f"the handler took longer than {limit:g} s (timeout=)") from error
        raise


async def collect(results: AsyncIterable[T]) -> list[T]:
    """Everything that an async generator yields."""
    return [result async for result in results]


async def uncancelled(work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Wait for `work`; that it is cancelled by anybody but the current task's canceller is a failure."""
    try:
        await work(*arguments)
    except asyncio.CancelledError as error:
        raise from_within(error) from error


async def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a connector's method: a plain `def` in a thread, so that it may block."""
    try:
        if inspect.iscoroutinefunction(function):
            return await function(*arguments)
        result = await _in_thread(function, *arguments)
        return await result if inspect.isawaitable(result) else result
    except asyncio.CancelledError as error:
        raise from_within(error) from error


def from_outside(loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """A future for what a thread or process will bring; a loop on virtual time waits for it in real time."""
    make = getattr(loop, "create_outside_future", loop.create_future)
    future: asyncio.Future[Any] = make()
    return future


def attempt(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> tuple[Any, BaseException | None]:
    """Result and error of a call in another thread, the error as a future can take it."""
    try:
        return function(*args, **kwargs), None
    except StopIteration as stop:  # a future refuses it
        return None, RuntimeError(f"{function} raised {stop!r}")
    except asyncio.CancelledError:  # it would look as if the waiting task had been cancelled
        return None, AwaitedCancelled(f"{function} raised CancelledError")
    except BaseException as error:
        return None, error


def _in_thread(function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    """Call a function in a thread of its own, which dies with the process.

    In a pool, calls that block (a read without time limit) would keep all others waiting, a client's look-up
    of a broker's address among them; and the end of the process waits for the threads of a pool.
    """
    loop = asyncio.get_running_loop()
    future = from_outside(loop)
    context = contextvars.copy_context()

    def tell(result: Any, error: BaseException | None) -> None:
        if future.done():  # cancelled: nobody waits any more
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result, error = context.run(attempt, function, *arguments)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, result, error)

    threading.Thread(target=work, name="connector", daemon=True).start()
    return future


async def quietly(function: Callable[..., Any], *arguments: Any) -> None:
    """The same, where a failure changes nothing any more."""
    try:
        await call(function, *arguments)
    except Exception as error:
        log.debug("ignored while giving up a connection: %s", error)

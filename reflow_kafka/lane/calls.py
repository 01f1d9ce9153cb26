"""Calling other people's methods, which may be `def` or `async def`."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)


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


async def uncancelled(work: Awaitable[None]) -> None:
    """Wait for `work`; that it is cancelled by anybody but the current task's canceller is a failure."""
    try:
        await work
    except asyncio.CancelledError as error:
        raise from_within(error) from error


async def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a connector's method: a plain `def` in a thread, so that it may block."""
    try:
        if inspect.iscoroutinefunction(function):
            return await function(*arguments)
        result = await asyncio.to_thread(function, *arguments)
        return await result if inspect.isawaitable(result) else result
    except asyncio.CancelledError as error:
        raise from_within(error) from error


async def quietly(function: Callable[..., Any], *arguments: Any) -> None:
    """The same, where a failure changes nothing any more."""
    try:
        await call(function, *arguments)
    except Exception as error:
        log.debug("ignored while giving up a connection: %s", error)

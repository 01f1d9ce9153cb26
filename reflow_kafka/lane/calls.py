"""Calling other people's methods, which may be `def` or `async def`."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


async def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a connector's method: a plain `def` in a thread, so that it may block."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    result = await asyncio.to_thread(function, *arguments)
    return await result if inspect.isawaitable(result) else result


async def quietly(function: Callable[..., Any], *arguments: Any) -> None:
    """The same, where a failure changes nothing any more."""
    try:
        await call(function, *arguments)
    except Exception as error:
        log.debug("ignored while giving up a connection: %s", error)

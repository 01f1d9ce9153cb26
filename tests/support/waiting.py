"""Waiting, always with a deadline that says what was waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator


def wait_until(condition: Callable[[], object], seconds: float, what: str, *, every: float = 0.1) -> float:
    """Wait until `condition` holds; returns how long it took.

    Raises:
        AssertionError: it did not hold within `seconds`.
    """
    began = time.monotonic()
    for _ in _in_vain(condition, seconds, what):
        time.sleep(every)
    return time.monotonic() - began


async def until(condition: Callable[[], object], what: str, *, within: float = 30.0) -> None:
    """The same in an event loop.

    Raises:
        AssertionError: it did not hold within so many seconds.
    """
    for _ in _in_vain(condition, within, what):
        await asyncio.sleep(0.005)


def _in_vain(condition: Callable[[], object], seconds: float, what: str) -> Iterator[None]:
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"waited {waited:.1f} s in vain: {what}"
        yield

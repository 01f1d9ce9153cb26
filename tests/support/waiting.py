"""Waiting, always with a deadline that says what was waited for."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], seconds: float, what: str, *, every: float = 0.1) -> float:
    """Wait until `condition` holds; returns how long it took.

    Raises:
        AssertionError: it did not hold within `seconds`.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"waited {waited:.1f} s in vain: {what}"
        time.sleep(every)
    return time.monotonic() - began

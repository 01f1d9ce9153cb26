"""Processes as others see them."""

from __future__ import annotations

import psutil


def alive(pid: int) -> bool:
    """Whether it has not ended; one that its parent has not asked about yet counts as ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

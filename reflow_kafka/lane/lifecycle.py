"""The optional `open` and `close` of a stage given as a class or instance."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)


class Users:
    """The workers that share an instance: opened by the first one, closed by the last."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = asyncio.Lock()


class Lifecycle:
    """Runs the optional `open` and `close` of a class or instance around the work of one worker."""

    def __init__(self, target: Any, name: str, users: Users | None = None) -> None:
        self._target = target
        self._name = name
        self._users = users or Users()
        self._opened = False

    async def open(self) -> None:
        async with self._users.lock:
            if not self._users.count:
                await self._call("open")
            self._users.count += 1
            self._opened = True

    async def close(self) -> None:
        if not self._opened:
            return
        self._opened = False
        async with self._users.lock:
            self._users.count -= 1
            if self._users.count:
                return
            try:
                await self._call("close")
            except Exception:
                log.exception("closing stage %r failed", self._name)

    async def _call(self, method: str) -> None:
        function = getattr(self._target, method, None)
        if function is not None:
            result = function()
            if asyncio.iscoroutine(result):
                await result

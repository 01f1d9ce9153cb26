"""The optional `open` and `close` of a stage given as a class or instance."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

log = logging.getLogger(__name__)


class Lifecycle:
    """Runs the optional `open` and `close` of a class or instance around its work."""

    def __init__(self, target: Any, name: str) -> None:
        self._target = target
        self._name = name
        self._opened = False

    async def open(self) -> None:
        await self._call("open")
        self._opened = True

    async def close(self) -> None:
        if not self._opened:
            return
        self._opened = False
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

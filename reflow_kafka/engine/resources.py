"""Opening what handlers ask for by name, and closing it again in reverse order."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from reflow_kafka.definition.spec import ResourceSpec


async def open_resources(
    specs: Mapping[str, ResourceSpec], stack: AsyncExitStack, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Open resources, each after those it takes itself; `stack` closes them.

    Args:
        specs: what the flow declares.
        stack: closes what was opened.
        given: ready-made values that replace declared ones (fakes in tests).
    """
    opened: dict[str, Any] = dict(given or {})

    async def get(name: str) -> Any:
        if name not in opened:
            spec = specs[name]
            arguments = {needed: await get(needed) for needed in spec.by_name}
            opened[name] = await _open(spec, arguments, stack)
        return opened[name]

    for name in specs:
        await get(name)
    return opened


async def _open(spec: ResourceSpec, arguments: Mapping[str, Any], stack: AsyncExitStack) -> Any:
    factory = spec.factory
    if inspect.isasyncgenfunction(factory):
        return await stack.enter_async_context(contextlib.asynccontextmanager(factory)(**arguments))
    if inspect.isgeneratorfunction(factory):
        return stack.enter_context(contextlib.contextmanager(factory)(**arguments))
    result = factory(**arguments)
    return await result if inspect.isawaitable(result) else result

"""Opening what handlers ask for by name, and closing it again in reverse order."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from reflow_kafka.definition.spec import ResourceSpec
from reflow_kafka.topology.plan import Plan


async def open_resources(
    specs: Mapping[str, ResourceSpec],
    names: Iterable[str],
    stack: AsyncExitStack,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Open resources, each after those it takes itself; `stack` closes them.

    Args:
        specs: what the flow declares.
        names: which of them to open.
        stack: closes what was opened.
        given: values that are there already.

    Returns:
        What is given and what was opened, by name.
    """
    opened: dict[str, Any] = dict(given)

    async def get(name: str) -> Any:
        if name not in opened:
            spec = specs[name]
            arguments = {needed: await get(needed) for needed in spec.by_name}
            opened[name] = await _open(spec, arguments, stack)
        return opened[name]

    for name in names:
        await get(name)
    return opened


async def open_for_workers(
    plan: Plan, lane: int, stack: AsyncExitStack, given: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """Stage → its resources; those declared ``per="worker"`` are opened for each worker of the lane."""
    specs = plan.flow.resources
    found: dict[str, Mapping[str, Any]] = {}
    for node in plan.all_nodes_of(lane):
        handler = node.stage.handler
        named = () if handler is None else (*handler.by_name, *handler.init_by_name)
        own = [name for name in named if name in specs and specs[name].per == "worker"]
        found[node.name] = await open_resources(specs, own, stack, given) if own else given
    return found


async def _open(spec: ResourceSpec, arguments: Mapping[str, Any], stack: AsyncExitStack) -> Any:
    factory = spec.factory
    if inspect.isasyncgenfunction(factory):
        return await stack.enter_async_context(contextlib.asynccontextmanager(factory)(**arguments))
    if inspect.isgeneratorfunction(factory):
        return stack.enter_context(contextlib.contextmanager(factory)(**arguments))
    result = factory(**arguments)
    return await result if inspect.isawaitable(result) else result

"""How the stages of a pipeline are run, and handlers of all shapes for them."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from reflow_kafka import Context, Event, Retry


@dataclass
class Fold:
    count: int = 0
    sum: Any = 0

    def add(self, id: int) -> list[int]:
        self.count += 1
        self.sum = folded(self.sum, id)
        return [self.count, self.sum]


def folded(before: int, id: int) -> int:
    return zlib.crc32(b"%d" % id, before)


@dataclass(frozen=True)
class Stage:
    """How one stage is run."""

    name: str
    after: tuple[str, ...]
    kind: str
    key: str
    """Of the events in it: a field of theirs."""
    rekeys: bool
    state: bool
    chain: bool
    skips: bool
    """What fails is forgotten, not dead-lettered."""
    retry: Retry
    concurrency: int
    lanes: int | None
    tap: bool
    """What comes out of it can be seen."""
    times_out: bool
    """Nothing but what never ends waits in it: a machine that is frozen has time-outs, too."""


class Doing(Protocol):
    """What the handlers do."""

    def work(
        self, stage: Stage, fold: Fold | None, value: dict[str, Any], ctx: Context
    ) -> dict[str, Any]: ...
    async def wait(self, stage: Stage, value: dict[str, Any]) -> None: ...


def handler(pipeline: Doing, stage: Stage) -> Callable[..., Any]:
    """A handler of the kind that a stage has."""
    makers = {"plain": _plain, "generator": _generator, "agenerator": _agenerator}
    maker = makers.get(stage.kind, _batch if "batch" in stage.kind else _async)
    return maker(pipeline, stage)


def _plain(pipeline: Doing, stage: Stage) -> Callable[..., Any]:
    def with_state(fold: Fold, value: dict[str, Any], *, ctx: Context) -> dict[str, Any]:
        return pipeline.work(stage, fold, value, ctx)

    def without(value: dict[str, Any], *, ctx: Context) -> dict[str, Any]:
        return pipeline.work(stage, None, value, ctx)

    return with_state if stage.state else without


def _generator(pipeline: Doing, stage: Stage) -> Callable[..., Any]:
    def with_state(fold: Fold, value: dict[str, Any], *, ctx: Context) -> Iterator[dict[str, Any]]:
        yield pipeline.work(stage, fold, value, ctx)

    def without(value: dict[str, Any], *, ctx: Context) -> Iterator[dict[str, Any]]:
        yield pipeline.work(stage, None, value, ctx)

    return with_state if stage.state else without


def _async(pipeline: Doing, stage: Stage) -> Callable[..., Any]:
    async def with_state(fold: Fold, value: dict[str, Any], *, ctx: Context) -> dict[str, Any]:
        before, fold.count = fold.count, fold.count + 1_000  # nobody may see this
        await pipeline.wait(stage, value)
        fold.count = before
        return pipeline.work(stage, fold, value, ctx)

    async def without(value: dict[str, Any], *, ctx: Context) -> dict[str, Any]:
        await pipeline.wait(stage, value)
        return pipeline.work(stage, None, value, ctx)

    return with_state if stage.state else without


def _agenerator(pipeline: Doing, stage: Stage) -> Callable[..., Any]:
    async def with_state(fold: Fold, value: dict[str, Any], *, ctx: Context) -> AsyncIterator[dict[str, Any]]:
        await pipeline.wait(stage, value)
        yield pipeline.work(stage, fold, value, ctx)

    async def without(value: dict[str, Any], *, ctx: Context) -> AsyncIterator[dict[str, Any]]:
        yield pipeline.work(stage, None, value, ctx)
        await pipeline.wait(stage, value)

    return with_state if stage.state else without


def _batch(pipeline: Doing, stage: Stage) -> Callable[..., Any]:
    async def with_state(fold: Fold, values: list[dict[str, Any]], *, ctx: Context) -> list[dict[str, Any]]:
        for value in values:
            await pipeline.wait(stage, value)
        return [pipeline.work(stage, fold, value, ctx) for value in values]

    async def without(values: list[Event[dict[str, Any]]], *, ctx: Context) -> list[dict[str, Any]]:
        for event in values:
            await pipeline.wait(stage, event.value)
        return [pipeline.work(stage, None, event.value, ctx) for event in values]

    return with_state if stage.state else without

"""Histories, each made from a seed."""

from __future__ import annotations

import gc
import random
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from reflow_kafka.lane import backlog, calm, env, gate, overlap, serial, session, worker
from reflow_kafka.state.cache import StateCache
from reflow_kafka.timed.watermark import Habits
from tests.simulation.flows import Everything
from tests.simulation.hosts import Case
from tests.simulation.loop import Killed, run_virtually
from tests.simulation.members import MembersWorld
from tests.simulation.pipelines import Pipeline
from tests.simulation.silences import Silences
from tests.simulation.silent import SilentWorld
from tests.simulation.windows import Windowed
from tests.simulation.world import World, no_complaints, simulated_parts

T = TypeVar("T")

LIMIT = 5_000.0
"""Virtual seconds after which a history counts as hanging."""


def simulate(seed: int) -> World:
    """One history full of trouble; returns the world after it."""

    async def history(rng: random.Random) -> World:
        case: Case
        if rng.random() < 0.05:
            case = Everything(rng, events=rng.choice((20, 60)))
        else:
            case = Pipeline.make(rng, stages=3, events=rng.choice((5, 20, 40)))
        world = World(case, rng, troubles=rng.randint(0, 5))
        await world.run()
        return world

    return in_world(seed, history)


def simulate_time(seed: int) -> World:
    """One history of windows, full of trouble; returns the world after it."""

    async def history(rng: random.Random) -> World:
        case = Windowed(rng, events=rng.choice((10, 40, 80)))
        world = World(case, rng, troubles=rng.randint(0, 5))
        await world.run()
        if not world.finite:
            case.closed_once(await world.topics())
        return world

    return in_world(seed, history)


def simulate_silence(seed: int) -> World:
    """One history of windows over partitions that are silent at times, full of trouble."""

    async def history(rng: random.Random) -> World:
        habits = rng.choice((Habits(), Habits(believed=3_000, renewal=1_000)))
        case = Silences(rng, seconds=rng.choice((10.0, 20.0, 40.0)), habits=habits)
        world = SilentWorld(case, rng, troubles=rng.randint(0, 4))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(env, "Habits", lambda: habits)
            await world.run()
        return world

    return in_world(seed, history)


def simulate_members(seed: int) -> World:
    """One history of engines that keep copies, or a static identity, and come and go."""

    async def history(rng: random.Random) -> World:
        case = Pipeline.make(rng, stages=2, events=rng.choice((20, 40, 80)))
        world = MembersWorld(case, rng, troubles=rng.randint(1, 6))
        await world.run()
        return world

    return in_world(seed, history)


def crash(seed: int, at: int) -> World:
    """A small history that is quiet but for one crash, before the step `at` of the first host; 0: none."""

    async def history(rng: random.Random) -> World:
        world = World(Pipeline.make(rng, stages=2, events=6), rng)
        await world.run_with_crash(at)
        return world

    return in_world(seed, history)


def crash_in_time(seed: int, at: int) -> World:
    """A small history of windows that is quiet but for one crash; as `crash`."""

    async def history(rng: random.Random) -> World:
        world = World(Windowed(rng, events=8), rng)
        await world.run_with_crash(at)
        return world

    return in_world(seed, history)


def lose(seed: int, request: int, fate: str) -> World:
    """The same with one request that gets no answer, the one with that number; 0: none."""

    async def history(rng: random.Random) -> World:
        world = World(Pipeline.make(rng, stages=2, events=6), rng)
        world.network.fates[request] = fate
        await world.run_with_crash(0)
        return world

    return in_world(seed, history)


def in_world(seed: int, history: Callable[[random.Random], Awaitable[T]]) -> T:
    """Run a history on virtual time, with limits that are reached within a few events."""
    rng, size = random.Random(seed), random.Random(f"sizes {seed}")

    async def main() -> T:
        return await history(rng)

    def a_uuid() -> uuid.UUID:
        return uuid.UUID(int=rng.getrandbits(128))

    with pytest.MonkeyPatch.context() as patch, no_complaints(), uncollected():
        patch.setattr(session, "MAX_RECORDS", size.choice((1, 7, 50, 2_000)))
        patch.setattr(serial, "SLICE", size.choice((0.0, 0.005)))
        patch.setattr(worker, "MAX_DIRTY", size.choice((1, 3, 20_000)))
        patch.setattr(worker, "MAX_BYTES", size.choice((100, 2_000, gate.MAX_BYTES)))
        patch.setitem(StateCache.__init__.__kwdefaults__, "limit", size.choice((1, 4, 20_000)))
        patch.setattr(overlap, "MIN_IN_HAND", size.choice((2, 10, 1_000)))
        patch.setattr(serial, "MAX_HELD", size.choice((1, 3, 10_000)))
        patch.setattr(backlog, "REFILL", size.choice((1, 100)))
        patch.setattr(calm, "COMMITS", size.choice((1, 2, 32)))
        patch.setattr(random, "random", rng.random)
        patch.setattr(uuid, "uuid4", a_uuid)
        for where, name, part in simulated_parts():
            patch.setattr(where, name, part)
        return run_virtually(main(), rng, limit=LIMIT)


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage is collected before the end: that would end forgotten generators at moments of its own."""
    before = sys.unraisablehook

    def unless_killed(of: Any) -> None:
        """What the coroutines of a machine say that is dead is of no interest, as in `SimulatedLoop.kill`."""
        if not isinstance(of.exc_value, Killed) and "ignored GeneratorExit" not in str(of.exc_value):
            before(of)

    sys.unraisablehook = unless_killed
    gc.disable()
    try:
        yield
    finally:
        gc.collect(0)  # all that there is of this history: nothing has grown older
        gc.enable()
        sys.unraisablehook = before

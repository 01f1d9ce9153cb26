"""Histories full of trouble, each made from a seed; `REFLOW_SIM_SEED` runs one of them again."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from reflow_kafka.lane import backlog, gate, overlap, serial, session, worker
from reflow_kafka.state.cache import StateCache
from tests.simulation.clock import run_virtually
from tests.simulation.world import World, no_complaints

SEEDS_PER_TEST = 8
TESTS = 24
QUICK = 1
LIMIT = 1_000.0
"""Virtual seconds after which a history counts as hanging."""


def simulate(seed: int) -> World:
    """One history; returns the world after it."""
    rng = random.Random(f"sizes {seed}")
    with pytest.MonkeyPatch.context() as patch, no_complaints():
        patch.setattr(session, "MAX_RECORDS", rng.choice((1, 7, 50, 2_000)))
        patch.setattr(serial, "SLICE", rng.choice((0.0, 0.005)))
        patch.setattr(worker, "MAX_DIRTY", rng.choice((1, 3, 20_000)))
        patch.setattr(worker, "MAX_BYTES", rng.choice((100, 2_000, gate.MAX_BYTES)))
        patch.setitem(StateCache.__init__.__kwdefaults__, "limit", rng.choice((1, 4, 20_000)))
        patch.setattr(overlap, "MIN_IN_HAND", rng.choice((2, 10, 1_000)))
        patch.setattr(serial, "MAX_HELD", rng.choice((1, 3, 10_000)))
        patch.setattr(backlog, "REFILL", rng.choice((1, 100)))
        patch.setattr(random, "random", random.Random(f"jitter {seed}").random)
        world = World(seed)
        try:
            run_virtually(world.run(), rng, limit=LIMIT)
        except BaseException as error:
            error.add_note(f"REFLOW_SIM_SEED={seed}")
            raise
    return world


def seeds() -> list[Any]:
    """Ranges of seeds; most are for the full run only."""
    if given := os.environ.get("REFLOW_SIM_SEED"):
        return [range(int(given), int(given) + 1)]
    ranges = [range(n * SEEDS_PER_TEST, (n + 1) * SEEDS_PER_TEST) for n in range(TESTS)]
    return [*ranges[:QUICK], *(pytest.param(rest, marks=pytest.mark.slow) for rest in ranges[QUICK:])]


@pytest.mark.parametrize("seeds", seeds(), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_every_history_ends_well(seeds: range) -> None:
    for seed in seeds:
        simulate(seed)


@pytest.mark.parametrize("seed", [3, pytest.param(17, marks=pytest.mark.slow)])
def test_a_seed_makes_the_same_history_again(seed: int) -> None:
    assert simulate(seed).rng.getstate() == simulate(seed).rng.getstate()

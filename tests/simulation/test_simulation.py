"""Histories of engines, brokers and what can happen to them, by seeds; the same seed is the same history.

`REFLOW_SIM_SEED` runs one history again, `REFLOW_SIM_SEEDS` that many instead of the usual number
(`make simulate`).
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.broker import SimulatedWriter
from tests.simulation.loop import this_machine
from tests.simulation.mutants import MEMBER_MUTANTS, MUTANTS, SILENCE_MUTANTS, TIME_MUTANTS
from tests.simulation.network import FATES
from tests.simulation.simulate import (
    crash,
    crash_in_time,
    lose,
    simulate,
    simulate_members,
    simulate_silence,
    simulate_time,
)
from tests.simulation.world import World

SEEDS_PER_TEST = 50
SEEDS = int(os.environ.get("REFLOW_SIM_SEEDS", "3000"))
QUICK = 100
SMALL: dict[str, Callable[[World, Counter[int]], bool]] = {
    "re-keyed": lambda world, by_host: rekeys(world) and len(world.case.stages) == 2,
    "divided": lambda world, by_host: rekeys(world) and len(by_host) > 1,
    "failing": lambda world, by_host: any(event["marks"] for event in world.case.input),
}
"""Kinds of small flows, by how they and the commits of each host are while all is well.

Of each a history is gone through, with a crash at each step or a loss of each request.
"""
SMALL_IN_TIME: dict[str, Callable[[World, Counter[int]], bool]] = {
    "alone": lambda world, by_host: len(world.hosts) == 1,
    "divided": lambda world, by_host: len(by_host) > 1,
}
"""The same of windows."""


def seeds(count: int = SEEDS, each: int = SEEDS_PER_TEST) -> list[Any]:
    """Ranges of seeds; most are for the full run only."""
    if given := os.environ.get("REFLOW_SIM_SEED"):
        return [range(int(given), int(given) + 1)]
    ranges = [range(start, min(start + each, count)) for start in range(0, count, each)]
    return [r if r.stop <= 2 * each else pytest.param(r, marks=pytest.mark.slow) for r in ranges]


def replayed(what: str, history: Callable[[], World]) -> World:
    """Run a history; a failure says how to see it again."""
    try:
        return history()
    except BaseException as error:
        error.add_note(what)
        raise


@pytest.mark.parametrize("seeds", seeds(), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_every_history_ends_well(seeds: range) -> None:
    for seed in seeds:
        replayed(f"REFLOW_SIM_SEED={seed}", lambda seed=seed: simulate(seed))


@pytest.mark.parametrize("seeds", seeds(SEEDS // 6), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_no_event_is_late_that_is_in_time(seeds: range) -> None:
    for seed in seeds:
        replayed(f"REFLOW_SIM_SEED={seed}", lambda seed=seed: simulate_time(seed))


@pytest.mark.parametrize(
    "seeds", seeds(SEEDS // 60, each=10), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}"
)
def test_silent_partitions_neither_hold_time_up_nor_make_events_late(seeds: range) -> None:
    for seed in seeds:
        replayed(f"REFLOW_SIM_SEED={seed}", lambda seed=seed: simulate_silence(seed))


@pytest.mark.parametrize("seeds", seeds(SEEDS // 10), ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
def test_every_lane_goes_on_whoever_comes_and_goes(seeds: range) -> None:
    for seed in seeds:
        replayed(f"REFLOW_SIM_SEED={seed}", lambda seed=seed: simulate_members(seed))


def test_a_fenced_owner_does_not_take_a_commit_of_its_successor_for_lost_data() -> None:
    replayed("REFLOW_SIM_SEED=2141", lambda: simulate_time(2141))


def rekeys(world: World) -> bool:
    """Whether a stage has a state of each key that it gives to events."""
    return any(stage.rekeys and stage.state for stage in world.case.stages)


@functools.cache
def small(
    crash: Callable[[int, int], World],
    kind: Callable[[World, Counter[int]], bool],
    *,
    steps: int,
    requests: int,
) -> tuple[int, int, int]:
    """The first seed whose history is of a kind, and what that history has of steps and requests.

    The first host commits more than once: it is to die, and while it is idle that would prove little.
    """
    for seed in range(1_000):
        with pytest.MonkeyPatch.context() as patch:
            by_host = commits_by_host(patch)
            world = crash(seed, 0)
        busy = by_host[1] > 2 and world.case.exactly_once
        if busy and world.steps <= steps and world.network.requests <= requests and kind(world, by_host):
            return seed, world.steps, world.network.requests
    raise AssertionError(f"no seed makes such a history of {steps} steps and {requests} requests")


def commits_by_host(patch: pytest.MonkeyPatch) -> Counter[int]:
    """How many commits each host makes from now on."""
    commits: Counter[int] = Counter()
    commit = SimulatedWriter.commit

    async def counted(writer: SimulatedWriter, what: Any) -> Any:
        machine = this_machine()
        assert machine is not None
        commits[machine.number] += 1
        return await commit(writer, what)

    patch.setattr(SimulatedWriter, "commit", counted)
    return commits


@pytest.mark.slow
@pytest.mark.timeout(600)  # some ten seconds on a quiet machine
@pytest.mark.parametrize("kind", SMALL)
def test_a_crash_at_any_step_does_no_harm(kind: str) -> None:
    seed, steps, _ = small(crash, SMALL[kind], steps=450, requests=100)
    for step in range(1, steps + 1):
        replayed(f"crash({seed}, {step})", lambda step=step: crash(seed, step))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "every"), [("alone", 1), ("divided", 3)])
def test_a_crash_at_any_step_closes_no_window_twice_or_never(kind: str, every: int) -> None:
    seed, steps, _ = small(crash_in_time, SMALL_IN_TIME[kind], steps=500, requests=200)
    for step in range(1, steps + 1, every):
        replayed(f"crash_in_time({seed}, {step})", lambda step=step: crash_in_time(seed, step))


@pytest.mark.slow
@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("kind", SMALL)
def test_a_loss_of_any_request_does_no_harm(kind: str, fate: str) -> None:
    seed, _, requests = small(crash, SMALL[kind], steps=450, requests=100)
    for request in range(1, requests + 1):
        replayed(f"lose({seed}, {request}, {fate!r})", lambda request=request: lose(seed, request, fate))


@pytest.mark.parametrize("seed", [3, 29])
def test_a_seed_makes_the_same_history_again(seed: int) -> None:
    assert simulate(seed).loop.trace == simulate(seed).loop.trace


def test_a_seed_makes_the_same_history_in_another_process() -> None:
    program = "from tests.simulation.simulate import simulate; print(simulate(17).loop.trace)"
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, cwd=Path(__file__).parents[2], capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert int(found.stdout) == simulate(17).loop.trace


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_mistakes_are_noticed(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation is worth something only if it fails where the library does."""
    mutant(monkeypatch)
    assert any(fails(seed) for seed in range(2 * QUICK)), f"nobody noticed: {mutant.__doc__}"


@pytest.mark.parametrize("mutant", TIME_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_mistakes_about_time_are_noticed(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    assert any(fails(seed, simulate_time) for seed in range(QUICK)), f"nobody noticed: {mutant.__doc__}"


@pytest.mark.parametrize("mutant", MEMBER_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_mistakes_about_copies_are_noticed(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    assert any(fails(seed, simulate_members) for seed in range(QUICK)), f"nobody noticed: {mutant.__doc__}"


@pytest.mark.parametrize("mutant", SILENCE_MUTANTS, ids=lambda mutant: mutant.__name__)
def test_mistakes_about_silence_are_noticed(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    assert any(fails(seed, simulate_silence) for seed in range(QUICK)), f"nobody noticed: {mutant.__doc__}"


def fails(seed: int, history: Callable[[int], World] = simulate) -> bool:
    try:
        history(seed)
    except Exception:
        return True
    return False

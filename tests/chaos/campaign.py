"""One run: a flow under load, faults by schedule, and a verdict when all is quiet again."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.nemeses import ACTS
from tests.chaos.schedule import KINDS, WORKERS, Fault, schedule
from tests.chaos.verdict import compacted, judge
from tests.chaos.windowed import untimely
from tests.chaos.world import LANES, OUTPUTS, World
from tests.support.cluster import Cluster
from tests.support.kafka import Topic, by_key

RATE = 300.0
"""Events per second."""
PATIENCE = 240.0
"""Seconds within which everything is processed once nothing disturbs any more."""


@dataclass(slots=True)
class Outcome:
    """What happened in one run."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    """How worker processes have ended."""
    events: int = 0
    recovery: float = 0.0
    """Seconds from the last fault until everything was processed."""
    compacted: int = 0
    """Records of changelogs that were compacted away."""
    wrong: list[str] = field(default_factory=list)


def run(cluster: Cluster, flow: str, folder: Path, seed: int, seconds: float) -> Outcome:
    """Disturb a flow for so long, let it finish, and judge."""
    outcome = Outcome(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with World(cluster, flow, folder, seed, RATE) as world:
        world.start()
        kinds = list(KINDS)
        if not world.slots[0].volume.small:
            kinds.remove("fill the disk")
            print("no disk is filled: this user cannot mount a tmpfs")
        faults = schedule(seed, seconds, kinds)
        outcome.faults.update(fault.kind for fault in faults)
        _disturb(world, faults)
        _finish(world, outcome)
        for slot in world.slots:
            outcome.ended += slot.ended
            outcome.wrong += slot.wrong
    return outcome


def _disturb(world: World, faults: list[Fault]) -> None:
    """Begin and end each fault at its time."""
    steps = itertools.chain(
        ((fault.at, 0, fault) for fault in faults), ((fault.until, 1, fault) for fault in faults)
    )
    began = time.monotonic()
    for at, act, fault in sorted(steps, key=lambda step: step[:2]):
        while time.monotonic() - began < at:
            world.keep()
            time.sleep(0.05)
        if act == 0:
            print(fault, flush=True)
        ACTS[fault.kind][act](world, fault)


def _finish(world: World, outcome: Outcome) -> None:
    """Produce no more, wait until all is processed, stop everybody, judge."""
    world.settle()
    world.feed.cancel()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        outputs = {name: Topic(world.cluster.inside, world.topic(name)) for name in OUTPUTS}
        for output in outputs.values():
            stack.callback(output.close)
        _wait(world, outcome, lambda: _missing(world, outputs))
        world.tell_the_time()
        _wait(world, outcome, lambda: _missing(world, outputs) or _overdue(world, outputs))
    outcome.events = world.sent
    outcome.recovery = time.monotonic() - began
    for slot in world.slots[:WORKERS]:
        if slot.worker is None:
            slot.start()
    for slot in world.slots:
        slot.leave(again=False)
    while any(slot.worker for slot in world.slots):
        world.keep()
        time.sleep(0.05)
    outcome.wrong += judge(world)
    outcome.compacted = compacted(world)
    if not outcome.compacted:
        outcome.wrong.append("no changelog was compacted: no restore has met that")
    outcome.wrong += _unexpected(world)


def _wait(world: World, outcome: Outcome, left: Callable[[], str]) -> None:
    """Until nothing is left to be done."""
    began = time.monotonic()
    while (told := left()) and not outcome.wrong:
        world.keep()
        if (waited := time.monotonic() - began) > PATIENCE:
            outcome.wrong.append(f"after {waited:.0f} s {told}")
            outcome.wrong += [slot.worker.last_words() for slot in world.slots if slot.worker]
        time.sleep(0.2)


def _missing(world: World, outputs: Mapping[str, Topic]) -> str:
    """Events that have not come out yet."""
    found = {name: len(output.look()) for name, output in outputs.items()}
    found["noted or late"] = found.pop("noted") + found.pop("late")
    del found["closed"]
    behind = {name: count for name, count in found.items() if count < world.sent}
    return f"not all of {world.sent} events came out: {behind}" if behind else ""


def _overdue(world: World, outputs: Mapping[str, Topic]) -> str:
    """Windows that are open although time has come so far."""
    logs = (by_key(log.look()) for log in (world.orders, outputs["noted"], outputs["closed"]))
    due, _ = untimely(*logs, LANES)
    return f"{len(due)} windows were not closed: {due[:4]}" if due else ""


def _unexpected(world: World) -> list[str]:
    """What workers themselves did not expect: it healed, but nobody has thought of it."""
    return [
        f"{worker.log.name}: {line}"
        for worker in world.workers.all
        for line in worker.log.read_text(errors="replace").splitlines()
        if "Traceback" in line or '"level": "error"' in line or '"level": "critical"' in line
    ]

"""One run: a flow under load, faults by schedule, and a verdict when all is quiet again."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.nemeses import ACTS
from tests.chaos.schedule import KINDS, WORKERS, Fault, schedule
from tests.chaos.verdict import judge
from tests.chaos.world import World
from tests.support.cluster import Cluster
from tests.support.kafka import Topic

RATE = 300.0
"""Events per second."""
PATIENCE = 150.0
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
    outcome.events = world.feed.sent
    began = time.monotonic()
    output = Topic(world.cluster.inside, world.topic("totalled"))
    try:
        while len(output.look()) < outcome.events:
            world.keep()
            if (waited := time.monotonic() - began) > PATIENCE:
                found = len(output.messages)
                outcome.wrong.append(f"{found} of {outcome.events} events came out in {waited:.0f} s")
                outcome.wrong += [slot.worker.last_words() for slot in world.slots if slot.worker]
                break
            time.sleep(0.2)
    finally:
        output.close()
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
    outcome.wrong += _unexpected(world)


def _unexpected(world: World) -> list[str]:
    """What workers themselves did not expect: it healed, but nobody has thought of it."""
    return [
        f"{worker.log.name}: {line}"
        for worker in world.workers.all
        for line in worker.log.read_text(errors="replace").splitlines()
        if "Traceback" in line or '"level": "error"' in line or '"level": "critical"' in line
    ]

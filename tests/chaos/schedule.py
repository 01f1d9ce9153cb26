"""What happens to a flow and when: a list of faults from a seed (pure), storms and quiet times in turn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from reflow_kafka.killpoint import POINTS

WORKERS = 3
BROKERS = 3

DAMAGES = ("delete", "delete in use", "truncate", "corrupt")
REACH = ("worker", "broker", "all")
"""Who is cut off: one worker from all brokers, one broker from all workers, all from all."""
_START = 12.0
"""Seconds that brokers take to come back."""
_MORE_OFTEN = 15
"""Up to so many times a process passes a point of a commit before it dies there."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    target: str
    """What it happens to: a worker, the brokers, the network … of which one has one fault at a time."""
    seconds: tuple[float, float]
    """For how long."""
    weight: int
    details: tuple[str, ...] = ("",)
    rest: float = 0.5
    """Seconds until the next fault of the same target."""


KINDS = {
    "kill": Kind("worker", (0.0, 4.0), 4),
    "die at": Kind("worker", (10.0, 18.0), 6, tuple(POINTS)),
    "pause": Kind("worker", (12.0, 16.0), 2),
    "bounce": Kind("worker", (0.0, 3.0), 2),
    "damage": Kind("worker", (0.5, 3.0), 3, DAMAGES),
    "fill the disk": Kind("worker", (3.0, 6.0), 1),
    "join": Kind("joiner", (5.0, 15.0), 1),
    "kill a broker": Kind("brokers", (2.0, 8.0), 3, rest=_START),
    "stop a broker": Kind("brokers", (2.0, 6.0), 1, rest=_START),
    "all brokers away": Kind("brokers", (3.0, 8.0), 1, rest=_START),
    "cut": Kind("network", (0.5, 15.0), 3, REACH),
    "freeze": Kind("network", (1.0, 15.0), 3, REACH),
    "slow": Kind("network", (2.0, 10.0), 2, ("0.02", "0.1", "0.4")),
    "trim": Kind("topics", (0.0, 0.0), 2),
    "jump in time": Kind("clock", (1.0, 5.0), 2, ("-315360000", "-3600", "86400", "315360000")),
}
"""All kinds; a jump is in seconds of event time."""

MUST = (
    frozenset({"die at"}),
    frozenset({"pause"}),
    frozenset(k for k in KINDS if KINDS[k].target == "brokers"),
)
"""Of each of these sets every run has a fault: else luck decides whether it tries what matters most."""
_DRAWS = 10_000

_PLACES = {"worker": WORKERS, "brokers": BROKERS, "network": BROKERS}
_EXCLUSIVE = {"brokers", "network"}
"""Of these all places together have one fault at a time: with two of three away nothing would be tested."""


@dataclass(frozen=True, slots=True)
class Fault:
    """It begins at `at` seconds and ends `seconds` later."""

    at: float
    seconds: float
    kind: str
    place: int
    """Which worker, broker or door."""
    detail: str = ""

    @property
    def until(self) -> float:
        """When it ends."""
        return self.at + self.seconds

    @property
    def target(self) -> tuple[str, int]:
        """What has one fault at a time."""
        target = KINDS[self.kind].target
        return target, 0 if target in _EXCLUSIVE else self.place

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.at:6.1f} s  {self.kind}{detail} at {self.place}, {self.seconds:.1f} s"


def schedule(seed: int, seconds: float, kinds: Sequence[str] = tuple(KINDS)) -> list[Fault]:
    """Faults that end within so many seconds, ordered by time.

    Raises:
        ValueError: that is too short for what every run must have.
    """
    chance = random.Random(seed)
    must = [some for some in MUST if not some.isdisjoint(kinds)]
    for _ in range(_DRAWS):
        faults = _draw(chance, seconds, kinds)
        happens = {fault.kind for fault in faults}
        if not any(some.isdisjoint(happens) for some in must):
            return faults
    raise ValueError(f"{seconds:g} s are too short for a fault of each of {[sorted(some) for some in must]}")


def _draw(chance: random.Random, seconds: float, kinds: Sequence[str]) -> list[Fault]:
    faults: list[Fault] = []
    free: dict[tuple[str, int], float] = {}
    at = chance.uniform(1, 3)
    while at < seconds:
        for _ in range(chance.randint(1, 4)):  # a storm
            fault = _fault(chance, at, kinds)
            if fault.until <= seconds and free.get(fault.target, 0.0) <= fault.at:
                faults.append(fault)
                free[fault.target] = fault.until + KINDS[fault.kind].rest
            at += chance.expovariate(1 / 0.7)
        at += chance.uniform(1, 8)  # and the quiet after it
    return sorted(faults, key=lambda fault: fault.at)


def _fault(chance: random.Random, at: float, kinds: Sequence[str]) -> Fault:
    name = chance.choices(kinds, [KINDS[kind].weight for kind in kinds])[0]
    kind = KINDS[name]
    detail = chance.choice(kind.details)
    if name == "die at":
        often = _MORE_OFTEN if detail.startswith("commit") else 2
        detail = f"{detail}:{chance.randint(1, often)}"
    place = chance.randrange(_PLACES.get(kind.target, 1))
    return Fault(round(at, 2), round(chance.uniform(*kind.seconds), 2), name, place, detail)


def overlapping(faults: Sequence[Fault]) -> list[tuple[Fault, Fault]]:
    """Faults that happen to the same at the same time."""
    found = []
    for target in {fault.target for fault in faults}:
        same = [fault for fault in faults if fault.target == target]
        found += [(one, other) for one, other in pairwise(same) if other.at < one.until]
    return found

"""What can be measured: how each system is started, and what it offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.job import AT_LEAST_ONCE, EXACTLY_ONCE
from benchmarks.processes import python

BOTH = (EXACTLY_ONCE, AT_LEAST_ONCE)
WORKLOADS = {
    "W1": "decode, drop a tenth, add a field, encode",
    "W2": "mean of the last 10 per sensor, durable, one output each",
    # W3, a tumbling 10 s mean per sensor, comes with windows: an oracle, and a program of each system.
    "W4": "map, re-key by site through a topic, count per site, one output each",
}


class Unavailable(Exception):
    """A system cannot be measured here, and why."""


@dataclass(frozen=True)
class System:
    """One system to measure."""

    name: str
    command: Callable[[], list[str]]
    """Makes the command that runs it, without the job; raises `Unavailable`."""
    guarantees: tuple[str, ...] = BOTH
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    embedded: bool = False
    latency: bool = False
    recovers: bool = True
    """It goes on where it was when it is started again."""
    limit: int | None = None
    """It is given no more events than these, being slow."""
    notes: str = field(default="")


def _reflow(values: str) -> Callable[[], list[str]]:
    return lambda: python("benchmarks.workers.reflow", values)


def _program(name: str) -> Callable[[], list[str]]:
    return lambda: python(f"benchmarks.workers.{name}")


_ALL = (
    System("reflow", _reflow("dict"), latency=True, notes="values are dicts"),
    System("reflow-typed", _reflow("typed"), notes="values are msgspec structs"),
    System(
        "reflow-embedded",
        _reflow("dict"),
        guarantees=(EXACTLY_ONCE,),
        embedded=True,
        notes="no broker: the worker's CPU includes the log's",
    ),
    System(
        "bare-lane",
        _program("bare_lane"),
        guarantees=(EXACTLY_ONCE,),
        recovers=False,
        notes="ceiling: no framework, cannot recover",
    ),
    System(
        "aiokafka",
        _program("by_hand_aiokafka"),
        guarantees=(AT_LEAST_ONCE,),
        workloads=("W1",),
        notes="ceiling: a loop by hand",
    ),
    System(
        "confluent",
        _program("by_hand_confluent"),
        guarantees=(AT_LEAST_ONCE,),
        workloads=("W1",),
        notes="ceiling: a loop by hand",
    ),
)
SYSTEMS = {system.name: system for system in _ALL}

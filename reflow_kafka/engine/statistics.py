"""What an engine can tell about itself at any moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StageStatistics:
    """Counts of one stage in this engine, since it started."""

    events: int
    dead_letters: int
    skipped: int
    rewinds: int
    """How often a worker went back to its last commit because of a failing event."""
    retries: int
    """Failed tries after which another was made."""
    late: int = 0
    """Events that came too late for their windows, or what waited for them; they went to output ``late``."""
    in_progress: int = 0
    """Calls of its handler that have begun and not ended."""
    retrying: int = 0
    """Events, or batches, that wait for another try."""
    next_try: float | None = None
    """Seconds until the first of them is tried again."""
    parked: int = 0
    """Events that have moved out of memory until it is their turn."""


@dataclass(frozen=True, slots=True)
class RestoreStatistics:
    """A restore under way."""

    lane: int
    done: int
    """Offsets passed …"""
    total: int
    """… of so many."""


@dataclass(frozen=True, slots=True)
class StandbyStatistics:
    """A copy of a lane of another engine."""

    lane: int
    lag: int | None
    """Changelog records by which it is behind; None: not known yet."""


@dataclass(frozen=True, slots=True)
class FlowStatistics:
    """One flow in this engine."""

    name: str
    assigned: int
    """Lanes given to this engine."""
    running: int
    stuck: int
    commits: int
    take_overs: int
    restored: int
    """Changelog records read at the last take-overs of the lanes."""
    stages: Mapping[str, StageStatistics]
    restores: tuple[RestoreStatistics, ...] = ()
    standbys: tuple[StandbyStatistics, ...] = ()
    """Lanes of other engines of whose state a copy is kept here."""
    remaining: int | None = None
    """Offsets between this engine's positions and the ends of a finite run; None if there is no end."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """All flows of an engine."""

    flows: Mapping[str, FlowStatistics] = field(default_factory=dict)

"""What a stage does besides calling its handler once for each event: windows, timers, joins and the like.

Each kind is frozen data; `lane.programs` makes the program that does it. A stage with an operator is *timed*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from reflow_kafka.units import Clock


@dataclass(frozen=True, slots=True)
class Operator:
    """What all kinds tell about themselves. What stands in their fields is part of the plan's hash."""

    outputs: ClassVar[tuple[str, ...]] = ()
    """Outputs that exist without being declared, besides ``error``."""
    ordered: ClassVar[bool] = False
    """Whether events of several inputs are to be taken in the order of their timestamps."""


@dataclass(frozen=True, slots=True)
class Windowed(Operator):
    """One state per key and window."""

    outputs: ClassVar[tuple[str, ...]] = ("late",)
    window: Any
    close_on: Clock = "event-time"


@dataclass(frozen=True, slots=True)
class Keyed(Operator):
    """State with timers, an end of its life, or stores beside it."""

    ttl: float | None = None
    """Seconds after which an untouched key is forgotten."""
    stores: Mapping[str, Any] | None = None
    """Name → what makes the type of its values."""

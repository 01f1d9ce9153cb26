"""What a supervised engine knows about its place, and how it dies with its supervisor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from reflow_kafka.process import die_with

_VARIABLE = "REFLOW_SUPERVISED"


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of one engine among those of a supervisor; it travels in the environment."""

    instance: str
    """Static identity in the consumer group: after a restart the engine gets its lanes back."""
    started: int
    """Epoch milliseconds: a restarted engine is no newer than its siblings, whose plan is the same."""
    supervisor: int
    """The supervisor's process id."""

    def environment(self) -> dict[str, str]:
        """The variable that says so."""
        return {_VARIABLE: f"{self.supervisor} {self.started} {self.instance}"}

    @classmethod
    def given(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """The seat of this process; None if no supervisor started it."""
        words = environment.get(_VARIABLE, "").split(" ", 2)
        return cls(words[2], int(words[1]), int(words[0])) if len(words) == 3 else None

    @property
    def number(self) -> int:
        """Which of the supervisor's engines it is, from 0."""
        return int(self.instance.rpartition("-")[2])

    def take(self) -> None:
        """From now on this process dies with its supervisor, even if that is killed."""
        os.environ.pop(_VARIABLE, None)  # the seat is not for processes that this one starts
        die_with(self.supervisor)

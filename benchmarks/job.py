"""What a measured program is told, in arguments that other environments and languages understand."""

from __future__ import annotations

import sys
from dataclasses import astuple, dataclass
from typing import Self

EXACTLY_ONCE = "exactly-once"
AT_LEAST_ONCE = "at-least-once"


@dataclass(frozen=True)
class Job:
    """One run of one program. It works until it is told to end by SIGTERM."""

    workload: str
    """``W1`` …, or ``L1``/``L2``: events passed on unchanged over one or two hops."""
    guarantee: str
    bootstrap: str
    """Addresses of Kafka; empty = the embedded log in `directory`."""
    lanes: int
    """Partitions of every topic."""
    input: str
    output: str
    name: str
    """Of this run: the group, and the beginning of the names of all further topics."""
    directory: str
    """For local state."""

    def arguments(self) -> list[str]:
        """The job as command-line arguments."""
        return [str(field) for field in astuple(self)]

    @classmethod
    def from_arguments(cls) -> Self:
        """The job this program was started for; arguments before it are left to the program."""
        workload, guarantee, bootstrap, lanes, input, output, name, directory = sys.argv[-8:]
        return cls(workload, guarantee, bootstrap, int(lanes), input, output, name, directory)

    @property
    def exactly_once(self) -> bool:
        """Whether that is what is asked for."""
        return self.guarantee == EXACTLY_ONCE

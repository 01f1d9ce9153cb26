"""Points at which a process can be told to die, to prove that dying there loses nothing.

``REFLOW_DEBUG_KILL=commit.sent:3`` kills the process (SIGKILL) when it reaches the point ``commit.sent`` for
the third time. Without the variable a point is the call of an empty function, a few times per commit.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Final

from reflow_kafka.errors import UsageError

VARIABLE: Final = "REFLOW_DEBUG_KILL"

POINTS: Final = {
    "takeover.fenced": "the predecessor is fenced, nothing is read yet",
    "takeover.read": "positions and lane record are read, state is not restored",
    "restore.written": "a piece of a changelog is in the local store",
    "takeover.restored": "the state is complete, work has not begun",
    "commit.taken": "the shares of a commit are taken from the workers",
    "commit.begun": "the transaction is open and empty",
    "commit.sent": "all is acknowledged; the transaction is not ended",
    "commit.ended": "the transaction is ended, the local store is behind",
    "commit.written": "the local store has it, too; sources and sinks do not know",
    "commit.done": "the commit is complete",
}
"""Where a process can die, and how far it is there."""


def _armed(wanted: str) -> Callable[[str], None]:
    """What is done at a point."""
    if not wanted:
        return lambda _: None
    point, _, count = wanted.partition(":")
    if point not in POINTS or not count.isdecimal():
        raise UsageError(f"{VARIABLE}={wanted!r}: it is POINT:N with one of the points {', '.join(POINTS)}")
    seen: Counter[str] = Counter()

    def reach(name: str) -> None:
        seen[name] += 1
        if name == point and seen[name] == int(count):
            os.kill(os.getpid(), signal.SIGKILL)

    return reach


reached: Final = _armed(os.environ.get(VARIABLE, ""))
"""Says that the process is at this point."""

"""A process that belongs to another one: it dies with its parent, and starts no engine of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Final

from reflow_kafka.errors import UsageError

_PR_SET_PDEATHSIG: Final = 1
_LOOK_EVERY: Final = 0.5

_runs_handlers = False


def die_with(parent: int) -> None:
    """From now on this process dies with the process `parent`, even if that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_look, args=(parent,), name="parent", daemon=True).start()
    if os.getppid() != parent:  # it died before this line
        os.kill(os.getpid(), signal.SIGKILL)


def _look(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os.kill(os.getpid(), signal.SIGKILL)


def run_handlers() -> None:
    """This process runs handlers for an engine, which is its parent."""
    global _runs_handlers  # noqa: PLW0603
    _runs_handlers = True


def refuse_engine() -> None:
    """An engine is about to start here.

    Raises:
        UsageError: this process runs handlers; a script without guard got here by being imported again.
    """
    if _runs_handlers:
        raise UsageError(
            'the script starts an engine while a process of run_in="process" imports it to find handlers; '
            'put what starts it under: if __name__ == "__main__":'
        )

"""Starting a process that finds the same modules as this one."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import reflow_kafka
from reflow_kafka.errors import UsageError
from reflow_kafka.lane.processes.main import STOP_SIGNALS
from reflow_kafka.lane.processes.wire import Progress, Setup
from reflow_kafka.load import FILES

_BOOT = (
    "import sys; sys.path.insert(0, {root!r}); from reflow_kafka.lane.processes.main import main; "
    "main({channel}, {progress}, {parent})"
)


def start() -> tuple[subprocess.Popen[bytes], socket.socket, Progress]:
    """A new process, its channel, and what it shows of its progress.

    A fresh interpreter, never a fork: the engine has threads, and a fork would take over its locks as they
    are. It takes 0.1 s, most of it CPU, until it waits for calls; a forkserver would save half of that once
    and be a further process to be kept alive.

    Raises:
        OSError: the system cannot start it.
    """
    if sys.platform == "win32":
        raise UsageError('run_in="process" needs a POSIX system; use run_in="thread" on Windows')
    ours, theirs = socket.socketpair()
    try:
        with theirs, tempfile.TemporaryFile() as page:
            page.truncate(Progress.SIZE)
            boot = _BOOT.format(
                root=str(Path(reflow_kafka.__file__).parent.parent),
                channel=theirs.fileno(),
                progress=page.fileno(),
                parent=os.getpid(),
            )
            # Blocked until its own handlers are in place, so that a Ctrl-C meant for us does not end it now.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            try:
                process = subprocess.Popen(
                    [sys.executable, *_flags(), "-c", boot],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), page.fileno()),
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return process, ours, Progress(page.fileno())
    except BaseException:
        ours.close()
        raise


def setup() -> Setup:
    """What the process has to know of this one."""
    from multiprocessing import spawn  # it also lets what is pickled there find `__mp_main__` here

    data: dict[str, Any] = spawn.get_preparation_data("reflow-kafka")
    main = {name: value for name, value in data.items() if name.startswith("init_main")}
    level = logging.getLogger().getEffectiveLevel()
    return Setup(list(sys.path), list(sys.argv), dict(FILES), main or None, level)


def _flags() -> list[str]:
    """The options of this interpreter, such as ``-O`` and ``-W``."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined, no-any-return]

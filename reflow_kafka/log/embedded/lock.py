"""One process at a time may open a data directory; the next one is told which."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from reflow_kafka.errors import UsageError

_held: set[Path] = set()  # the system's lock is per process: it would let this process in twice


class InUse(UsageError):
    """Another process, or another log of this one, has the data directory open."""

    def __init__(self, directory: Path, owner: str) -> None:
        super().__init__(
            f"the data directory {directory} is in use by process {owner}: "
            "stop that process, or choose another directory with --data-dir"
        )
        self.owner = owner


def last_change(directory: Path) -> int:
    """When the directory was last opened or closed by anybody, in nanoseconds; 0 = never."""
    try:
        return (directory / "lock").stat().st_mtime_ns
    except OSError:
        return 0


class DirectoryLock:
    """A lock on ``<directory>/lock``, with the owner's process id in it.

    The system gives it up when the process ends, however it ends: there are no stale locks. It is a record
    lock, which forked children do not inherit: a pool of processes that outlives its parent does not hold it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            InUse: another process has it.
            UsageError: the directory cannot be written.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._path = self._directory.resolve()
            if self._path in _held:
                raise InUse(self._directory, f"{os.getpid()} (this one)")
            file = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(f"the data directory {self._directory} cannot be used: {error}") from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(file, 20).decode(errors="replace").strip()
            os.close(file)
            raise InUse(self._directory, owner or "unknown (it is just starting)") from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file
        _held.add(self._path)

    def release(self) -> None:
        """Give the lock up. The file stays: removing it would let two processes lock two files."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None
            _held.discard(self._path)

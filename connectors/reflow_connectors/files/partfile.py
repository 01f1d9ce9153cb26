"""A file that grows by atomic steps, each of which also stores a position.

The data file only ever counts up to the length that stands in its position file, which is replaced by an
atomic rename after the data are on disk. A crash before the rename leaves bytes beyond that length, which
the next owner cuts off; after it, everything counts. Each step compares the position file with what this
owner last saw, under a lock: of two owners that both believe to have the lane, only one can go on.

The lock is held only within a step, so a process stopped between two steps holds nobody up, and one that
is killed releases it. Data are written only under the lock: an owner that wakes up late changes nothing.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from reflow_kafka.errors import DataLoss, LaneLost, ReflowError, UsageError

LOCK_TIMEOUT: Final = 10.0


class PartFile:
    """One lane's file, opened to append. Its methods block; they may be called from any thread."""

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self.path = path
        self._fsync = fsync
        self._guard = threading.Lock()  # nobody closes the file under a thread that still writes
        self._record_path = path.with_name(f".{path.name}.position")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with self._locked():
                self._seen = self._claim()
        except BaseException:
            os.close(self._fd)
            raise
        self._take(self._seen)

    def store(self, data: bytes, position: Any, extra: Mapping[str, Any]) -> None:
        """Append `data` and set the position, both or neither.

        Raises:
            LaneLost: somebody else has stored something since.
            TimeoutError: another process holds the lock, and does not let go.
        """
        if not data and position == self.position:
            return
        with self._guard, self._locked():
            if self._read_record() != self._seen:
                raise LaneLost(f"{self.path} was written by another owner since it was opened here")
            end = self._length + len(data)
            os.ftruncate(self._fd, self._length)  # what a step that failed half-way may have left
            _write(self._fd, data, self._length)
            if self._fsync and data:
                os.fsync(self._fd)
            record = orjson.dumps({"length": end, "position": position, **extra})
            self._write_record(record)
            self._take(record)

    def close(self) -> None:
        """Close the file; nothing happens the second time."""
        with self._guard:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _claim(self) -> bytes:
        """The record as it stands; cuts off what a crash left, and begins a new file."""
        size = os.fstat(self._fd).st_size
        record = self._read_record()
        if record is None:
            if size:
                raise UsageError(
                    f"{self.path} exists, but was not written by this sink ({self._record_path.name} is"
                    " missing): move it away, or write elsewhere"
                )
            # First of all, so that data without a record are never ours.
            record = orjson.dumps({"length": 0, "position": None})
            self._write_record(record)
            return record
        length = orjson.loads(record)["length"]
        if size < length:
            raise DataLoss(f"{self.path} has {size} bytes, but {length} were written: it was cut or replaced")
        if size > length:
            os.ftruncate(self._fd, length)
        return record

    def _take(self, record: bytes) -> None:
        self._seen = record
        content = orjson.loads(record)
        self._length: int = content.pop("length")
        self.position: Any = content.pop("position")
        self.extra: dict[str, Any] = content

    def _read_record(self) -> bytes | None:
        try:
            return self._record_path.read_bytes()
        except FileNotFoundError:
            return None

    def _write_record(self, record: bytes) -> None:
        new = self._record_path.with_name(f"{self._record_path.name}.new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            _write(fd, record, 0)
            if self._fsync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(new, self._record_path)
        if self._fsync:
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._fd < 0:
            raise ReflowError(f"{self.path} is closed")
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"another process has held {self.path} for {LOCK_TIMEOUT:g} s: is it stopped?"
                    ) from None
                time.sleep(0.01)
        try:
            if not self._still_there():
                raise ReflowError(f"{self.path} was moved or deleted while it was being written")
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _still_there(self) -> bool:
        """Whether the path still names the file that is open (and locked)."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except FileNotFoundError:
            return False


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written

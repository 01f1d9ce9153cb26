"""Directories for the local state of lanes: each is used by one process at a time, and old copies go.

A lane's state lies in ``<root>/<flow>/lane-<p>``. If another process holds that directory, even one that
is stopped and will never let go, it is not waited for: ``lane-<p>.1``, ``.2`` … are used instead.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from reflow_kafka.errors import StateError

log = logging.getLogger(__name__)

UNUSED_AFTER: Final = 24 * 3600.0
"""Seconds after which a copy that nobody used is removed."""

# Locked by the process that uses the directory, whose id stands in its first line. Its second line is the
# user's note, its mtime says when the directory was last used.
_OWNER = "owner"
_DAMAGED = "damaged"  # exists if the content turned out to be unusable


class Directory:
    """One directory, held by this process until `release`."""

    def __init__(self, path: Path, fd: int, *, fresh: bool) -> None:
        self.path = path
        self.fresh = fresh
        self._fd = fd
        lines = os.pread(fd, 1000, 0).decode(errors="replace").splitlines()
        self.note = lines[1] if len(lines) > 1 else ""
        """What the last user wrote with `touch`."""

    def touch(self, now: float, note: str | None = None) -> None:
        """Note that the directory is in use, and something to be found by the next user."""
        if note is not None:
            self.note = note
        text = f"{os.getpid()}\n{self.note}\n".encode()
        os.pwrite(self._fd, text, 0)
        os.ftruncate(self._fd, len(text))
        os.utime(self._fd, (now, now))

    def damage(self, reason: str) -> None:
        """Note, beyond the life of this process, that the content cannot be used."""
        try:
            (self.path / _DAMAGED).write_text(reason)
        except OSError:  # the disk that failed the store may fail this too; then it is found again
            log.warning("cannot note that %s is damaged", self.path, exc_info=True)

    @property
    def damaged(self) -> str | None:
        """Why the content cannot be used, if that is known."""
        try:
            return (self.path / _DAMAGED).read_text(errors="replace")
        except OSError:
            return None

    def release(self) -> None:
        """Let other processes have it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LaneDirectories:
    """Finds, sets aside and removes the directories of lanes below `root`."""

    def __init__(self, root: Path, clock: Callable[[], float]) -> None:
        self._root = root
        self._clock = clock

    def take(self, flow: str, lane: int, avoid: Collection[Path] = ()) -> Directory:
        """Hold the most recently used directory of the lane that is free, or a new one.

        Raises:
            StateError: the file system does not let us.
        """
        base = self._root / flow / f"lane-{lane}"
        try:
            base.parent.mkdir(parents=True, exist_ok=True)
            known = self._copies(base)
            for path in sorted(known, key=_last_used, reverse=True):
                if path not in avoid and (held := _hold(path, fresh=False)) is not None:
                    held.touch(self._clock())
                    return held
            if known:
                log.warning("%s is in use by another process: a new copy is made beside it", base)
            for number in range(10_000):
                path = base.with_name(f"{base.name}.{number}") if number else base
                if not path.exists():
                    path.mkdir(exist_ok=True)
                    if (held := _hold(path, fresh=True)) is not None:
                        held.touch(self._clock())
                        return held
        except OSError as e:
            raise StateError(
                f"cannot use {base} for local state: {e}; free or repair it, or set --data-dir"
            ) from e
        raise StateError(f"{base} and all its copies are in use; remove those that no process needs")

    @staticmethod
    def hold(path: Path) -> Directory | None:
        """Hold this very directory, or None if it is in use or gone."""
        return _hold(path, fresh=False)

    def lanes(self, flow: str) -> frozenset[int]:
        """The lanes of a flow that have a directory."""
        named = (re.fullmatch(r"lane-(\d+)(\.\d+)?", path.name) for path in self._root.glob(f"{flow}/lane-*"))
        return frozenset(int(found[1]) for found in named if found)

    def set_aside(self, held: Directory, reason: str) -> None:
        """Rename a held directory, release it, and say why; it is removed when nobody looked for a day."""
        now = self._clock()
        number = int(now * 1000)
        lane = held.path.name.partition(".")[0]
        try:
            held.touch(now)
            while (aside := held.path.with_name(f"{lane}.aside-{number}")).exists():
                number += 1
            held.path.rename(aside)
        except OSError as e:
            raise StateError(f"cannot set {held.path} aside: {e}") from e
        finally:
            held.release()
        log.warning("local state %s set aside as %s: %s", held.path, aside.name, reason)

    def sweep(self, flow: str = "*") -> None:
        """Remove copies, and what was set aside, once nobody has used them for a day."""
        for path in self._root.glob(f"{flow}/lane-*.*"):
            if self._clock() - _last_used(path) < UNUSED_AFTER:
                continue
            try:
                self._remove(path)
            except OSError as e:
                log.warning("cannot remove %s: %s", path, e)

    @staticmethod
    def _remove(path: Path) -> None:
        held = _hold(path, fresh=False)
        if held is None:
            return
        try:
            # Renamed first, so that nobody takes a directory that is half removed.
            gone = path.with_name(f"{path.name}.removed")
            path.rename(gone)
            shutil.rmtree(gone)
        finally:
            held.release()
        log.info("removed %s: not used for a day", path)

    @staticmethod
    def _copies(base: Path) -> list[Path]:
        named = re.compile(re.escape(base.name) + r"(\.\d+)?")
        return [p for p in base.parent.iterdir() if named.fullmatch(p.name) and p.is_dir()]


def _hold(path: Path, *, fresh: bool) -> Directory | None:
    """Lock a directory, or None if another process has it or it just went away."""
    owner = path / _OWNER
    try:
        fd = os.open(owner, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking it may have been renamed: then the lock is on what is no longer there.
        if os.stat(owner).st_ino == os.fstat(fd).st_ino:
            return Directory(path, fd, fresh=fresh)
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _last_used(path: Path) -> float:
    for file in (path / _OWNER, path):
        try:
            return file.stat().st_mtime
        except OSError:
            continue
    return 0.0

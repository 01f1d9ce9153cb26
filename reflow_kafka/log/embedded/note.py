"""What was known of the embedded log's files when it was in use: RocksDB does not miss what is gone.

A manifest that was cut or changed, or a write-ahead log that is gone, looks to it like a log that was never
longer: it would open, empty perhaps, and remove the files that it no longer knows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Self

import msgspec

from reflow_kafka.rocksfiles import log_fault, manifest_fault, manifest_note, newest

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


class Note(msgspec.Struct):
    """What a later opening must find again."""

    manifest: str = ""
    """See `manifest_note`."""
    wal: str = ""
    wal_size: int = 0
    boot: str = ""
    """The machine's start: a loss of power may take what was written last, the end of a process does not."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Of the database in `path`."""
        wal = newest(path, "*.log")
        return cls(manifest_note(path), wal.name if wal else "", wal.stat().st_size if wal else 0, _boot())

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """What was written by `write`, None if there is nothing of the kind.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return msgspec.json.decode(file.read_bytes(), type=cls)
        except (FileNotFoundError, ValueError):
            return None

    def write(self, file: Path) -> None:
        """Keep it, whole or not at all."""
        new = file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(self))
        os.replace(new, file)

    def fault(self, path: Path) -> str | None:
        """What of it is gone from the database in `path`, None if nothing is."""
        for name, pattern in ((self.manifest.partition(" ")[0], "MANIFEST-*"), (self.wal, "*.log")):
            found = newest(path, pattern)
            if name and (found is None or (len(found.name), found.name) < (len(name), name)):
                return f"{name} is gone"
        if fault := manifest_fault(path, self.manifest):
            return fault
        wal = path / self.wal
        same_boot = self.boot == _boot() != ""
        if self.wal and same_boot and wal.exists() and wal.stat().st_size < self.wal_size:
            return f"{wal.name} was cut to {wal.stat().st_size} of {self.wal_size} bytes"
        return None


def damage(path: Path, noted: Note | None) -> str | None:
    """Why the database in `path` must not be opened, None if nothing speaks against it."""
    if noted is not None and (fault := noted.fault(path)):
        return fault
    if fault := log_fault(path):  # opening it would never return
        return fault
    for wal in path.glob("*.log"):
        with wal.open("rb") as file:
            if (start := file.read(7)) and not any(start):
                return f"{wal.name} holds zeros"
    if not (path / "CURRENT").exists() and (
        left := sorted(path.glob("*.sst")) or sorted(path.glob("MANIFEST-*"))
    ):
        return f"CURRENT is gone, but there is {left[0].name}"
    return None


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""

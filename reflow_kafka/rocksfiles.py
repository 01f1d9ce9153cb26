"""Files of a RocksDB: damage that it overlooks or does not survive, and failures that are no damage."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Final

_BLOCK: Final = 32 * 1024
_HEADER: Final = 7  # checksum (4), length (2), type (1)
_NOTE: Final = re.compile(r"(?P<name>MANIFEST-\d+) (?P<size>\d{1,18}) (?P<sum>\d{1,10})")
_RECYCLED: Final = frozenset({5, 6, 7, 8, 11})
# What the machine lacks, as RocksDB and Python word it: the content is not to blame and stays where it is.
_MACHINE: Final = (
    ("No space left", "the disk is full: free some space"),
    ("Disk quota exceeded", "the disk quota is used up: free some space or raise it"),
    ("Read-only file system", "the file system is read-only"),
    ("Permission denied", "this user may not write there: change owner or mode"),
    ("Too many open files", "too many open files: raise the limit (ulimit -n)"),
    ("Cannot allocate memory", "the machine is out of memory"),
)


def lacking(message: str) -> str | None:
    """What the machine lacks, if that is what an error says."""
    return next((cause for text, cause in _MACHINE if text in message), None)


def log_fault(path: Path) -> str | None:
    """What makes a log of the RocksDB in `path` unreadable, or None.

    Manifests are logs like the write-ahead ones. Record types of recycled logs appear in none of ours, only
    in garbage. When RocksDB (seen in 9.8, in every recovery mode) meets one, opening never returns, and
    rocksdict holds the GIL meanwhile. Any other garbage it notices by itself. Write-ahead logs are empty
    after a clean close.
    """
    for file in [*path.glob("MANIFEST-*"), *path.glob("*.log")]:
        with file.open("rb") as reader:
            at = 0
            while block := reader.read(_BLOCK):
                if _has_recycled(block):
                    return f"{file} holds garbage after offset {at}"
                at += len(block)
    return None


def _has_recycled(block: bytes) -> bool:
    """Follow the records of a block from header to header, as RocksDB does; none crosses into the next."""
    at = 0
    while at + _HEADER <= len(block):
        if block[at + 6] in _RECYCLED:
            return True
        at += _HEADER + (block[at + 4] | block[at + 5] << 8)
    return False


def newest(path: Path, pattern: str) -> Path | None:
    """The file with the highest number: numbers have six digits and more, and only grow."""
    # Not by `glob`, to which a directory that cannot be read is an empty one.
    files = [file for file in path.iterdir() if file.match(pattern)] if path.exists() else []
    return max(files, key=lambda file: (len(file.name), file.name), default=None)


def manifest_note(path: Path) -> str:
    """Name, size and sum of the manifest, RocksDB's list of its files, to be kept elsewhere; or nothing."""
    try:
        name = (path / "CURRENT").read_text().strip()
        data = (path / name).read_bytes()
        return f"{name} {len(data)} {zlib.crc32(data)}"
    except (OSError, ValueError):
        return ""


def manifest_fault(path: Path, note: str) -> str | None:
    """How the manifest falls short of what was noted of it, or None.

    RocksDB takes a manifest that was cut, or damaged near its end, as one that was written so far, and opens
    with tables missing. What was added since the note is left to it.
    """
    if not (noted := _NOTE.fullmatch(note)):
        return None
    file, size = path / noted["name"], int(noted["size"])
    if not file.is_file():
        return None
    data = file.read_bytes()
    if len(data) < size:
        return f"{file} was cut to {len(data)} of {size} bytes"
    if zlib.crc32(data[:size]) != int(noted["sum"]):
        return f"{file} was changed"
    return None

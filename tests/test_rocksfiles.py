from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from reflow_kafka.rocksfiles import log_fault, manifest_fault, manifest_note


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A write-ahead log of several blocks, as a killed process leaves it."""
    script = """
import os, sys
from rocksdict import Options, Rdict
db = Rdict(sys.argv[1], Options(raw_mode=True))
for n in range(300):
    db[b"%d" % n] = os.urandom(n * 3)
db[b"large"] = os.urandom(100_000)
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    (file,) = tmp_path.glob("*.log")
    assert file.stat().st_size > 200_000
    return file


def test_what_rocksdb_writes_is_sound(log: Path) -> None:
    assert log_fault(log.parent) is None
    assert manifest_fault(log.parent, manifest_note(log.parent)) is None


@pytest.mark.parametrize("cut", [1, 5, 20, 150_000])
def test_a_torn_end_is_sound(log: Path, cut: int) -> None:
    os.truncate(log, log.stat().st_size - cut)
    assert log_fault(log.parent) is None
    Rdict(str(log.parent), Options(raw_mode=True)).close()


@pytest.mark.parametrize("at", [0, 3 * 32 * 1024, -1])
@pytest.mark.parametrize("kind", [5, 6, 7, 8, 11])
def test_what_rocksdb_never_returns_from_is_found(log: Path, kind: int, at: int) -> None:
    data = bytearray(log.read_bytes())
    at = len(data) if at < 0 else at
    data[at : at + 47] = b"abcd" + struct.pack("<HB", 20, kind) + b"z" * 40
    log.write_bytes(data)
    assert str(log) in str(log_fault(log.parent))


def test_a_manifest_is_such_a_log_too(log: Path) -> None:
    (file,) = log.parent.glob("MANIFEST-*")
    with file.open("ab") as manifest:
        manifest.write(b"abcd" + struct.pack("<HB", 20, 5) + b"z" * 40)
    assert str(file) in str(log_fault(log.parent))


@pytest.mark.parametrize("kind", [0, 1, 4, 9, 10, 12, 13, 130, 131, 255])
def test_other_garbage_is_left_to_rocksdb(log: Path, kind: int) -> None:
    with log.open("ab") as file:
        file.write(b"abcd" + struct.pack("<HB", 60_000, kind) + b"z" * 40)
    assert log_fault(log.parent) is None
    db = Rdict(str(log.parent), Options(raw_mode=True))
    assert len(db[b"large"]) == 100_000
    db.close()


def test_a_manifest_that_was_cut_is_found(log: Path) -> None:
    note = manifest_note(log.parent)
    (file,) = log.parent.glob("MANIFEST-*")
    os.truncate(file, file.stat().st_size - 1)
    assert str(file) in str(manifest_fault(log.parent, note))
    file.unlink()
    assert manifest_fault(log.parent, note) is None


def test_a_manifest_that_was_changed_is_found(log: Path) -> None:
    note = manifest_note(log.parent)
    (file,) = log.parent.glob("MANIFEST-*")
    data = file.read_bytes()
    file.write_bytes(data + b"more")
    assert manifest_fault(log.parent, note) is None
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert str(file) in str(manifest_fault(log.parent, note))


@pytest.mark.parametrize(
    "note", ["", "MANIFEST-000001", "MANIFEST-0 x 1", "MANIFEST-../x 5 5", "MANIFEST-1 5", "\ufffd 9 9"]
)
def test_a_note_that_says_nothing_is_ignored(tmp_path: Path, note: str) -> None:
    assert manifest_fault(tmp_path, note) is None
    assert manifest_note(tmp_path) == ""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from reflow_kafka.errors import StateError
from reflow_kafka.state.directory import UNUSED_AFTER
from reflow_kafka.state.rocks import RocksBackend
from reflow_kafka.state.store import LaneStores, StoreMark
from tests.state.contract import BackendContract

STORES = ["one", "two"]
HOUR = 3600.0

WRITER = """
import os, sys
from pathlib import Path
from reflow_kafka.state.rocks import RocksBackend
from reflow_kafka.state.store import StoreMark
stores = RocksBackend(Path(sys.argv[1]), write_buffer_bytes=1 << 20).open("flow", 0, ["one", "two"])
number = stores.mark().positions["one"] if stores.mark() else 0
while True:
    number += 1
    text = b"%d" % number
    one = [(b"k%d" % (number % 1000), text), (b"last", text)]
    two = [(text, bytes(1000)), (b"last", text)]
    stores.write({"one": one, "two": two}, StoreMark("i", {"one": number, "two": number}, number))
    if number % 100 == 0:
        print(number, flush=True)
"""


@contextmanager
def writer(data: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes to lane 0 for ever."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def wait_for(process: subprocess.Popen[str], number: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= number:
            return
    raise AssertionError(f"the writer ended with {process.wait()}")


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def fill(stores: LaneStores, *rounds: int) -> None:
    """Each round adds 200 keys to each store, so that the mark tells how many there must be."""
    for number in rounds or (1,):
        pairs = [(b"%d-%d" % (number, n), os.urandom(50)) for n in range(200)]
        mark = StoreMark("i", {"one": number, "two": number}, number)
        stores.write({"one": pairs, "two": pairs}, mark)


def rounds_in(stores: LaneStores) -> int:
    """How many rounds the mark claims, after checking that they are there."""
    mark = stores.mark()
    rounds = 0 if mark is None else mark.positions["one"]
    for store in STORES:
        found = list(stores.scan(store))
        assert len(found) == 200 * rounds
        assert all(stores.get(store, key) == value for key, value in found[::50])
    return rounds


def names(data: Path) -> set[str]:
    return {path.name for path in (data / "flow").iterdir()}


class TestRocks(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> RocksBackend:
        return RocksBackend(tmp_path)


def test_data_and_mark_agree_after_kill_9(tmp_path: Path) -> None:
    number = 0
    for stop in (700, 2500, 4000):
        with writer(tmp_path) as process:
            wait_for(process, stop)
        stores = RocksBackend(tmp_path).open("flow", 0, STORES)
        mark = stores.mark()
        assert mark is not None
        assert mark.positions["one"] >= max(number, stop)  # what was written before the kill is there
        number = mark.positions["one"]
        assert mark == StoreMark("i", {"one": number, "two": number}, number)
        assert stores.get("one", b"last") == stores.get("two", b"last") == b"%d" % number
        assert stores.get("one", b"k%d" % (number % 1000)) == b"%d" % number
        assert sum(1 for _ in stores.scan("two")) == number + 1
        stores.close()
    assert names(tmp_path) == {"lane-0"}


def test_a_stopped_process_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with writer(tmp_path) as process:
        wait_for(process, 100)
        process.send_signal(signal.SIGSTOP)
        backend = RocksBackend(tmp_path)
        began = time.monotonic()
        stores = backend.open("flow", 0, STORES)
        assert time.monotonic() - began < 2
        assert stores.mark() is None
        fill(stores)
        other = RocksBackend(tmp_path).open("flow", 0, STORES)
        assert other.mark() is None
        other.close()
        assert names(tmp_path) == {"lane-0", "lane-0.1", "lane-0.2"}
        assert "in use by another process" in caplog.text
        stores.close()
        # It goes on with its own copy, and its copy is the one that it sets aside.
        stores = backend.open("flow", 0, STORES)
        assert stores.mark() == StoreMark("i", {"one": 1, "two": 1}, 1)
        stores.close()
        backend.set_aside("flow", 0, "test")
        assert "lane-0" in names(tmp_path)
        assert "lane-0.1" not in names(tmp_path)
        process.send_signal(signal.SIGCONT)
        wait_for(process, 200)


def test_a_foreign_lock_is_not_waited_for(tmp_path: Path) -> None:
    """Held by a program that does not know our own lock, or by an iterator that somebody kept."""
    backend = RocksBackend(tmp_path)
    stores = backend.open("flow", 0, STORES)
    fill(stores)
    stores.close()
    path = tmp_path / "flow" / "lane-0"
    families = Rdict.list_cf(str(path))
    holder = Rdict(str(path), Options(raw_mode=True), {name: Options(raw_mode=True) for name in families})
    stores = backend.open("flow", 0, STORES)
    assert stores.mark() is None
    stores.close()
    holder.close()
    assert names(tmp_path) == {"lane-0", "lane-0.1"}


def test_the_most_recent_free_copy_is_used(tmp_path: Path) -> None:
    clock = Clock()
    backend = RocksBackend(tmp_path, clock=clock)
    first, second = (backend.open("flow", 0, STORES) for _ in range(2))
    fill(first)
    clock.now += 100
    fill(second, 2)
    second.close()
    clock.now += 100
    first.write({}, StoreMark("i", {"one": 3, "two": 3}, 3))  # in use until now, then killed
    first.close()
    for expected in (3, 3):
        stores = backend.open("flow", 0, STORES)
        mark = stores.mark()
        assert mark is not None
        assert mark.caught_up == expected
        stores.close()
    backend.set_aside("flow", 0, "test")
    stores = backend.open("flow", 0, STORES)
    mark = stores.mark()
    assert mark is not None
    assert mark.caught_up == 2
    stores.close()


def test_copies_that_nobody_uses_go_after_a_day(tmp_path: Path) -> None:
    clock = Clock()
    backend = RocksBackend(tmp_path, clock=clock)
    held = [backend.open("flow", 0, STORES) for _ in range(3)]
    for stores in held:
        fill(stores)
    backend.open("flow", 1, STORES).close()
    backend.set_aside("flow", 1, "test")
    held[0].close()
    held[1].close()
    (aside,) = names(tmp_path) - {"lane-0", "lane-0.1", "lane-0.2"}
    assert aside.startswith("lane-1.aside-")
    clock.now += UNUSED_AFTER - 1
    RocksBackend(tmp_path, clock=clock)
    assert names(tmp_path) == {"lane-0", "lane-0.1", "lane-0.2", aside}
    clock.now += 1
    RocksBackend(tmp_path, clock=clock)
    assert names(tmp_path) == {"lane-0", "lane-0.2"}  # the main one stays, and so does what is in use
    assert held[2].get("one", b"1-0") is not None
    clock.now += UNUSED_AFTER
    held[2].write({}, StoreMark("i", {"one": 1, "two": 1}, 1))  # then killed: it was in use until now
    held[2].close()
    clock.now += HOUR
    RocksBackend(tmp_path, clock=clock)
    assert names(tmp_path) == {"lane-0", "lane-0.2"}


def test_setting_aside_twice_keeps_both(tmp_path: Path) -> None:
    backend = RocksBackend(tmp_path, clock=lambda: 1_700_000_000.0)
    for _ in range(2):
        fill(stores := backend.open("flow", 0, STORES))
        stores.close()
        backend.set_aside("flow", 0, "test")
    assert len(names(tmp_path)) == 2


def kinds(path: Path) -> list[Path]:
    """One file of every kind."""
    return list({(file.suffix or file.name.split("-")[0]): file for file in sorted(path.iterdir())}.values())


KINDS = [
    "sst",
    "log",
    "MANIFEST",
    "CURRENT",
    "OPTIONS",
    "IDENTITY",
    "LOG",
    "rocksdict-config",
    "owner",
    "LOCK",
]


def one_byte(data: bytes) -> bytes:
    """With one byte changed."""
    at = len(data) // 3
    return data[:at] + bytes([data[at] ^ 0xFF if data else 0]) + data[at + 1 :]


HARMLESS = {"OPTIONS", "LOG", "owner", "LOCK"}
HARM: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "cut": lambda data: data[: len(data) // 2],
    "garbage": lambda data: os.urandom(max(len(data), 100)),
    "zeros": lambda data: bytes(len(data)),
    "one byte": one_byte,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State with tables as well as a write-ahead log, as a killed process leaves it."""
    data = tmp_path_factory.mktemp("model")
    backend = RocksBackend(data / "live")
    fill(stores := backend.open("flow", 0, STORES), *range(1, 31))
    stores.close()
    stores = backend.open("flow", 0, STORES)
    fill(stores, *range(31, 36))
    shutil.copytree(data / "live", data / "killed")
    stores.close()
    return data / "killed"


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("kind", KINDS)
def test_corrupt_state_never_stops_anything(model: Path, tmp_path: Path, kind: str, harm: str) -> None:
    shutil.copytree(model, tmp_path, dirs_exist_ok=True)
    files = [
        file
        for file in (tmp_path / "flow" / "lane-0").iterdir()
        if (file.suffix == f".{kind}" if kind in {"sst", "log"} else file.name.startswith(kind))
    ]
    assert files
    for file in files:
        file.write_bytes(HARM[harm](file.read_bytes()))
    backend = RocksBackend(tmp_path)
    failed = 0
    for _ in range(3):
        stores = backend.open("flow", 0, STORES)
        try:
            fill(stores, rounds_in(stores) + 1)
            rounds_in(stores)
        except StateError:
            failed += 1
        finally:
            stores.close()
    # A broken block is noticed when it is read: the next start begins anew, and never fails again.
    assert failed <= 1
    if kind in HARMLESS:
        stores = backend.open("flow", 0, STORES)
        assert rounds_in(stores) == 38
        stores.close()


def test_an_unreadable_block_does_not_end_a_scan_as_if_it_were_the_end(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path, dirs_exist_ok=True)
    tables = (tmp_path / "flow" / "lane-0").glob("*.sst")
    table = max(tables, key=lambda file: file.stat().st_size)
    table.write_bytes(HARM["one byte"](table.read_bytes()))
    backend = RocksBackend(tmp_path)
    stores = backend.open("flow", 0, STORES)
    assert stores.mark() is not None
    with pytest.raises(StateError, match="Corruption"):
        rounds_in(stores)
    stores.close()
    stores = backend.open("flow", 0, STORES)
    assert rounds_in(stores) == 0
    stores.close()


def test_missing_files_are_no_obstacle(model: Path, tmp_path: Path) -> None:
    for number, file in enumerate(kinds(model / "flow" / "lane-0")):
        data = tmp_path / str(number)
        shutil.copytree(model, data)
        (data / "flow" / "lane-0" / file.name).unlink()
        for _ in range(3):
            stores = RocksBackend(data).open("flow", 0, STORES)
            try:
                rounds_in(stores)
                break
            except StateError:
                continue
            finally:
                stores.close()
        else:
            pytest.fail(f"without {file.name} it fails again and again")


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: writing fails in the same place."""
    script = """
import os, resource, sys
from pathlib import Path
from reflow_kafka.errors import StateError
from reflow_kafka.state.rocks import RocksBackend
from reflow_kafka.state.store import StoreMark
stores = RocksBackend(Path(sys.argv[1])).open("flow", 0, ["one"])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
number = 0
try:
    while number < 1000:
        pairs = [(b"%d" % number, os.urandom(5000))]
        stores.write({"one": pairs}, StoreMark("i", {"one": number + 1}, 0))
        number += 1
except StateError as e:
    print(number, e)
os._exit(0)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    number, message = ran.stdout.split(maxsplit=1)
    assert "lane-0 (one): " in message
    stores = RocksBackend(tmp_path).open("flow", 0, ["one"])
    mark = stores.mark()
    assert mark is None or mark.positions["one"] == sum(1 for _ in stores.scan("one")) >= int(number)
    stores.close()


def test_a_disk_that_is_full_when_it_is_closed_keeps_nothing_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = RocksBackend(tmp_path)
    stores = backend.open("flow", 0, ["one"])
    pairs = [(b"%d" % number, os.urandom(1000)) for number in range(1000)]
    stores.write({"one": pairs}, StoreMark("i", {"one": 1000}, 0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        stores.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "lane-0 was closed with its last changes in the log only: " in caplog.text
    stores = backend.open("flow", 0, ["one"])
    assert sorted(stores.scan("one")) == sorted(pairs)
    stores.close()
    assert [path.name for path in (tmp_path / "flow").iterdir()] == ["lane-0"]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("IO error: No space left on device: While appending to file: 12.log", "the disk is full"),
        ("IO error: While open a file for appending: Too many open files", "ulimit -n"),
        ("IO error: Disk quota exceeded: While fsync", "quota"),
    ],
)
def test_what_the_machine_lacks_is_not_held_against_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str, told: str
) -> None:
    backend = RocksBackend(tmp_path)
    stores = backend.open("flow", 0, STORES)
    fill(stores)

    class Full:
        def write(self, _: object) -> None:
            raise Exception(message)

    db = stores._db  # type: ignore[attr-defined]
    monkeypatch.setattr(stores, "_db", Full())
    with pytest.raises(StateError, match=told):
        stores.write({"one": [(b"a", b"1")]}, StoreMark("i", {"one": 9, "two": 9}, 9))
    monkeypatch.setattr(stores, "_db", db)
    stores.close()
    stores = backend.open("flow", 0, STORES)
    assert stores.mark() == StoreMark("i", {"one": 1, "two": 1}, 1)
    stores.close()


def test_a_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "flow").write_text("not a directory")
    with pytest.raises(StateError, match=r"lane-0 for local state.*--data-dir"):
        RocksBackend(tmp_path).open("flow", 0, STORES)


def test_what_is_no_state_is_set_aside(tmp_path: Path) -> None:
    lane = tmp_path / "flow" / "lane-0"
    lane.mkdir(parents=True)
    (lane / "CURRENT").mkdir()
    stores = RocksBackend(tmp_path).open("flow", 0, STORES)
    assert stores.mark() is None
    stores.close()


def test_wrong_types_are_the_callers_fault(tmp_path: Path) -> None:
    backend = RocksBackend(tmp_path)
    stores = backend.open("flow", 0, ["one"])
    with pytest.raises(Exception, match=r"."):
        stores.write({"one": [("text", b"")]}, StoreMark("i", {"one": 1}, 1))  # type: ignore[list-item]
    stores.write({"one": [(b"a", b"1")]}, StoreMark("i", {"one": 1}, 1))
    stores.close()
    assert not (tmp_path / "flow" / "lane-0" / "damaged").exists()

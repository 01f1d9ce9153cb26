"""CSV and JSON-lines sinks: exactly once, whatever is killed."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from reflow_connectors.files import CsvSink, JsonLinesSink, partfile
from reflow_kafka.errors import DataLoss, LaneLost, ReflowError, Reject, UsageError
from reflow_kafka.event import Event

from .contract import check_exactly_once, check_sink, context


def read_lines(path: Path) -> list[Any]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def only(folder: Path) -> Path:
    """The one file that a sink has written there."""
    (path,) = folder.glob("[!.]*")
    return path


def read_csv(path: Path) -> list[Any]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(data.decode().splitlines(keepends=True)))


@pytest.mark.parametrize("zipped", [False, True])
async def test_json_lines(tmp_path: Path, zipped: bool) -> None:
    async def read() -> list[Any]:
        return read_lines(only(tmp_path))

    await check_sink(JsonLinesSink(tmp_path, gzip=zipped), read)


@pytest.mark.parametrize("zipped", [False, True])
async def test_json_lines_exactly_once(tmp_path: Path, zipped: bool) -> None:
    async def read() -> list[Any]:
        return read_lines(only(tmp_path))

    await check_exactly_once(JsonLinesSink(tmp_path, gzip=zipped), read)


@pytest.mark.parametrize("zipped", [False, True])
async def test_csv(tmp_path: Path, zipped: bool) -> None:
    async def read() -> list[Any]:
        return read_csv(only(tmp_path))

    await check_sink(CsvSink(tmp_path, gzip=zipped), read, lambda n: {"n": str(n), "t": '"a",\r\nü'})


async def test_csv_exactly_once(tmp_path: Path) -> None:
    async def read() -> list[Any]:
        return read_csv(only(tmp_path))

    await check_exactly_once(CsvSink(tmp_path), read, lambda n: {"n": str(n)})


@pytest.mark.parametrize(
    ("path", "zipped", "lane", "name"),
    [
        ("out/", False, 3, "out/part-stage-3.jsonl"),
        ("out", True, 0, "out/part-stage-0.jsonl.gz"),
        ("out.jsonl", False, 0, "out-0.jsonl"),
        ("out.jsonl", True, 2, "out-2.jsonl.gz"),
        ("out.jsonl.gz", True, 2, "out-2.jsonl.gz"),
        ("{lane}.out.txt", False, 7, "7.out.txt"),
    ],
)
async def test_names(tmp_path: Path, path: str, zipped: bool, lane: int, name: str) -> None:
    writer = await JsonLinesSink(f"{tmp_path}/{path}", gzip=zipped).open(context(lane))
    await writer.write([Event({"a": 1})])
    await writer.flush()
    await writer.close()
    assert read_lines(tmp_path / name) == [{"a": 1}]


async def test_what_a_crash_left_is_cut_off(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "out.jsonl")
    writer = await sink.open(context())
    await writer.write([Event(1)])
    await writer.flush({"at": 1})
    await writer.close()
    with (tmp_path / "out-0.jsonl").open("ab") as file:
        file.write(b"2\n3")
    writer = await sink.open(context())
    assert await writer.position() == {"at": 1}
    assert read_lines(tmp_path / "out-0.jsonl") == [1]
    await writer.close()


async def test_a_flush_that_failed_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = await JsonLinesSink(tmp_path / "out.jsonl").open(context())
    await writer.write([Event(1)])
    real = os.replace
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(partfile.os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            await writer.flush({"at": 1})
    assert os.replace is real
    assert await writer.position() is None
    await writer.flush({"at": 1})
    await writer.close()
    assert read_lines(tmp_path / "out-0.jsonl") == [1]


async def test_files_that_are_not_what_they_were(tmp_path: Path) -> None:
    path = tmp_path / "out-0.jsonl"
    sink = JsonLinesSink(tmp_path / "out.jsonl")
    path.write_text("somebody's\n")
    with pytest.raises(UsageError, match="not written by this sink"):
        await sink.open(context())
    assert path.read_text() == "somebody's\n"
    path.unlink()

    writer = await sink.open(context())
    await writer.write([Event(1)])
    await writer.flush({"at": 1})
    path.unlink()
    await writer.write([Event(2)])
    with pytest.raises(ReflowError, match="moved or deleted"):
        await writer.flush({"at": 2})
    await writer.close()
    with pytest.raises(DataLoss, match="has 0 bytes, but 2 were written"):
        await sink.open(context())


async def test_a_lock_that_is_held_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(partfile, "LOCK_TIMEOUT", 0.1)
    writer = await JsonLinesSink(tmp_path / "out.jsonl").open(context())
    await writer.write([Event(1)])
    with (tmp_path / "out-0.jsonl").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="another process has held"):
            await writer.flush({"at": 1})
    await writer.flush({"at": 1})
    await writer.close()
    assert read_lines(tmp_path / "out-0.jsonl") == [1]


async def test_closing_waits_for_a_flush_that_was_cancelled(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "out.jsonl")
    writer = await sink.open(context())
    await writer.write([Event(n) for n in range(1000)])
    flush = asyncio.ensure_future(writer.flush({"at": 1000}))
    await asyncio.sleep(0.001)
    flush.cancel()
    await writer.close()
    again = await sink.open(context())
    found = read_lines(tmp_path / "out-0.jsonl")
    assert (await again.position(), found) in (({"at": 1000}, list(range(1000))), (None, []))
    await again.close()


async def test_a_zombie_changes_nothing(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "out.jsonl")
    zombie = await sink.open(context())
    await zombie.write([Event(1)])
    await zombie.flush({"at": 1})
    owner = await sink.open(context())
    await owner.write([Event(2)])
    await owner.flush({"at": 2})
    await zombie.write([Event("z")] * 1000)
    with pytest.raises(LaneLost):
        await zombie.flush({"at": 2})
    await owner.write([Event(3)])
    await owner.flush({"at": 3})
    await zombie.close()
    await owner.close()
    assert read_lines(tmp_path / "out-0.jsonl") == [1, 2, 3]


@dataclass
class Reading:
    station: str
    at: datetime
    price: Decimal


async def test_values_of_all_kinds(tmp_path: Path) -> None:
    reading = Reading("sea", datetime(2010, 1, 1, tzinfo=UTC), Decimal("1.50"))
    for sink in (JsonLinesSink(tmp_path / "a.jsonl"), CsvSink(tmp_path / "a.csv")):
        writer = await sink.open(context())
        await writer.write([Event(reading)])
        await writer.flush()
        await writer.close()
    line = json.loads((tmp_path / "a-0.jsonl").read_text())
    assert line == {"station": "sea", "at": "2010-01-01T00:00:00Z", "price": "1.50"} | {"at": line["at"]}
    assert datetime.fromisoformat(line["at"]) == reading.at
    (row,) = read_csv(tmp_path / "a-0.csv")
    assert (row["station"], row["price"]) == ("sea", "1.50")
    assert datetime.fromisoformat(row["at"]) == reading.at


async def test_what_cannot_be_written_is_rejected_whole(tmp_path: Path) -> None:
    writer = await JsonLinesSink(tmp_path / "a.jsonl").open(context())
    with pytest.raises(Reject):
        await writer.write([Event(1), Event(object())])
    await writer.write([Event(2)])
    await writer.flush()
    await writer.close()
    assert read_lines(tmp_path / "a-0.jsonl") == [2]

    table = await CsvSink(tmp_path / "a.csv").open(context())
    await table.write([Event({"a": 1, "b": None})])
    with pytest.raises(Reject, match=r"found the fields \['c'\]"):
        await table.write([Event({"a": 2}), Event({"c": 1})])
    with pytest.raises(Reject, match="found int"):
        await table.write([Event(1)])
    await table.write([Event({"b": {"x": [1]}})])
    await table.flush({"at": 1})
    await table.close()
    assert (tmp_path / "a-0.csv").read_text() == 'a,b\n1,\n,"{""x"":[1]}"\n'
    with pytest.raises(UsageError, match="has the columns"):
        await CsvSink(tmp_path / "a.csv", fields=["b"]).open(context())


async def test_csv_keeps_its_columns_over_a_restart(tmp_path: Path) -> None:
    for n in range(2):
        writer = await CsvSink(tmp_path / "a.csv").open(context())
        value = {"a": n, "b": n} if n == 0 else {"b": n, "a": n}
        await writer.write([Event(value)])
        await writer.flush({"at": n})
        await writer.close()
    assert (tmp_path / "a-0.csv").read_text() == "a,b\n0,0\n1,1\n"


# ---- kill -9

CHILD = """
import asyncio, sys
from reflow_kafka.event import Event
from reflow_connectors.files import CsvSink, JsonLinesSink
from tests_context import context

async def main(path, fsync, zipped, total):
    kind = CsvSink if ".csv" in path else JsonLinesSink
    writer = await kind(path, fsync=fsync, gzip=zipped).open(context())
    at = (await writer.position() or {"at": 0})["at"]
    print("open", at, flush=True)
    while at < total:
        for size in (1, 7, 200):
            await writer.write([Event({"n": n, "pad": "x" * (n % 300)}) for n in range(at, at + size)])
            at += size
        await writer.flush({"at": at})
        print("done", at, flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2] == "1", sys.argv[3] == "1", int(sys.argv[4])))
"""


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("name", "fsync", "zipped"),
    [
        ("out.jsonl", False, False),
        ("out.jsonl", True, False),
        ("out.jsonl", False, True),
        ("out.csv", False, False),
    ],
)
def test_kill_at_any_moment(tmp_path: Path, name: str, fsync: bool, zipped: bool) -> None:
    """Nothing that was acknowledged is missing, nothing is there twice, at 15 random moments."""
    (tmp_path / "tests_context.py").write_text(Path(__file__).with_name("contract.py").read_text())
    (tmp_path / "child.py").write_text(CHILD)
    out = tmp_path / "out"
    file = out / (name.replace(".", "-0.") + (".gz" if zipped else ""))
    moments = random.Random(name + str(fsync))
    total = 10**9
    acknowledged, kills, grown = 0, 0, 0
    while kills < 15 or grown < 5:
        assert kills < 60, "the child never got anywhere"
        before = acknowledged
        acknowledged = _run_and_kill(tmp_path, out / name, fsync, zipped, total, moments, acknowledged)
        kills += 1
        grown += acknowledged > before
    end = acknowledged + 1
    acknowledged = _run_and_kill(tmp_path, out / name, fsync, zipped, end, None, acknowledged)
    rows = read_csv(file) if ".csv" in name else read_lines(file)
    assert [int(row["n"]) for row in rows] == list(range(acknowledged))
    assert acknowledged >= end


def _run_and_kill(
    folder: Path,
    path: Path,
    fsync: bool,
    zipped: bool,
    total: int,
    moments: random.Random | None,
    acknowledged: int,
) -> int:
    """Run the child until a random moment (or its end); the last position it has acknowledged."""
    command = [sys.executable, "child.py", str(path), f"{fsync:d}", f"{zipped:d}", str(total)]
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        first = child.stdout.readline().split()
        assert first[:1] == ["open"], f"the child did not start: {first}"
        opened = int(first[1])
        assert opened >= acknowledged, "a position that was acknowledged is lost"
        if moments is not None:
            time.sleep(moments.random() * 0.12)
            os.kill(child.pid, signal.SIGKILL)
        lines = child.stdout.read().split("\n")
        child.wait(30)
    finally:
        child.kill()
        child.stdout.close()
        child.wait()
    done = [int(line.split()[1]) for line in lines[:-1] if line.startswith("done")]
    return max([opened, *done])

"""Directories of the embedded log and of local state, with files damaged, gone or foreign.

A damaged log is refused by a message that names its directory; local state is thrown away or is an older one,
which the changelog brings up to date. None is ever something that was not written, and nothing hangs.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.effort import examples
from tests.fuzz.opener import TOPICS, fill_log, fill_state

DEADLINE = 60.0
ROUNDS = 12
BLOCK = 32 * 1024
"""A write-ahead log's unit: a length that is changed in its last one looks like a torn end."""

Open = Callable[[str, Path], dict[str, Any]]


@pytest.fixture(scope="module")
def opened() -> Iterator[Open]:
    """Opens a directory in another process, and says what was found."""
    process: subprocess.Popen[str] | None = None

    def ask(kind: str, path: Path) -> dict[str, Any]:
        nonlocal process
        if process is None or process.poll() is not None:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.opener"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(f"{kind} {path}\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], DEADLINE)[0]:
            process.kill()
            raise AssertionError(f"opening {path} took more than {DEADLINE:g} s")
        if line := process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        raise AssertionError(process.stderr.read())

    yield ask
    if process is not None:
        process.kill()
        process.communicate()


def copy(path: Path, to: Path) -> None:
    """A directory as a kill would leave it now."""
    shutil.copytree(path, to, ignore=shutil.ignore_patterns("lock", "*.sock"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log and a state: closed, killed, and killed after having been open before."""
    root = tmp_path_factory.mktemp("models")

    async def logs() -> None:
        half = ROUNDS // 2
        log = await fill_log(root / "log-live", *range(ROUNDS))
        await log._storage.maintain({})  # notes what there is
        copy(root / "log-live", root / "log-killed")
        await log.stop()
        copy(root / "log-live", root / "log-closed")
        log = await fill_log(root / "log-twice", *range(half))
        await log.stop()
        log = await fill_log(root / "log-twice", *range(half, ROUNDS))
        await log._storage.maintain({})
        copy(root / "log-twice", root / "log-again")
        await log.stop()

    asyncio.run(logs())
    stores = fill_state(root / "state-live", *range(1, ROUNDS))
    copy(root / "state-live", root / "state-killed")
    stores.close()
    copy(root / "state-live", root / "state-closed")
    stores = fill_state(root / "state-live", *range(ROUNDS, 2 * ROUNDS))
    copy(root / "state-live", root / "state-again")
    stores.close()
    return root


@st.composite
def harms(draw: st.DrawFn) -> tuple[str, int, float, float, bytes]:
    """What to do, with which file (a number), where in it, how far, and new bytes."""
    return (
        draw(st.sampled_from(["flip", "cut", "delete", "zeros", "garbage", "empty", "insert", "foreign"])),
        draw(st.integers(0, 20)),
        draw(st.floats(0, 1)),
        draw(st.floats(0, 1)),
        draw(st.binary(min_size=1, max_size=40)),
    )


def damage(folder: Path, harm: tuple[str, int, float, float, bytes]) -> tuple[Path, int]:
    """Do it; the file, and where the damage begins, counted from its end."""
    how, number, start, share, new = harm
    # One of each kind is as good as another: the same number means the same kind in every run.
    files = sorted(f for f in folder.iterdir() if f.is_file() and f.name not in ("LOCK", "LOG", "owner"))
    file = files[number % len(files)]
    data = file.read_bytes()
    at = min(int(start * len(data)), max(len(data) - 1, 0))
    until = at + max(1, int(share * (len(data) - at)))
    if how == "delete":
        file.unlink()
    elif how == "foreign":
        file = folder / "000777.log" if number % 2 else folder / "notes.txt"
        file.write_bytes(new)
    else:
        changed = {
            "flip": data[:at] + bytes(b ^ 0x55 for b in data[at : at + 1]) + data[at + 1 :],
            "cut": data[:at],
            "zeros": data[:at] + bytes(until - at) + data[until:],
            "garbage": data[:at] + new + data[at + len(new) :],
            "empty": b"",
            "insert": data[:at] + new + data[at:],
        }[how]
        file.write_bytes(changed)
    return file, len(data) - at


@pytest.mark.parametrize("model", ["log-killed", "log-closed", "log-again"])
@examples(8)
@given(harm=harms())
def test_damaged_logs(
    model: str, models: Path, opened: Open, tmp_path_factory: pytest.TempPathFactory, harm: Any
) -> None:
    data = tmp_path_factory.mktemp("log")
    shutil.copytree(models / model, data, dirs_exist_ok=True)
    file, from_end = damage(data / "log", harm)
    answer = opened("log", data)
    what = f"{harm} of {file.name}: {answer}"
    if "error" in answer:
        assert str(data / "log") in answer["error"], what
    elif file.suffix == ".log" and from_end <= BLOCK:  # like the end that a loss of power leaves
        assert set(answer["found"]) == set(TOPICS), what
    else:
        assert answer["found"] == dict.fromkeys(TOPICS, 10 * ROUNDS), what
    shutil.rmtree(data)


def test_an_emptied_log_is_not_an_empty_log(models: Path, opened: Open, tmp_path: Path) -> None:
    copy(models / "log-closed", tmp_path / "data")
    for file in (tmp_path / "data" / "log").iterdir():
        file.unlink()
    error = opened("log", tmp_path / "data")["error"]
    assert "is gone" in error
    assert f"remove {tmp_path / 'data' / 'log'}" in error
    # And that is what it takes:
    shutil.rmtree(tmp_path / "data" / "log")
    os.unlink(tmp_path / "data" / "log.note")
    assert opened("log", tmp_path / "data") == {"found": {"one": 0, "two": 0}}


@pytest.mark.parametrize("model", ["state-killed", "state-closed", "state-again"])
@examples(8)
@given(harm=harms())
def test_damaged_states(
    model: str, models: Path, opened: Open, tmp_path_factory: pytest.TempPathFactory, harm: Any
) -> None:
    data = tmp_path_factory.mktemp("state")
    shutil.copytree(models / model, data, dirs_exist_ok=True)
    file, _ = damage(data / "flow" / "lane-0", harm)
    answer = opened("state", data)
    what = f"{harm} of {file.name}: {answer}"
    assert "found" in answer, what
    assert len(answer["failed"]) <= 1, what
    shutil.rmtree(data)

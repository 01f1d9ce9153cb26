"""`docs/schedules.md` does what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reflow_kafka.definition.schedule import MISSED, POLICIES, Schedule
from tests.support.waiting import wait_until
from tests.test_docs import ROOT, blocks, write_files

PAGE = ROOT / "docs" / "schedules.md"
TEXT = PAGE.read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(PAGE, tmp_path)
    return tmp_path


def test_the_example_beats(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "connectors")])}
    (command,) = (block.text.split()[1:] for block in blocks(PAGE) if block.language == "sh")
    printed: list[dict[str, object]] = []

    def beats() -> bool:
        done = subprocess.run(
            [sys.executable, "-m", "reflow_kafka", "consume", "beats"],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        printed[:] = [json.loads(line) for line in done.stdout.splitlines()]
        return len(printed) >= 2

    with (folder / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "reflow_kafka", *command], cwd=folder, stderr=log, env=environment
        )
        wait_until(beats, 60, "two beats", every=0.5)
        worker.terminate()
        assert worker.wait(30) == 0, (folder / "log").read_text()
    assert [beat["twice"] for beat in printed[:2]] == [2, 4]


def test_the_test_in_it_passes(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "connectors"), "."])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_nightly.py"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_what_it_says_of_defaults() -> None:
    assert '| `"last"` (default) |' in TEXT
    assert Schedule().missed == "last"
    assert [f'| `"{policy}"' in TEXT for policy in POLICIES] == [True] * 3
    assert "late by a minute or more" in TEXT
    assert MISSED == 60_000

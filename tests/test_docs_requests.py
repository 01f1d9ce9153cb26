"""`docs/requests.md` does what it says: its files run against a worker, and print what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_docs import ROOT, blocks, write_files

PAGE = ROOT / "docs" / "requests.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(PAGE, tmp_path)
    return tmp_path


@pytest.fixture
def worker(folder: Path) -> Iterator[None]:
    (command,) = re.findall(r"`reflow-kafka (worker [^`]*)`", PAGE.read_text())
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "reflow_kafka", *command.split()],
            cwd=folder,
            stderr=log,
            env=environment(),
        )
        yield
        process.terminate()
        assert process.wait(30) == 0, (folder / "log").read_text()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "connectors")])}


def run(program: Path) -> str:
    done = subprocess.run(
        [sys.executable, program.name],
        cwd=program.parent,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_prints_what_is_shown(worker: None, folder: Path) -> None:
    (shown,) = [block.text for block in blocks(PAGE) if block.language == "text"]
    assert run(folder / "ask.py") == shown


def test_the_test_in_it_passes(folder: Path) -> None:
    (code,) = [block.text for block in blocks(PAGE) if block.language == "python" and not block.note]
    (folder / "in_memory.py").write_text(code)
    assert run(folder / "in_memory.py") == ""

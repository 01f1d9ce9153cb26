"""Running the command line, in this process and as one of its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reflow_kafka.cli.main import main

COPY = """\
from reflow_kafka import Flow

flow = Flow("copy", partitions=2)
numbers = flow.source("numbers", topic="numbers")

@flow.stage(after=numbers)
def twice(number: dict) -> dict:
    return {**number, "n": 2 * number["n"]}

flow.sink("doubles", after=twice, topic="doubles")
"""

Cli = Callable[..., Result]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with a flow in `copying.py`."""
    (tmp_path / "copying.py").write_text(COPY)
    monkeypatch.chdir(tmp_path)
    for name in [
        name for name in os.environ if name.startswith("REFLOW_") and name != "REFLOW_TEST_BOOTSTRAP"
    ]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def cli(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Runs a command in this process, in `folder`; nothing of it stays."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "path", sys.path[:])
    modules = set(sys.modules)

    def run(*args: str, input: str | bytes | None = None, env: dict[str, str] | None = None) -> Result:
        return CliRunner().invoke(main, args, input=input, env=env, prog_name="reflow-kafka")

    yield run
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def command(folder: Path) -> Command:
    """Runs a command as a process of its own, in `folder`."""

    def run(*args: str, input: str | None = None, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reflow_kafka", *args],
            cwd=folder,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run

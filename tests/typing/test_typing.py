"""What mypy and pyright make of programs that use the library."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OK, BAD = HERE / "programs_ok.py", HERE / "programs_bad.py"

# Strict checkers find much that is not our matter in programs that are wrong on purpose.
PYRIGHT = {"pythonVersion": "3.11", "typeCheckingMode": "standard", "reportMissingModuleSource": "none"}


def mypy(program: Path) -> dict[int, str]:
    """The first complaint about each line."""
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--show-absolute-path",
            str(program),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode in (0, 1), run.stderr
    lines = re.findall(rf"^\S*{re.escape(program.name)}:(\d+): error: (.*)$", run.stdout, re.MULTILINE)
    return {int(line): message for line, message in reversed(lines)}


def pyright(program: Path, tmp_path: Path) -> dict[int, str]:
    """The first complaint about each line; it is checked in a folder with a configuration of its own."""
    copy = tmp_path / program.name
    copy.write_text(program.read_text())
    config = {**PYRIGHT, "extraPaths": [str(ROOT)], "include": [copy.name]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pyright",
            "--outputjson",
            "--pythonpath",
            sys.executable,
            "-p",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(run.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, run.stderr
    found = [d for d in report["generalDiagnostics"] if d["severity"] == "error"]
    return {d["range"]["start"]["line"] + 1: d["message"] for d in reversed(found)}


def marked(program: Path) -> set[int]:
    lines = program.read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if "# E " in line}


@pytest.mark.slow
def test_mypy_accepts_what_is_right() -> None:
    assert mypy(OK) == {}


@pytest.mark.slow
def test_mypy_refuses_what_is_wrong() -> None:
    assert mypy(BAD).keys() == marked(BAD)


@pytest.mark.slow
def test_pyright_accepts_what_is_right(tmp_path: Path) -> None:
    assert pyright(OK, tmp_path) == {}


@pytest.mark.slow
def test_pyright_refuses_what_is_wrong(tmp_path: Path) -> None:
    assert pyright(BAD, tmp_path).keys() == marked(BAD)


def test_what_is_right_is_a_flow() -> None:
    """The checks made when a flow is built agree with the checkers."""
    flow = runpy.run_path(str(OK))["flow"]
    assert flow.spec().name == "typed"

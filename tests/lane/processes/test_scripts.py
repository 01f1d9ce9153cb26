"""Handlers of a program that is run as a script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(60)

SCRIPT = """
import asyncio
from dataclasses import dataclass
from reflow_kafka import Flow, run
from reflow_kafka.lane.processes.job import Job
from reflow_kafka.lane.processes.pool import Processes

flow = Flow("script")
readings = flow.source("readings", topic="t")

@dataclass
class Reading:
    value: int

def double(reading):
    return Reading(2 * reading.value)

def fail(reading):
    raise ExceptionOfOurs(str(reading))

class ExceptionOfOurs(Exception):
    pass

async def drive():
    pool = Processes(1)
    try:
        print(await pool.call(Job.of("double", double), (Reading(21),)) == Reading(42))
        try:
            await pool.call(Job.of("fail", fail), (Reading(1),))
        except ExceptionOfOurs as error:
            print(error)
        from reflow_handlers import same  # a handler elsewhere, over values from here
        print(await pool.call(Job.of("same", same), (Reading(5),)) == Reading(5))
    finally:
        await pool.close(5)
"""
GUARD = """
if __name__ == "__main__":
    asyncio.run(drive())
"""


def execute(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "reflow_handlers.py").write_text("def same(value):\n    return value\n")
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)


def test_a_script_with_its_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT + GUARD)
    done = execute(tmp_path, "script.py")
    assert done.stdout == "True\nReading(value=1)\nTrue\n", done.stderr


def test_a_module_that_is_run(tmp_path: Path) -> None:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__init__.py").touch()
    (tmp_path / "program" / "tool.py").write_text(SCRIPT + GUARD)
    done = execute(tmp_path, "-m", "program.tool")
    assert done.stdout == "True\nReading(value=1)\nTrue\n", done.stderr


def test_a_script_without_guard_is_told_so(tmp_path: Path) -> None:
    # Where the guard is missing, importing the script starts an engine.
    unguarded = 'if __name__ == "__mp_main__":\n    run(flow, until_end=True)\n'
    (tmp_path / "script.py").write_text(SCRIPT + unguarded + GUARD)
    done = execute(tmp_path, "script.py")
    assert done.returncode != 0
    [last] = [line for line in done.stderr.splitlines() if "FlowStopped" in line]
    assert "'double' cannot run in a process: UsageError" in last
    assert 'put what starts it under: if __name__ == "__main__":' in last


def test_an_interactive_session_is_told_so(tmp_path: Path) -> None:
    done = execute(tmp_path, "-c", SCRIPT + GUARD)
    assert done.returncode != 0
    assert "defined in an interactive session" in done.stderr


def test_a_handler_elsewhere_needs_nothing_of_the_script(tmp_path: Path) -> None:
    script = """
import asyncio
print("imported")
from reflow_handlers import same
from reflow_kafka.lane.processes.job import Job
from reflow_kafka.lane.processes.pool import Processes

async def drive():
    pool = Processes(1)
    await pool.call(Job.of("same", same), ({"a": 1},))
    await pool.close(5)

asyncio.run(drive())
"""
    (tmp_path / "script.py").write_text(script)
    done = execute(tmp_path, "script.py")
    assert done.stdout == "imported\n", done.stderr

"""`docs/testing.md` does what it says: its tests pass, and its table is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from reflow_kafka.testing import FlowTest
from tests.test_docs import ROOT, write_files

PAGE = ROOT / "docs" / "testing.md"


def run_tests_of(page: Path, folder: Path) -> int:
    """Run the tests that stand on a page; how many have passed, which is all of them."""
    write_files(page, folder)
    path = os.pathsep.join([str(ROOT), str(ROOT / "connectors")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) passed", done.stdout.splitlines()[-1])
    return int(found[1]) if found else 0


def test_its_tests_pass(tmp_path: Path) -> None:
    assert run_tests_of(PAGE, tmp_path) == 9


def test_everything_that_a_test_can_do_is_told() -> None:
    told = set(re.findall(r"(?:test\.|`)(\w+)\b", PAGE.read_text()))
    public = {name for name in dir(FlowTest) if not name.startswith("_")}
    assert public - told == set()

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


def test_its_tests_pass(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    path = os.pathsep.join([str(ROOT), str(ROOT / "connectors")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 9 passed" in f" {done.stdout.splitlines()[-1]}"


def test_everything_that_a_test_can_do_is_told() -> None:
    told = set(re.findall(r"(?:test\.|`)(\w+)\b", PAGE.read_text()))
    public = {name for name in dir(FlowTest) if not name.startswith("_")}
    assert public - told == set()

"""docs/time.md: its tests pass."""

from __future__ import annotations

from pathlib import Path

from tests.test_docs import ROOT
from tests.test_docs_testing import run_tests_of


def test_its_tests_pass(tmp_path: Path) -> None:
    assert run_tests_of(ROOT / "docs" / "time.md", tmp_path) == 3

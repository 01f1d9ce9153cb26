"""docs/windows.md: its flows and its commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_docs import ROOT, check_page


@pytest.mark.timeout(120)
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    check_page(ROOT / "docs" / "windows.md", tmp_path)

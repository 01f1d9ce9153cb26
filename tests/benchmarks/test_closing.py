"""The measurement of windows that close at once, with few of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.closing import KINDS, Report, measure


@pytest.mark.parametrize("kind", KINDS)
async def test_all_windows_close(kind: str, tmp_path: Path) -> None:
    figures = await measure(kind, 300, tmp_path)
    assert 0 < figures.usual <= figures.beside
    assert 0 < figures.work <= figures.turn
    assert f"300 {kind}" in Report(figures=[figures]).markdown()

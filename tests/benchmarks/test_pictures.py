"""Pictures of the documentation are of real runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pictures import KINDS, TIMES, draw_windows, windows_of
from reflow_kafka.windows import Count


@pytest.mark.parametrize("name", KINDS)
def test_each_event_is_in_its_windows(name: str) -> None:
    kind = KINDS[name]
    told = windows_of(kind)
    assert sorted({at for window in told for at in window.held}) == sorted(TIMES)
    for window in told:
        assert all(window.start <= at <= window.end for at in window.held)
        assert not isinstance(kind, Count) or len(window.held) <= kind.size


def test_windows_can_be_drawn(tmp_path: Path) -> None:
    draw_windows(tmp_path / "windows.svg")
    assert "Sliding" in (tmp_path / "windows.svg").read_text()

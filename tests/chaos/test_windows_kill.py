"""``kill -9`` in the middle of windows: each is told of once, with all that belongs into it, and what is late
goes where it belongs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kills import Kills
from tests.support.settings import SCALE, seeded
from tests.support.windows import Windows, readings

EVENTS = int(40_000 * SCALE)
KILLS = int(8 * SCALE)
PERIOD = 25.0 * SCALE
"""Seconds over which events come in."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def kills() -> Kills:
    chance = seeded()
    return Kills("windows", Windows(readings(EVENTS, chance)), KILLS, PERIOD, chance, patience=90)


@pytest.mark.kafka
@pytest.mark.timeout(180 + 4 * PERIOD)
def test_three_workers(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Independent workers, killed and started again at random moments: lanes move all the time."""
    kills().three_workers(kafka_bootstrap, unique, tmp_path)


@pytest.mark.kafka
@pytest.mark.timeout(180 + 4 * PERIOD)
def test_supervised_engines(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Engines of one supervisor, which are started again at once."""
    kills().supervised_engines(kafka_bootstrap, unique, tmp_path, engines=2)


@pytest.mark.timeout(120 + 60 * SCALE)
def test_embedded_log(unique: str, tmp_path: Path) -> None:
    """The one process of an embedded log."""
    kills().embedded_log(unique, tmp_path, within=2.5)

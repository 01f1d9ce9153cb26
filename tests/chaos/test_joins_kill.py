"""``kill -9`` while streams and tables are joined: each result once, and right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kills import Kills
from tests.support.meetings import Meetings, meetings
from tests.support.settings import SCALE, seeded

EVENTS = int(10_000 * SCALE)
KILLS = int(7 * SCALE)
PERIOD = 25.0 * SCALE
"""Seconds over which events come in."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def kills() -> Kills:
    chance = seeded()
    return Kills("meetings", Meetings(meetings(EVENTS, chance)), KILLS, PERIOD, chance, patience=120)


@pytest.mark.kafka
@pytest.mark.timeout(240 + 4 * PERIOD)
def test_three_workers(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Independent workers, killed and started again at random moments."""
    kills().three_workers(kafka_bootstrap, unique, tmp_path)


@pytest.mark.timeout(300 + 60 * SCALE)
def test_embedded_log(unique: str, tmp_path: Path) -> None:
    """The one process of an embedded log, killed while it works through what has come meanwhile."""
    kills().embedded_log(unique, tmp_path, within=1)

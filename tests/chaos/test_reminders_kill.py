"""``kill -9`` with timers set, fired and taken back all the time: each fires once, state and store right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kills import Kills
from tests.support.reminders import Reminders, notes
from tests.support.settings import SCALE, seeded

EVENTS = int(20_000 * SCALE)
KILLS = int(8 * SCALE)
PERIOD = 25.0 * SCALE
"""Seconds over which events come in."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.kafka]


def kills() -> Kills:
    chance = seeded()
    return Kills("reminders", Reminders(notes(EVENTS, chance)), KILLS, PERIOD, chance, patience=90)


@pytest.mark.timeout(180 + 4 * PERIOD)
def test_three_workers(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Independent workers, killed and started again at random moments."""
    kills().three_workers(kafka_bootstrap, unique, tmp_path)


@pytest.mark.timeout(180 + 4 * PERIOD)
def test_supervised_engines(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Engines of one supervisor, which are started again at once."""
    kills().supervised_engines(kafka_bootstrap, unique, tmp_path, engines=2)

"""``kill -9`` while events are split, gathered, zipped and aggregated: each result once, and right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kills import Kills
from tests.support.settings import SCALE, seeded
from tests.support.together import Together, orders

EVENTS = int(12_000 * SCALE)
KILLS = int(7 * SCALE)
PERIOD = 25.0 * SCALE
"""Seconds over which events come in."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def kills(*, ends: bool) -> Kills:
    chance = seeded()
    return Kills("together", Together(orders(EVENTS, chance), ends=ends), KILLS, PERIOD, chance, patience=120)


@pytest.mark.kafka
@pytest.mark.timeout(240 + 4 * PERIOD)
def test_three_workers(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Independent workers, killed and started again at random moments."""
    kills(ends=False).three_workers(kafka_bootstrap, unique, tmp_path)


@pytest.mark.timeout(300 + 60 * SCALE)
def test_embedded_log(unique: str, tmp_path: Path) -> None:
    """The one process of an embedded log, killed while it works through what has come meanwhile."""
    kills(ends=True).embedded_log(unique, tmp_path, within=1)

"""``kill -9`` of batches, threads, processes, chains and rates: events once and in order, states right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kills import Kills
from tests.support.settings import SCALE, seeded
from tests.support.ways import Ways, trouble

EVENTS = int(16_000 * SCALE)
PERIOD = 18.0 * SCALE
"""Seconds over which events come in."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def kills(number: int) -> Kills:
    chance = seeded()
    return Kills("ways", Ways(trouble(EVENTS, chance)), int(number * SCALE), PERIOD, chance, patience=200)


@pytest.mark.kafka
@pytest.mark.timeout(330 + 4 * PERIOD)
def test_three_workers(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Independent workers, each with processes of its own, killed and started again at random moments."""
    kills(7).three_workers(kafka_bootstrap, unique, tmp_path)


@pytest.mark.timeout(300 + 60 * SCALE)
def test_embedded_log(unique: str, tmp_path: Path) -> None:
    """The one process of an embedded log, killed while it works through what has come meanwhile."""
    kills(10).embedded_log(unique, tmp_path, within=1)

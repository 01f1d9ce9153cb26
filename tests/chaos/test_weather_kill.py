"""``kill -9`` at random moments, on Kafka and on the embedded log: the right averages, once and in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kills import Kills
from tests.support.settings import SCALE, seeded
from tests.support.weather import Weather, readings

EVENTS = int(200_000 * SCALE)
KILLS = int(10 * SCALE)
PERIOD = 30.0 * SCALE
"""Seconds over which events come in."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def kills() -> Kills:
    chance = seeded()
    return Kills("weather", Weather(readings(EVENTS, chance)), KILLS, PERIOD, chance, patience=90)


@pytest.mark.kafka
@pytest.mark.timeout(180 + 4 * PERIOD)
def test_three_workers(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Three independent workers, killed and started again at random moments."""
    kills().three_workers(kafka_bootstrap, unique, tmp_path)


@pytest.mark.kafka
@pytest.mark.timeout(180 + 4 * PERIOD)
def test_supervised_engines(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Engines of one supervisor, which keep their places in the group and are started again at once."""
    kills().supervised_engines(kafka_bootstrap, unique, tmp_path, engines=3)


@pytest.mark.timeout(120 + 60 * SCALE)
def test_embedded_log(unique: str, tmp_path: Path) -> None:
    """The one process of an embedded log, killed while it works through what has come meanwhile."""
    kills().embedded_log(unique, tmp_path, within=0.5)

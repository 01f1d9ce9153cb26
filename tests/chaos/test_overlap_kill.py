"""``kill -9`` with many events in progress, in retries, failing: each once, keys in order, state right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.enrich import Enrich, calls
from tests.support.kills import Kills
from tests.support.settings import SCALE, seeded

EVENTS = int(50_000 * SCALE)
KILLS = int(10 * SCALE)
PERIOD = 25.0 * SCALE
"""Seconds over which events come in."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def kills() -> Kills:
    chance = seeded()
    return Kills("enrich", Enrich(calls(EVENTS, chance)), KILLS, PERIOD, chance, patience=90)


@pytest.mark.kafka
@pytest.mark.timeout(180 + 4 * PERIOD)
def test_three_workers(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Independent workers, killed and started again at random moments."""
    kills().three_workers(kafka_bootstrap, unique, tmp_path)


@pytest.mark.kafka
@pytest.mark.timeout(180 + 4 * PERIOD)
def test_supervised_engines(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Engines of one supervisor, which are started again at once."""
    kills().supervised_engines(kafka_bootstrap, unique, tmp_path, engines=2)


@pytest.mark.timeout(120 + 60 * SCALE)
def test_embedded_log(unique: str, tmp_path: Path) -> None:
    """The one process of an embedded log, killed while it works through what has come meanwhile."""
    kills().embedded_log(unique, tmp_path, within=2)

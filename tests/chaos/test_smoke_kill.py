"""The smoke test of Kafka Streams' system tests: windows and joins, final results once, under ``kill -9``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kills import Kills
from tests.support.settings import SCALE, seeded
from tests.support.smoke import Smoke

PERIOD = 20.0 * SCALE
"""Seconds over which events come in."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def kills(number: int) -> Kills:
    chance = seeded()
    return Kills(
        "smoke", Smoke(20, int(20 * SCALE), chance), int(number * SCALE), PERIOD, chance, patience=90
    )


@pytest.mark.kafka
@pytest.mark.timeout(250 + 4 * PERIOD)
def test_three_workers(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Independent workers, each killed every few seconds and started again; time goes on without traffic."""
    kills(6).three_workers(kafka_bootstrap, unique, tmp_path)


@pytest.mark.timeout(300 + 60 * SCALE)
def test_embedded_log(unique: str, tmp_path: Path) -> None:
    """The one process of an embedded log, killed while it works through what has come meanwhile."""
    kills(10).embedded_log(unique, tmp_path, within=1)

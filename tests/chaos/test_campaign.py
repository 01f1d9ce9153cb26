"""A short campaign in every run of the tests; ``make chaos`` is a long one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reflow_kafka.devbroker import find_java
from reflow_kafka.errors import ReflowError
from tests.chaos.campaign import run
from tests.chaos.schedule import WORKERS
from tests.support.cluster import Cluster
from tests.support.settings import SCALE, seed_of

SECONDS = 60.0 * SCALE
"""For how long the flow is disturbed."""


@pytest.mark.kafka
@pytest.mark.alone  # four brokers side by side may not start in time
@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(600 + 2 * SECONDS)
def test_campaign(unique: str, tmp_path: Path) -> None:
    """Whatever happens: all is counted once, and nothing is left open, behind or hanging."""
    try:
        find_java()
    except ReflowError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"three brokers need Java: {error}")
    with Cluster(WORKERS + 1) as cluster:
        outcome = run(cluster, unique, tmp_path / "campaign", seed_of(), SECONDS)
    print(f"{outcome.events} events, {outcome.compacted} changelog records compacted away")
    print(f"{dict(outcome.faults)}, {dict(outcome.ended)}")
    assert not outcome.wrong, "\n".join(outcome.wrong)

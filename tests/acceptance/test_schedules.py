"""A schedule on two engines that are killed in turn: each period fires once in the whole flow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kafka import create_topics, read_committed
from tests.support.waiting import wait_until
from tests.support.workers import Workers

PERIOD = 300
"""Milliseconds, as in ``flows/ticks.py``."""


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_no_firing_is_missed_or_comes_twice(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    topic = f"{unique}-firings"
    create_topics(kafka_bootstrap, [topic], partitions=1)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        for _ in range(2):
            workers.start("ticks")
        for _ in range(2):
            wait_until(lambda: 0 in workers.owners(), 60, "an owner of lane 0")
            owner = workers.owners()[0]
            seen = len(read_committed(kafka_bootstrap, topic))
            read_committed(kafka_bootstrap, topic, seen + 10)
            owner.kill()
            workers.start("ticks")
            wait_until(lambda killed=owner: workers.owners()[0] is not killed, 60, "another owner")
        read_committed(kafka_bootstrap, topic, len(read_committed(kafka_bootstrap, topic)) + 10)
    found = read_committed(kafka_bootstrap, topic)
    times = [message.timestamp()[1] for message in found]
    assert times == list(range(times[0], times[0] + len(times) * PERIOD, PERIOD))

"""A rate holds for all workers of a stage together, each of which knows only its lanes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.kafka import Input, Topic, create_topics, produce
from tests.support.waiting import wait_until
from tests.support.workers import Workers

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.alone]

EVENTS = 1200
RATE = 400
"""Events per second, as the flow says."""


def test_two_workers_share_a_rate(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    events = [Input(f"key-{id % 200}", {"id": id}) for id in range(EVENTS)]
    create_topics(kafka_bootstrap, [f"{unique}-{topic}" for topic in ("events", "single", "batched")])
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        both = [workers.start("rated") for _ in range(2)]
        wait_until(lambda: workers.shares() == [4, 4], 60, "two workers share all lanes")
        produce(kafka_bootstrap, f"{unique}-events", events)
        for stage in ("single", "batched"):
            topic = Topic(kafka_bootstrap, f"{unique}-{stage}")
            topic.wait(EVENTS, 60)
            found = [output.value for output in topic.outputs()]
            topic.close()
            assert sorted(value["id"] for value in found) == list(range(EVENTS))
            shares = Counter(value["by"] for value in found)
            assert shares.keys() == {worker.pid for worker in both}
            times = sorted(value["began"] for value in found)
            # What begins late on a busy machine may be followed the sooner by the rest.
            least = 0.8 * EVENTS / RATE
            assert times[-1] - times[0] >= least, f"{stage}: too fast, {shares}"
        assert [worker.stop() for worker in both] == [0, 0]

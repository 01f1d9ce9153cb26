"""Windows that are open when engines come and go."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.kafka import Output, Topic, create_topics, produce
from tests.support.waiting import wait_until
from tests.support.windows import PARTITIONS, Windows, readings
from tests.support.workers import Workers

READINGS = 6_000


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_they_move_to_engines_that_come_and_from_those_that_die(
    kafka_bootstrap: str, unique: str, tmp_path: Path
) -> None:
    """All of them are open in the middle of the readings; the last readings close them."""
    oracle = Windows(readings(READINGS, random.Random(7)))
    create_topics(kafka_bootstrap, [unique + topic for topic in (oracle.source, *oracle.sinks)])
    source, events = unique + oracle.source, list(oracle.events)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        first = workers.start("windows")
        wait_until(lambda: len(first.lanes()) == PARTITIONS, 60, "the first worker runs all lanes")
        produce(kafka_bootstrap, source, events[: READINGS // 2])
        workers.start("windows")
        wait_until(lambda: workers.shares() == [4, 4], 60, "two workers share the lanes")
        produce(kafka_bootstrap, source, events[READINGS // 2 : READINGS])
        first.kill()
        produce(kafka_bootstrap, source, events[READINGS:])

        def seen(topic: str, count: int) -> list[Output]:
            with closing(Topic(kafka_bootstrap, unique + topic)) as reader:
                reader.wait(count, 90)
                return reader.outputs()

        oracle.check(seen)
        assert workers.shares() == [8]

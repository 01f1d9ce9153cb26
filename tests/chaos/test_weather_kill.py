"""``kill -9`` at random moments, on Kafka and on the embedded log: the right averages, once and in order."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Self

import pytest

from tests.support import embedded
from tests.support.kafka import Feed, Input, Topic, by_key, create_topics
from tests.support.settings import SCALE, seeded
from tests.support.waiting import wait_until
from tests.support.weather import alerts, assert_same, averages, readings
from tests.support.workers import Workers

EVENTS = int(200_000 * SCALE)
KILLS = int(10 * SCALE)
PERIOD = 30.0 * SCALE
"""Seconds over which events come in."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


@pytest.mark.kafka
@pytest.mark.timeout(180 + 4 * PERIOD)
def test_three_workers(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Three independent workers, killed and started again at random moments."""
    chance = seeded()
    with (
        Weather(kafka_bootstrap, unique, chance) as weather,
        Workers(tmp_path, unique, kafka_bootstrap) as workers,
    ):
        slots = [workers.start("weather") for _ in range(3)]
        wait_until(lambda: workers.shares() == [2, 3, 3], 60, "three workers share all lanes")
        weather.feed.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0, 3))
            # The group misses a worker only after its session time-out: until then there may be no lanes.
            wait_until(lambda: any(slot.lanes() for slot in slots), 40, "a worker that has lanes")
            slot = chance.choice([number for number, worker in enumerate(slots) if worker.lanes()])
            slots[slot].kill()
            time.sleep(chance.uniform(0, 2))
            slots[slot] = workers.start("weather")
        weather.check(seconds=90)
        for worker in slots:
            assert worker.stop() == 0, worker.last_words()
        weather.check(seconds=10)  # nothing was added by stopping


@pytest.mark.kafka
@pytest.mark.timeout(180 + 4 * PERIOD)
def test_supervised_engines(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Engines of one supervisor, which keep their places in the group and are started again at once."""
    chance = seeded()
    with (
        Weather(kafka_bootstrap, unique, chance) as weather,
        Workers(tmp_path, unique, kafka_bootstrap) as workers,
    ):
        worker = workers.start("weather", "--engines", "3")
        wait_until(lambda: len(worker.lanes()) == 8, 60, "the engines run all lanes")
        weather.feed.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(1, 3))
            os.kill(chance.choice(worker.children()), signal.SIGKILL)
        weather.check(seconds=90)
        assert worker.stop() == 0, worker.last_words()
        weather.check(seconds=10)


@pytest.mark.timeout(120 + 60 * SCALE)
def test_embedded_log(unique: str, tmp_path: Path) -> None:
    """The one process of an embedded log, killed while it works through what has come meanwhile."""
    chance = seeded()
    events = readings(EVENTS, chance)
    expected = averages(events)
    piece = -(-EVENTS // (KILLS + 1))
    with Workers(tmp_path, unique) as workers:
        for _ in range(KILLS):
            part, events = events[:piece], events[piece:]
            embedded.produce(workers.data_dir, f"{unique}-readings", part)
            worker = workers.start("weather")
            wait_until(worker.lanes, 30, "the worker runs lanes", every=0.02)
            time.sleep(chance.uniform(0, 0.5))
            worker.kill()
        embedded.produce(workers.data_dir, f"{unique}-readings", events)
        worker = workers.start("weather", "--until-end")
        assert worker.wait(60) == 0, worker.last_words()
        for topic, values in ((f"{unique}-averages", expected), (f"{unique}-alerts", alerts(expected))):
            found = embedded.Topic(workers.data_dir, topic).wait(sum(map(len, values.values())), 10)
            assert_same(found, values, topic)


class Weather:
    """The topics of one run: input that comes in slowly, and the output to be compared with the oracle."""

    def __init__(self, bootstrap: str, name: str, chance: random.Random) -> None:
        outputs = [f"{name}-averages", f"{name}-alerts"]
        create_topics(bootstrap, [f"{name}-readings", *outputs])
        events: list[Input] = readings(EVENTS, chance)
        expected = averages(events)
        self.feed = Feed(bootstrap, f"{name}-readings", events, EVENTS / PERIOD)
        self._outputs = [Topic(bootstrap, topic) for topic in outputs]
        self._expected = [expected, alerts(expected)]

    def check(self, seconds: float) -> None:
        """Once the feed is finished: all of it comes out, and nothing else."""
        self.feed.finish(PERIOD + 30)
        for topic, expected in zip(self._outputs, self._expected, strict=True):
            found = by_key(topic.wait(sum(map(len, expected.values())), seconds))
            assert_same(found, expected, topic.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.feed.is_alive():
            self.feed.cancel()
        for topic in self._outputs:
            topic.close()

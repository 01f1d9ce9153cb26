"""``kill -9`` with many events in progress, in retries, failing: each once, keys in order, state right."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Self

import pytest

from tests.support import embedded
from tests.support.enrich import ATTEMPTS, Expected, calls, check_dead, check_looked, check_tallied
from tests.support.kafka import Feed, Message, Topic, by_key, create_topics, headers
from tests.support.settings import SCALE, seeded
from tests.support.waiting import wait_until
from tests.support.workers import Workers

EVENTS = int(30_000 * SCALE)
KILLS = int(6 * SCALE)
PERIOD = 15.0 * SCALE
"""Seconds over which events come in."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


@pytest.mark.kafka
@pytest.mark.timeout(180 + 4 * PERIOD)
def test_three_workers(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Independent workers, killed and started again at random moments."""
    chance = seeded()
    with (
        Calls(kafka_bootstrap, unique, chance) as outcome,
        Workers(tmp_path, unique, kafka_bootstrap) as workers,
    ):
        slots = [workers.start("enrich") for _ in range(3)]
        wait_until(lambda: workers.shares() == [2, 3, 3], 60, "three workers share all lanes")
        outcome.feed.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0, 3))
            wait_until(lambda: any(slot.lanes() for slot in slots), 40, "a worker that has lanes")
            slot = chance.choice([number for number, worker in enumerate(slots) if worker.lanes()])
            slots[slot].kill()
            time.sleep(chance.uniform(0, 2))
            slots[slot] = workers.start("enrich")
        outcome.check(seconds=60)
        for worker in slots:
            assert worker.stop() == 0, worker.last_words()
        outcome.check(seconds=10)  # nothing was added by stopping


@pytest.mark.kafka
@pytest.mark.timeout(180 + 4 * PERIOD)
def test_supervised_engines(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Engines of one supervisor, which are started again at once."""
    chance = seeded()
    with (
        Calls(kafka_bootstrap, unique, chance) as outcome,
        Workers(tmp_path, unique, kafka_bootstrap) as workers,
    ):
        worker = workers.start("enrich", "--engines", "2")
        wait_until(lambda: len(worker.lanes()) == 8, 60, "the engines run all lanes")
        outcome.feed.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.5, 3))
            wait_until(worker.children, 30, "an engine to kill")
            os.kill(chance.choice(worker.children()), signal.SIGKILL)
        outcome.check(seconds=60)
        assert worker.stop() == 0, worker.last_words()
        outcome.check(seconds=10)


@pytest.mark.timeout(120 + 60 * SCALE)
def test_embedded_log(unique: str, tmp_path: Path) -> None:
    """The one process of an embedded log, killed while it works through what has come meanwhile."""
    chance = seeded()
    events = calls(EVENTS, chance)
    expected = Expected(events)
    piece = -(-EVENTS // (KILLS + 1))
    with Workers(tmp_path, unique) as workers:
        for _ in range(KILLS):
            part, events = events[:piece], events[piece:]
            embedded.produce(workers.data_dir, f"{unique}-calls", part)
            worker = workers.start("enrich")
            wait_until(worker.lanes, 30, "the worker runs lanes", every=0.02)
            time.sleep(chance.uniform(0, 2))
            worker.kill()
        embedded.produce(workers.data_dir, f"{unique}-calls", events)
        worker = workers.start("enrich", "--until-end")
        assert worker.wait(90) == 0, worker.last_words()

        def values(topic: str, count: int) -> dict[str, list[dict[str, object]]]:
            return embedded.Topic(workers.data_dir, topic).wait(count, 10)

        check_looked(values(f"{unique}-looked", len(expected.looked)), expected)
        states = check_tallied(values(f"{unique}-tallied", len(expected.tallied)), expected)
        dead = values(f"{unique}.dead-letters", len(expected.dead))
        check_dead((call for found in dead.values() for call in found), expected)
        changes = values(f"{unique}.tally.changelog", 0)
        assert {group: found[-1] for group, found in changes.items()} == states


class Calls:
    """The topics of one run: input that comes in slowly, and the output to be compared with the oracle."""

    def __init__(self, bootstrap: str, name: str, chance: random.Random) -> None:
        create_topics(bootstrap, [f"{name}-{topic}" for topic in ("calls", "looked", "tallied")])
        events = calls(EVENTS, chance)
        self._expected = Expected(events)
        self.feed = Feed(bootstrap, f"{name}-calls", events, EVENTS / PERIOD)
        self._bootstrap = bootstrap
        self._name = name
        self._topics: dict[str, Topic] = {}

    def check(self, seconds: float) -> None:
        """Once the feed is finished: all of it comes out, and nothing else."""
        self.feed.finish(PERIOD + 30)
        expected = self._expected
        tallied = by_key(self._seen("-tallied", len(expected.tallied), seconds))
        self._check_dead()
        check_looked(by_key(self._seen("-looked", len(expected.looked), 10)), expected)
        states = check_tallied(tallied, expected)
        found = by_key(self._seen(".tally.changelog", 0, 0))
        assert {group: values[-1] for group, values in found.items()} == states

    def _check_dead(self) -> None:
        letters = self._seen(".dead-letters", len(self._expected.dead), 20)
        for letter in letters:
            call, cause = json.loads(letter.value()), headers(letter)
            found = cause["reflow.error.stage"], cause["reflow.error.attempts"]
            wanted = call["at"], ATTEMPTS.get(call["fate"])
            assert found == wanted, f"dead letter {call}: {found}, {cause['reflow.error.traceback']}"
        check_dead((json.loads(letter.value()) for letter in letters), self._expected)

    def _seen(self, topic: str, count: int, seconds: float) -> list[Message]:
        """So many events; fewer if no more come, for those who compare them can say best what is missing."""
        name = self._name + topic
        reader = self._topics.get(name) or self._topics.setdefault(name, Topic(self._bootstrap, name))
        with contextlib.suppress(AssertionError):
            reader.wait(count, seconds)
        return reader.messages

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.feed.is_alive():
            self.feed.cancel()
        for topic in self._topics.values():
            topic.close()

"""Workers that stop and continue, and workers that join: who gets which lane, and what the others notice."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Self

import pytest

from tests.support.kafka import Feed, Topic, by_key, create_topics
from tests.support.settings import seeded
from tests.support.waiting import wait_until
from tests.support.weather import assert_same, averages, readings
from tests.support.workers import Workers

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.slow, pytest.mark.alone]

RATE = 3000.0
"""Events per second."""
LONGEST = 90.0
"""Seconds a test may go on producing."""


class Load:
    """A weather flow under a steady load, until it is checked."""

    def __init__(self, bootstrap: str, name: str, chance: random.Random) -> None:
        create_topics(bootstrap, [f"{name}-readings", f"{name}-averages", f"{name}-alerts"])
        self._events = readings(int(RATE * LONGEST), chance)
        self._feed = Feed(bootstrap, f"{name}-readings", self._events, RATE)
        self._output = Topic(bootstrap, f"{name}-averages")

    def start(self) -> None:
        """Begin to produce."""
        self._feed.start()

    def check(self) -> None:
        """Produce no more: the output is exactly what it should be."""
        assert self._feed.is_alive(), f"this took longer than {LONGEST:g} s, so there was no load at the end"
        self._feed.cancel()
        events = self._events[: self._feed.sent]
        assert_same(by_key(self._output.wait(len(events), 60)), averages(events), "averages")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._feed.is_alive():
            self._feed.cancel()
        self._output.close()


@pytest.mark.timeout(240)
def test_a_stopped_worker_continues(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """SIGSTOP until others run its lanes from the same data directory, then SIGCONT."""
    with (
        Load(kafka_bootstrap, unique, seeded()) as load,
        Workers(tmp_path, unique, kafka_bootstrap) as workers,
    ):
        stopped, *_ = (workers.start("weather") for _ in range(3))
        wait_until(lambda: workers.shares() == [2, 3, 3], 60, "three workers share all lanes")
        load.start()
        time.sleep(3)

        stopped.pause()
        wait_until(lambda: stopped not in workers.owners().values(), 40, "its lanes run elsewhere")
        time.sleep(1)  # they have committed since
        stopped.resume()
        resumed = _now()

        took = wait_until(lambda: workers.shares() == [2, 3, 3], 40, "it is a member again and has lanes")
        print(f"it had its share again after {took:.1f} s")
        settled = _now()
        time.sleep(6)
        restless = workers.take_overs(since=settled)
        assert not restless, f"lanes that were still taken over after all had settled: {restless}"
        again = workers.take_overs(since=resumed)
        assert max(again.values()) <= 2, f"engines fenced each other in turns: {again}"
        load.check()
        assert [worker.stop() for worker in workers.all] == [0, 0, 0]


@pytest.mark.timeout(240)
def test_a_fourth_worker_joins(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """Lanes that stay where they are do not notice, and no more move than must."""
    with (
        Load(kafka_bootstrap, unique, seeded()) as load,
        Workers(tmp_path, unique, kafka_bootstrap) as workers,
    ):
        for _ in range(3):
            workers.start("weather")
        wait_until(lambda: workers.shares() == [2, 3, 3], 60, "three workers share all lanes")
        load.start()
        time.sleep(5)

        joined = _now()
        fourth = workers.start("weather")
        wait_until(lambda: len(fourth.lanes()) == 2, 40, "the fourth worker runs two lanes")
        time.sleep(5)
        moved = workers.take_overs(since=joined)
        assert moved.keys() == fourth.lanes(), "only the lanes of the new worker have moved"
        assert workers.shares() == [2, 2, 2, 2]
        assert set(moved.values()) == {1}, f"and each of them once: {moved}"

        ended = time.time() * 1000 - 1000
        began = datetime.fromisoformat(joined).timestamp() * 1000 - 2000
        commits = _commits(kafka_bootstrap, unique)
        stayed = commits.keys() - moved.keys()
        gaps = {lane: _longest_gap(commits[lane], began, ended) for lane in stayed}
        print("longest pauses between commits:", {lane: f"{gap:.2f} s" for lane, gap in sorted(gaps.items())})
        assert max(gaps.values()) < 1, "a lane that stayed was interrupted"
        load.check()
        assert [worker.stop() for worker in workers.all] == [0, 0, 0, 0]


def _longest_gap(times: list[int], began: float, ended: float) -> float:
    """Seconds between two commits, at most."""
    within = [began, *(at for at in times if began <= at <= ended), ended]
    return max(later - earlier for earlier, later in pairwise(within)) / 1000


def _commits(bootstrap: str, flow: str) -> dict[int, list[int]]:
    """When each lane committed, by its lane records, in epoch ms."""
    records = Topic(bootstrap, f"{flow}.progress")
    found: dict[int, list[int]] = {lane: [] for lane in range(8)}
    for message in records.look():
        if message.key() == b"lane":
            assert json.loads(message.value())["positions"]
            found[message.partition()].append(message.timestamp()[1])
    records.close()
    return found


def _now() -> str:
    """The time as logs have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")

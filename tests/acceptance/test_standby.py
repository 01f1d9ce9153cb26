"""Copies of lanes on other workers: who takes over has the state, who joins gets it before the lanes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.acceptance.test_restore import read_changelog
from tests.support.kafka import Input, Topic, by_key, create_topics, produce
from tests.support.settings import seeded
from tests.support.waiting import wait_until
from tests.support.weather import assert_same, averages, readings
from tests.support.workers import Worker, Workers

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]

LANES = set(range(8))
STATIONS = 4_000
PIECE = 20_000


class Site:
    """A weather flow with standbys: its workers, each with a data directory of its own, and its topics."""

    def __init__(self, bootstrap: str, flow: str, workers: Workers, events: list[Input]) -> None:
        self.bootstrap, self.flow, self.workers, self.events = bootstrap, flow, workers, events
        self.fed = 0
        create_topics(bootstrap, [f"{flow}-readings", f"{flow}-averages", f"{flow}-alerts"])
        self.output = Topic(bootstrap, f"{flow}-averages")

    def start(self) -> Worker:
        data = self.workers.data_dir / str(len(self.workers.all))
        return self.workers.start("weather", "--standbys", "1", data_dir=data)

    def feed(self) -> None:
        produce(self.bootstrap, f"{self.flow}-readings", self.events[self.fed : self.fed + PIECE])
        self.fed += PIECE

    def processed(self) -> None:
        self.output.wait(self.fed, 60)

    def changelog(self) -> int:
        return len(read_changelog(self.bootstrap, self.flow))

    def shared(self, *shares: int) -> None:
        wait_until(lambda: self.workers.shares() == sorted(shares), 60, f"lanes are shared {shares}")

    def copied(self, *lanes: tuple[Worker, set[int]]) -> None:
        for worker, wanted in lanes:
            wait_until(lambda: wanted <= {c.lane for c in worker.copies()}, 60, f"{wanted} are copied")  # noqa: B023


@pytest.fixture
def chance() -> random.Random:
    return seeded()


def test_who_takes_over_reads_the_tail_only(
    kafka_bootstrap: str, unique: str, tmp_path: Path, chance: random.Random
) -> None:
    events = readings(3 * PIECE, chance, STATIONS)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        site = Site(kafka_bootstrap, unique, workers, events)
        site.feed()
        first, second = site.start(), site.start()
        site.shared(4, 4)
        site.processed()
        owned = {lane for lane, worker in workers.owners().items() if worker is first}
        site.copied((second, owned), (first, LANES - owned))
        began = {one.lane: one.time for one in first.take_overs()}
        assert not [
            copy.lane for copy in first.copies() if copy.lane in owned and copy.time > began[copy.lane]
        ]
        site.feed()
        site.processed()
        first.kill()
        site.feed()
        site.shared(8)
        site.processed()
        taken = {one.lane: one.restored for one in second.take_overs() if one.lane in owned}
        assert taken.keys() == owned
        assert sum(taken.values()) < site.changelog() / 20, "what the copies lacked, not all there is"
        assert second.stop() == 0, second.last_words()
    assert_same(by_key(site.output.look()), averages(events), "averages across the fail-over")
    site.output.close()


def test_lanes_come_to_a_worker_that_has_their_state(
    kafka_bootstrap: str, unique: str, tmp_path: Path, chance: random.Random
) -> None:
    events = readings(4 * PIECE, chance, STATIONS)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        site = Site(kafka_bootstrap, unique, workers, events)
        site.feed()
        first = site.start()
        site.processed()
        site.feed()
        second = site.start()
        site.shared(4, 4)
        site.feed()
        site.processed()
        _assert_warmed(second)
        # A third gets lanes and copies; then one dies, and nothing is read in full.
        third = site.start()
        site.shared(2, 3, 3)
        _assert_warmed(third)
        site.feed()
        site.processed()
        _assert_used(workers)
        for worker in (first, second, third):
            assert worker.stop() == 0, worker.last_words()
    assert_same(by_key(site.output.look()), averages(events), "averages while workers joined and left")
    site.output.close()


def _assert_used(workers: Workers) -> None:
    """Whatever state somebody had was used, and no copy began anew."""
    lines = [line for worker in workers.all for line in worker.warnings()]
    assert not [line for line in lines if "set aside" in line or "anew" in line]


def _assert_warmed(worker: Worker) -> None:
    """Every lane was copied before it came, and then lacked little."""
    copies = {one.lane: one for one in reversed(worker.copies())}
    for taken in worker.take_overs():
        assert copies[taken.lane].time < taken.time
        assert taken.restored < 1_000


def test_whatever_dies_everything_counts_once(
    kafka_bootstrap: str, unique: str, tmp_path: Path, chance: random.Random
) -> None:
    """Kills one worker after the other, each replaced by one that knows nothing or what it knew before."""
    pieces = 6
    events = readings(pieces * PIECE, chance, STATIONS)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        site = Site(kafka_bootstrap, unique, workers, events)
        live = [site.start(), site.start(), site.start()]
        for _ in range(pieces):
            site.feed()
            site.output.wait(site.fed - chance.randrange(PIECE), 90)
            victim = live.pop(chance.randrange(3))
            victim.kill()
            live.append(site.start())
        site.output.wait(site.fed, 90)
        _assert_used(workers)
        for worker in live:
            assert worker.stop() == 0, worker.last_words()
    assert_same(by_key(site.output.look()), averages(events), "averages whoever died")
    site.output.close()

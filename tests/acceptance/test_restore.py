"""Local state that is there is used, and only what it lacks is read; what is gone comes back in full."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.kafka import Topic, by_key, create_topics, produce
from tests.support.settings import seeded
from tests.support.waiting import wait_until
from tests.support.weather import assert_same, averages, readings
from tests.support.workers import Worker, Workers

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(200)]

STATIONS = 400
PIECE = 10_000


def test_local_state(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    events = readings(4 * PIECE, seeded(), STATIONS)
    create_topics(kafka_bootstrap, [f"{unique}-readings", f"{unique}-averages", f"{unique}-alerts"])
    output = Topic(kafka_bootstrap, f"{unique}-averages")

    def feed(piece: int) -> None:
        produce(kafka_bootstrap, f"{unique}-readings", events[piece * PIECE : (piece + 1) * PIECE])

    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        feed(0)
        first = _run(workers)
        assert _restored(first) == 0, "there was nothing to restore"

        feed(1)
        kept = _run(workers)
        assert _restored(kept) == 0, "after a clean stop local state lacks nothing"

        feed(2)
        killed = workers.start("weather")
        output.wait(2 * PIECE + PIECE // 2, 60)
        killed.kill()
        feed(3)
        after_kill = workers.start("weather")
        wait_until(lambda: len(after_kill.lanes()) == 8, 60, "all lanes run again")
        written = len(read_changelog(kafka_bootstrap, unique))
        assert _restored(after_kill) <= 8 * STATIONS, "at most the last commit of each lane is read"
        assert _restored(after_kill) < written / 4, "only the tail is read"
        output.wait(4 * PIECE, 60)
        assert after_kill.stop() == 0, after_kill.last_words()

        shutil.rmtree(workers.data_dir)
        deleted = _run(workers)
        changelog = read_changelog(kafka_bootstrap, unique)
        assert _restored(deleted) == len(changelog), "all of the changelog is read"
        assert {key for key, _ in changelog} == {event.key for event in events}
    assert_same(by_key(output.look()), averages(events), "averages across all of these restarts")
    output.close()


def _run(workers: Workers) -> Worker:
    worker = workers.start("weather", "--until-end")
    assert worker.wait(60) == 0, worker.last_words()
    return worker


def _restored(worker: Worker) -> int:
    """Changelog records that were read when the lanes were first taken over."""
    first = {one.lane: one.restored for one in reversed(worker.take_overs())}
    assert len(first) == 8, f"lanes that ran: {sorted(first)}"
    return sum(first.values())


def read_changelog(bootstrap: str, flow: str) -> list[tuple[str, bytes]]:
    """Keys and values in the changelog."""
    topic = Topic(bootstrap, f"{flow}.average.changelog")
    found = [(message.key().decode(), message.value()) for message in topic.look()]
    topic.close()
    return found

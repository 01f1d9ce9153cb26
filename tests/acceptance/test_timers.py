"""Timers of a worker that was killed fire on another, without any new traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kafka import Input, by_key, create_topics, produce, read_committed
from tests.support.waiting import wait_until
from tests.support.workers import Workers


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_they_fire_on_another_worker_once(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    names = [f"{unique}-{name}" for name in ("notes", "taken", "reminded")]
    create_topics(kafka_bootstrap, names)
    notes, taken, reminded = names
    events = [Input(f"key-{id}", {"id": id, "delay": 15, "cancels": None}) for id in range(100)]
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        first = workers.start("reminders", data_dir=tmp_path / "first")
        produce(kafka_bootstrap, notes, events)
        read_committed(kafka_bootstrap, taken, len(events), 60)
        first.kill()
        assert read_committed(kafka_bootstrap, reminded) == []
        second = workers.start("reminders", data_dir=tmp_path / "second")
        read_committed(kafka_bootstrap, reminded, len(events), 60)
        second.kill()
        third = workers.start("reminders", data_dir=tmp_path / "second")
        wait_until(lambda: len(third.lanes()) == 8, 60, "the third worker runs all lanes")
        assert third.stop() == 0
    found = by_key(read_committed(kafka_bootstrap, reminded))
    assert found == {f"key-{id}": [{"id": id, "reminded": 1}] for id in range(100)}

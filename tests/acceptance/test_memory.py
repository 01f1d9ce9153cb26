"""Memory is bounded by configuration, not by backlog, even where a sink does not move at all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.kafka import Input, create_topics, end_of, produce
from tests.support.waiting import wait_until
from tests.support.workers import Workers

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(200)]

EVENTS = 1_000_000
MB = 1024 * 1024
GROWTH = 64 * MB
LIMIT = 320 * MB


def test_a_sink_that_does_not_move(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """A million events pass a stage in front of a sink, and wait before another stage; neither moves."""
    create_topics(kafka_bootstrap, [f"{unique}-events"])
    value = b'{"n": %d, "padding": "' + b"x" * 60 + b'"}'
    events = (Input(f"key-{n % 1000}", value % n) for n in range(EVENTS))
    produce(kafka_bootstrap, f"{unique}-events", events)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        worker = workers.start("stuck")
        wait_until(lambda: len(worker.lanes()) == 8, 60, "all lanes run")
        edge = f"{unique}.onward.stuck"
        wait_until(lambda: end_of(kafka_bootstrap, edge) > EVENTS / 10, 60, "a tenth passed the first stage")
        early = worker.memory()
        wait_until(
            lambda: end_of(kafka_bootstrap, edge) >= EVENTS, 120, "all passed the first stage", every=1
        )
        time.sleep(3)
        late, peak = worker.memory(), worker.memory("VmHWM")
        print(f"{early / MB:.0f} MB early, {late / MB:.0f} MB late, {peak / MB:.0f} MB at most")
        assert worker.alive, worker.last_words()
        assert late - early < GROWTH, "memory grows with the backlog"
        assert peak < LIMIT, "an engine takes too much memory"
        assert worker.stop() == 0, worker.last_words()

"""Events from years ago and from the future are events like any other."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from reflow_kafka.devbroker import DevBroker
from reflow_kafka.errors import ReflowError
from tests.support.kafka import (
    ANY_TIME,
    FOREVER,
    Input,
    by_key,
    create_topics,
    headers,
    produce,
    read_committed,
)
from tests.support.weather import BEGAN, assert_same
from tests.support.workers import Workers

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(200)]

HOUR = 3_600_000


def events(count: int) -> list[Input]:
    """Keys by turns; of each key events of 2010, of now, and of two hours from now."""
    now = int(time.time() * 1000)
    stamps = [BEGAN, now, now + 2 * HOUR]
    return [event(n, stamps[n // 20 % 3] + n) for n in range(count)]


def event(n: int, timestamp: int) -> Input:
    """The event number `n`."""
    return Input(f"key-{n % 20}", {"key": f"key-{n % 20}", "n": n}, timestamp)


def numbered(good: list[Input]) -> dict[str, list[dict[str, object]]]:
    """What comes out for these events."""
    expected: dict[str, list[dict[str, object]]] = {}
    for event in good:
        values = expected.setdefault(event.key, [])
        values.append({**event.value, "seen": len(values) + 1})
    return expected


def test_any_time_is_processed(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    given = events(3000)
    create_topics(kafka_bootstrap, [f"{unique}-events", f"{unique}-out"], config=ANY_TIME)
    produce(kafka_bootstrap, f"{unique}-events", given)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        worker = workers.start("times", "--until-end")
        assert worker.wait(60) == 0, worker.last_words()
        assert max(workers.take_overs().values()) == 1, "no lane was ever in trouble"
    found = read_committed(kafka_bootstrap, f"{unique}-out")
    assert_same(by_key(found), numbered(given), "events of any time")
    stamps = {event.value["n"]: event.timestamp for event in given}
    assert all(m.timestamp()[1] == stamps[json.loads(m.value())["n"]] for m in found), "each keeps its time"


def test_what_the_broker_refuses_is_a_dead_letter(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """A topic takes nothing from more than an hour ahead, which is a broker's default."""
    ahead = int(time.time() * 1000) + 2 * HOUR
    given = [event(n, (ahead if n % 50 == 7 else BEGAN) + n) for n in range(200)]
    create_topics(kafka_bootstrap, [f"{unique}-events"], config=ANY_TIME)
    limit = {**FOREVER, "message.timestamp.after.max.ms": str(HOUR)}
    create_topics(kafka_bootstrap, [f"{unique}-out"], config=limit)
    produce(kafka_bootstrap, f"{unique}-events", given)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        worker = workers.start("times", "--until-end")
        assert worker.wait(100) == 0, worker.last_words()
        # Each of the four is found by halving what a commit holds.
        assert workers.take_overs().total() < 8 + 4 * 8, "the lanes were taken over again and again"

    good = [event for event in given if event.timestamp < ahead]
    assert_same(
        by_key(read_committed(kafka_bootstrap, f"{unique}-out")), numbered(good), "what is not refused"
    )
    letters = read_committed(kafka_bootstrap, f"{unique}.dead-letters")
    refused = {event.value["n"] for event in given if event.timestamp >= ahead}
    assert sorted(json.loads(letter.value())["n"] for letter in letters) == sorted(refused)
    for letter in letters:
        message = headers(letter)["reflow.error.message"]
        assert "timestamp" in message.lower(), f"the broker's own reason: {message}"


def test_nothing_is_deleted_unread(unique: str, tmp_path: Path) -> None:
    """A broker that deletes what is too old every second: edges of old events are not its prey."""
    at_once = {"log.retention.check.interval.ms": "1000", "log.initial.task.delay.ms": "1000"}
    broker = DevBroker(properties=at_once)
    try:
        broker.start()
    except ReflowError as error:
        pytest.skip(f"no broker with settings of its own: {error}")
    with broker, Workers(tmp_path, unique, broker.bootstrap) as workers:
        create_topics(broker.bootstrap, [f"{unique}-events", f"{unique}-out"], config=ANY_TIME)
        create_topics(broker.bootstrap, [f"{unique}-prey"], config={"retention.ms": str(7 * 24 * HOUR)})
        given = [event(n, BEGAN + n) for n in range(1000)]
        produce(broker.bootstrap, f"{unique}-prey", given)
        produce(broker.bootstrap, f"{unique}-events", given)
        worker = workers.start("times", "--until-end")
        assert worker.wait(60) == 0, worker.last_words()
        deadline = time.monotonic() + 30
        while read_committed(broker.bootstrap, f"{unique}-prey"):
            assert time.monotonic() < deadline, "the broker deletes nothing, so this test shows nothing"
        edge = read_committed(broker.bootstrap, f"{unique}.events.number")
        assert len(edge) == len(given), "an edge keeps events of 2010"
        found = read_committed(broker.bootstrap, f"{unique}-out")
        assert_same(by_key(found), numbered(given), "events of 2010")

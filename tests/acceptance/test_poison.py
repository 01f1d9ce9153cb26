"""One event in a hundred fails: it becomes a dead letter, and nothing else shows that it ever came."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.kafka import Input, by_key, create_topics, headers, produce, read_committed
from tests.support.settings import seeded
from tests.support.weather import assert_same
from tests.support.workers import Workers

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(200)]

EVENTS = 20_000
NOW = 1_300_000_000_000


def test_one_event_in_a_hundred(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    chance = seeded()
    topics = [f"{unique}-numbers", f"{unique}-sums"]
    events = [Input(f"key-{chance.randrange(200)}", {"n": n}, NOW + n) for n in range(1, EVENTS + 1)]
    create_topics(kafka_bootstrap, topics)
    placed = produce(kafka_bootstrap, topics[0], events)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        worker = workers.start("poison", "--until-end")
        assert worker.wait(60) == 0, worker.last_words()

    good = [event for event in events if event.value["n"] % 100]
    assert_same(by_key(read_committed(kafka_bootstrap, topics[1])), _sums(good), "sums of the good events")

    origins = {
        json.loads(m.value())["n"]: (m.partition(), m.offset())
        for m in read_committed(kafka_bootstrap, topics[0])
    }
    letters = read_committed(kafka_bootstrap, f"{unique}.dead-letters")
    assert sorted(json.loads(letter.value())["n"] for letter in letters) == list(range(100, EVENTS + 1, 100))
    keys = {event.value["n"]: event.key for event in events}
    for letter in letters:
        n = json.loads(letter.value())["n"]
        said = {name.removeprefix("reflow.error."): text for name, text in headers(letter).items()}
        partition, offset = origins[n]
        assert letter.key().decode() == keys[n], "a dead letter keeps its key"
        assert letter.timestamp()[1] == NOW + n, "and its time"
        assert (said["flow"], said["stage"]) == (unique, "add")
        assert (said["topic"], said["partition"], said["offset"]) == (topics[0], str(partition), str(offset))
        assert partition == placed[keys[n]]
        assert said["type"].endswith("Poison")
        assert said["message"] == f"{n} is poison"
        assert "raise Poison" in said["traceback"]
        assert said["attempts"] == "3"


def _sums(events: list[Input]) -> dict[str, list[dict[str, object]]]:
    seen: dict[str, list[int]] = defaultdict(list)
    expected: dict[str, list[dict[str, object]]] = defaultdict(list)
    for event in events:
        numbers = seen[event.key]
        numbers.append(event.value["n"])
        expected[event.key].append({"n": numbers[-1], "total": sum(numbers), "seen": numbers[-3:]})
    return expected

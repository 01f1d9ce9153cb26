"""What a plain Kafka client sees of a flow: JSON, readable keys, and keys where Kafka's clients put them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.kafka import Input, create_topics, produce, read_committed, topic_config, topics_of
from tests.support.settings import seeded
from tests.support.workers import Workers

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(200)]

WORDS = ["zürich", "東京", "naïve", *(f"{letter}{number}" for letter in "abcdefgh" for number in range(30))]


def test_every_topic_can_be_read(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    chance = seeded()
    create_topics(kafka_bootstrap, [f"{unique}-lines", f"{unique}-totals", f"{unique}-murmur2"])
    lines = [Input(f"line-{n}", {"text": " ".join(chance.choices(WORDS, k=4))}) for n in range(1000)]
    produce(kafka_bootstrap, f"{unique}-lines", lines)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        worker = workers.start("letters", "--until-end")
        assert worker.wait(60) == 0, worker.last_words()

    # librdkafka has a murmur2 of its own, and is asked where each key belongs.
    keys = [*WORDS, *{word[0] for word in WORDS}]
    belongs = produce(kafka_bootstrap, f"{unique}-murmur2", [Input(key, None) for key in keys])
    edges = {f"{unique}.split.count": {"word"}, f"{unique}.count.total": {"word", "count"}}
    for topic, fields in {**edges, f"{unique}-totals": {"letter", "total"}}.items():
        messages = read_committed(kafka_bootstrap, topic)
        assert len(messages) == 4000, f"{topic}: one event for each word"
        for message in messages:
            key, value = message.key().decode(), json.loads(message.value())
            assert value.keys() == fields, topic
            assert key == value.get("letter", value.get("word")) or key == value["word"][0], topic
            assert message.partition() == belongs[key], f"{topic}: {key!r} is placed as other clients do"

    changelog = read_committed(kafka_bootstrap, f"{unique}.count.changelog")
    assert {message.key().decode() for message in changelog} <= set(WORDS), "changelogs have readable keys"
    assert all(isinstance(json.loads(message.value()), int) for message in changelog), "and JSON values"
    records = [m for m in read_committed(kafka_bootstrap, f"{unique}.progress") if m.key() == b"lane"]
    assert {m.partition() for m in records} == set(range(8)), "each lane has a record of its own"
    assert all("positions" in json.loads(m.value()) for m in records)


def test_internal_topics_outlast_old_events(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    create_topics(kafka_bootstrap, [f"{unique}-lines", f"{unique}-totals"])
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        worker = workers.start("letters", "--until-end")
        assert worker.wait(60) == 0, f"a run without any input ends as well\n{worker.last_words()}"
    internal = {"split.count", "count.total", "dead-letters"}
    compacted = {"count.changelog", "total.changelog", "progress"}
    names = {name.removeprefix(f"{unique}.") for name in topics_of(kafka_bootstrap, f"{unique}.")}
    assert names == internal | compacted
    for name in names:
        config = topic_config(kafka_bootstrap, f"{unique}.{name}")
        assert config["cleanup.policy"] == ("compact" if name in compacted else "delete"), name
        assert config["message.timestamp.type"] == "CreateTime", name
        assert int(config["message.timestamp.before.max.ms"]) == 2**63 - 1, name
        assert int(config["message.timestamp.after.max.ms"]) == 2**63 - 1, name
        if name in internal:
            assert (config["retention.ms"], config["retention.bytes"]) == ("-1", "-1"), name

"""Nexmark's queries 0 to 8 give what plain Python gives: embedded, and on Kafka from two workers."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from examples.nexmark.generator import FIRST_AUCTION, FIRST_PERSON, events
from tests.support import embedded, nexmark
from tests.support.kafka import create_topics, read_committed
from tests.support.workers import Worker, Workers

EVENTS = 20_000
QUERIES = Path(__file__).parent.parent.parent / "examples" / "nexmark" / "queries.py"
TOPICS = [f"nexmark-q{number}" for number in range(9)]


def test_one_in_fifty_is_a_person_and_three_are_auctions() -> None:
    found = list(events(1_000))
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in found:
        kinds[event["kind"]].append(event)
    assert {kind: len(of_kind) for kind, of_kind in kinds.items()} == {
        "person": 20, "auction": 60, "bid": 920
    }  # fmt: skip
    assert [person["id"] for person in kinds["person"]] == list(range(FIRST_PERSON, FIRST_PERSON + 20))
    assert [auction["id"] for auction in kinds["auction"]] == list(range(FIRST_AUCTION, FIRST_AUCTION + 60))
    assert list(events(1_000, first=400)) == found[400:]
    assert list(events(10, seed=1)) != found[:10]


@pytest.mark.timeout(120)
def test_embedded_log(tmp_path: Path) -> None:
    with Workers(tmp_path, "nexmark") as workers:
        worker = start(workers)
        assert worker.wait(100) == 0, worker.last_words()
        data_dir = workers.data_dir
    nexmark.check(lambda query: rows(embedded.read(data_dir, f"nexmark-{query}", 4)), list(events(EVENTS)))


@pytest.mark.kafka
@pytest.mark.timeout(200)
def test_two_workers(kafka_bootstrap: str, tmp_path: Path) -> None:
    create_topics(kafka_bootstrap, TOPICS, partitions=4)
    with Workers(tmp_path, "nexmark", kafka_bootstrap) as workers:
        both = [start(workers), start(workers)]
        for worker in both:
            assert worker.wait(150) == 0, worker.last_words()

    def results(query: str) -> list[dict[str, Any]]:
        return [json.loads(m.value()) for m in read_committed(kafka_bootstrap, f"nexmark-{query}")]

    nexmark.check(results, list(events(EVENTS)))


def start(workers: Workers) -> Worker:
    return workers.start_file(QUERIES, "--until-end", NEXMARK_EVENTS=str(EVENTS))


def rows(outputs: list[Any]) -> list[dict[str, Any]]:
    return [output.value for output in outputs]

"""A finite run on two engines ends by itself, with every event accounted for; and so does the next one."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.support.kafka import Input, by_key, create_topics, produce, read_committed
from tests.support.settings import seeded
from tests.support.workers import Workers

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(200)]

WORDS = [f"{letter}{number}" for letter in "abcdefghij" for number in range(50)]


def test_two_runs_on_two_engines(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    chance = seeded()
    create_topics(kafka_bootstrap, [f"{unique}-lines", f"{unique}-totals"])
    words: Counter[str] = Counter()
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        for lines in (_lines(chance, 5000), _lines(chance, 2000)):
            produce(kafka_bootstrap, f"{unique}-lines", lines)
            words.update(word for line in lines for word in line.value["text"].split())
            for engine in [workers.start("letters", "--until-end") for _ in range(2)]:
                assert engine.wait(60) == 0, engine.last_words()
            _check(kafka_bootstrap, unique, words)


def test_supervised_engines(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    lines = _lines(seeded(), 2000)
    create_topics(kafka_bootstrap, [f"{unique}-lines", f"{unique}-totals"])
    produce(kafka_bootstrap, f"{unique}-lines", lines)
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        worker = workers.start("letters", "--until-end", "--engines", "2")
        assert worker.wait(60) == 0, worker.last_words()
    _check(kafka_bootstrap, unique, Counter(word for line in lines for word in line.value["text"].split()))


def _lines(chance: random.Random, count: int) -> list[Input]:
    return [Input(f"line-{n}", {"text": " ".join(chance.choices(WORDS, k=5))}) for n in range(count)]


def _check(bootstrap: str, flow: str, words: Counter[str]) -> None:
    """Every word leads to one total of its letter, and those grow one by one to the number of words."""
    expected: Counter[str] = Counter()
    for word, times in words.items():
        expected[word[0]] += times
    found = by_key(read_committed(bootstrap, f"{flow}-totals"))
    for letter, times in expected.items():
        totals = [value["total"] for value in found[letter]]
        assert totals == list(range(1, times + 1)), f"{letter!r}: {len(totals)} totals of {times}"
    assert found.keys() == expected.keys()

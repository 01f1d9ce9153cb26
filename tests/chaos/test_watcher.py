"""The reader beside the faults must not be taken at its word if it has seen nothing, or something else."""

from __future__ import annotations

import pytest

from tests.chaos.watcher import Seen, Watcher, differs, gathered
from tests.support.kafka import Input, create_topics, produce, read_committed

AFTERWARDS: Seen = {("out", 0): [(0, b"a"), (2, b"b")], ("late", 1): [(5, b"c")]}

WRONG: dict[str, Seen] = {
    "nothing": {},
    "not all": {**AFTERWARDS, ("out", 0): [(0, b"a")]},
    "nothing of a topic": {("out", 0): AFTERWARDS["out", 0]},
    "what is gone": {**AFTERWARDS, ("late", 0): [(1, b"d")]},
    "another value": {**AFTERWARDS, ("late", 1): [(5, b"d")]},
    "another order": {**AFTERWARDS, ("out", 0): [(2, b"b"), (0, b"a")]},
}


def test_the_same_is_right() -> None:
    assert differs(AFTERWARDS, AFTERWARDS) == []


@pytest.mark.parametrize("what", WRONG)
def test_anything_else_is_found(what: str) -> None:
    assert differs(WRONG[what], AFTERWARDS) != []


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_it_comes_to_the_end_of_all_topics(kafka_bootstrap: str, unique: str) -> None:
    topics = [f"{unique}-{name}" for name in ("one", "two")]
    create_topics(kafka_bootstrap, topics, 2)
    watcher = Watcher(kafka_bootstrap, topics)
    watcher.start()
    for topic in topics:
        produce(kafka_bootstrap, topic, [Input(f"k{n}", n) for n in range(50)])
    seen = watcher.finish(100)
    afterwards = [message for topic in topics for message in read_committed(kafka_bootstrap, topic)]
    assert watcher.error is None
    assert len(afterwards) == 100
    assert differs(seen, gathered(afterwards)) == []


@pytest.mark.kafka
@pytest.mark.timeout(120)
def test_its_own_error_is_kept(kafka_bootstrap: str, unique: str) -> None:
    watcher = Watcher(kafka_bootstrap, [f"{unique}-never-created"])
    watcher.start()
    assert watcher.finish(1) == {}
    assert isinstance(watcher.error, KeyError)

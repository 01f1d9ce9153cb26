"""A process dies at each labelled point of a take-over and of a commit: all comes out once, in order."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from reflow_kafka.errors import UsageError
from reflow_kafka.killpoint import POINTS, VARIABLE, _armed
from tests.chaos.oracle import check
from tests.chaos.slot import KILLED
from tests.chaos.windowed import check_windows
from tests.chaos.world import CUSTOMERS, FOLDED, GROUPS, LANES, OUTPUTS
from tests.support import embedded
from tests.support.kafka import Input, by_key, create_topics, grouped, produce, read_committed
from tests.support.workers import Workers

EVENTS = 600
BEGAN = 1_700_000_000_000
APART = 50
"""Milliseconds between two events: their windows close one after the other."""
KAFKA = ("commit.begun", "commit.sent", "commit.ended")
"""Where a transaction is open, or has just ended."""


def events(chance: random.Random) -> list[Input]:
    """Orders of all customers and groups, mixed."""
    found = []
    for id in range(EVENTS):
        customer, group = f"c{chance.randrange(CUSTOMERS)}", f"g{chance.randrange(GROUPS)}"
        at = BEGAN + id * APART + chance.randrange(5_000)
        found.append(Input(customer, {"id": id, "customer": customer, "group": group, "at": at}, at))
    return found


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", [point for point in POINTS if point not in KAFKA[:2]])
def test_on_the_embedded_log(point: str, unique: str, tmp_path: Path) -> None:
    """One process dies, the next one goes on."""
    orders = events(random.Random(1))
    with Workers(tmp_path, unique) as workers:
        embedded.produce(workers.data_dir, f"{unique}-orders", orders, LANES)
        if point == "restore.written":  # there must be something to restore, and nothing but the changelogs
            worker = workers.start("campaign", "--until-end")
            assert worker.wait(60) == 0, worker.last_words()
            shutil.rmtree(workers.data_dir / unique)
        worker = workers.start("campaign", **{VARIABLE: f"{point}:2"})
        assert worker.wait(60) == KILLED, worker.last_words()
        worker = workers.start("campaign", "--until-end")
        assert worker.wait(60) == 0, worker.last_words()

    def topic(name: str) -> dict[str, list[dict[str, object]]]:
        return grouped(embedded.read(workers.data_dir, name, LANES))

    wanted: dict[str, list[dict[str, object]]] = {}
    for order in orders:
        wanted.setdefault(order.key, []).append(order.value)
    assert _wrong(wanted, *(topic(f"{unique}-{name}") for name in OUTPUTS)) == []


@pytest.mark.kafka
@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_around_the_end_of_a_transaction(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """One flow for each point, all at once: their successors wait for the session to expire."""
    orders = events(random.Random(1))
    runs = {point: f"{unique}-{number}" for number, point in enumerate(KAFKA)}
    several = {}
    for point, flow in runs.items():
        create_topics(kafka_bootstrap, [f"{flow}-{name}" for name in ("orders", *OUTPUTS)], LANES)
        produce(kafka_bootstrap, f"{flow}-orders", orders)
        several[point] = Workers(tmp_path / point, flow, kafka_bootstrap)
        (tmp_path / point).mkdir()
    try:
        dying = {point: w.start("campaign", **{VARIABLE: f"{point}:7"}) for point, w in several.items()}
        for point, worker in dying.items():
            assert worker.wait(60) == KILLED, f"{point}: {worker.last_words()}"
        last = [workers.start("campaign", "--until-end") for workers in several.values()]
        for worker in last:
            assert worker.wait(90) == 0, worker.last_words()
    finally:
        for workers in several.values():
            workers.__exit__(None, None, None)
    for flow in runs.values():
        logs = [by_key(read_committed(kafka_bootstrap, f"{flow}-{name}")) for name in ("orders", *OUTPUTS)]
        assert _wrong(*logs) == []


def _wrong(*logs: dict[str, list[dict[str, object]]]) -> list[str]:
    """What the oracles say of the logs; folds in the outputs tell enough of states, and no window is open."""
    orders, looked, counted, totalled, noted, closed, late = logs
    found = check(orders, looked, counted, totalled, {stage: {} for stage in FOLDED})
    wrong = [problem for problem in found if not problem.startswith("state of")]
    return wrong or check_windows(orders, counted, noted, closed, late, {}, LANES)


def test_without_the_variable_nothing_happens() -> None:
    for point in POINTS:
        _armed("")(point)


@pytest.mark.parametrize("wanted", ["commit.sent", "commit.sent:", "commit.nowhere:1", "commit.sent:-1"])
def test_a_point_that_does_not_exist_is_named(wanted: str) -> None:
    with pytest.raises(UsageError, match="it is POINT:N with one of the points"):
        _armed(wanted)

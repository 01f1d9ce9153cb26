"""A process dies at each labelled point of a take-over and of a commit: all comes out once, in order."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
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
KAFKA = ("commit.begun", "commit.sent")
"""Where a transaction is open: the embedded log has none."""
IN_TURN = (
    ("commit.taken:7", "takeover.fenced:2"),
    ("commit.begun:7", "takeover.read:2"),
    ("commit.sent:7", "takeover.fenced:1"),
    ("commit.ended:7", "takeover.restored:2"),
    ("commit.written:7", "restore.written:1"),
    ("commit.done:7", "takeover.read:1"),
)
"""A first worker dies while it works, a second one while it takes over."""


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
@pytest.mark.parametrize("point", [point for point in POINTS if point not in KAFKA])
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
@pytest.mark.timeout(360)
def test_on_kafka(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    """One flow for each pair of points, all at once: who comes next waits for a session to expire."""
    orders = events(random.Random(1))
    first, second = zip(*IN_TURN, strict=True)
    topics = {
        f"{unique}-{n}": [f"{unique}-{n}-{name}" for name in ("orders", *OUTPUTS)]
        for n in range(len(IN_TURN))
    }
    with ExitStack() as stack:
        several = []
        for flow, names in topics.items():
            create_topics(kafka_bootstrap, names, LANES)
            produce(kafka_bootstrap, names[0], orders)
            (tmp_path / flow).mkdir()
            several.append(stack.enter_context(Workers(tmp_path / flow, flow, kafka_bootstrap)))
        _die(several, first)
        for workers, point in zip(several, second, strict=True):
            if point.startswith("restore"):  # there must be nothing but the changelogs
                shutil.rmtree(workers.data_dir)
        _die(several, second)
        for worker in [workers.start("campaign", "--until-end") for workers in several]:
            assert worker.wait(90) == 0, worker.last_words()
    for points, names in zip(IN_TURN, topics.values(), strict=True):
        assert _wrong(*(by_key(read_committed(kafka_bootstrap, name)) for name in names)) == [], points


def _die(several: Sequence[Workers], points: Sequence[str]) -> None:
    """Start a worker of each flow, and see it die at its point."""
    dying = [w.start("campaign", **{VARIABLE: point}) for w, point in zip(several, points, strict=True)]
    for worker, point in zip(dying, points, strict=True):
        assert worker.wait(90) == KILLED, f"{point}: {worker.last_words()}"


def test_every_point_is_met_on_kafka() -> None:
    assert {point.partition(":")[0] for two in IN_TURN for point in two} == POINTS.keys()


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

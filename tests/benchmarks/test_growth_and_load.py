"""The pure parts of measuring growth and load."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from benchmarks.growth import GROUPS, points
from benchmarks.growth_report import Growth, GrowthReport
from benchmarks.load import SECONDS, WARM_UP, burst, dues, step
from benchmarks.load_report import Burst, Commits, LoadReport
from benchmarks.numbers import Numbers, fault
from benchmarks.workers.growing import Shape


@pytest.mark.parametrize("size", [100, 1_000, 10_000])
def test_numbers_are_as_large_as_asked(size: int) -> None:
    events = list(Numbers(50, keys=5, size=size))
    assert all(abs(len(event.value) - size) < 10 for event in events)
    assert len({event.key for event in events}) == 5


def test_each_key_comes_up_before_one_comes_up_again() -> None:
    keys = [event.key for event in Numbers(2_000, keys=1_000, evenly=True)]
    assert len(set(keys[:1_000])) == 1_000
    assert keys[:1_000] == keys[1_000:] != sorted(keys[1_000:])


@pytest.mark.parametrize("evenly", [False, True])
def test_ranks_count_the_events_of_each_key(evenly: bool) -> None:
    numbers = Numbers(200, keys=7, evenly=evenly)
    seen: Counter[bytes] = Counter()
    for event, rank in zip(numbers, numbers.ranks(), strict=True):
        seen[event.key] += 1
        assert rank == seen[event.key]


class Outputs:
    def __init__(self, values: list[dict[str, int]]) -> None:
        self._values = values

    async def read(self, topic: str, lanes: int) -> AsyncIterator[tuple[None, bytes]]:
        for value in self._values:
            yield None, orjson.dumps(value)


async def test_what_is_wrong_with_outputs() -> None:
    numbers = Numbers(20, keys=3)
    right = [{"id": id, "count": rank} for id, rank in enumerate(numbers.ranks())]
    topics: Any = Outputs
    assert await fault(numbers, topics(right), "out", 1) == ""
    assert await fault(numbers, topics(right[1:]), "out", 1) == "1 lost or doubled"
    assert await fault(numbers, topics([*right, right[0]]), "out", 1) == "1 lost or doubled"
    assert await fault(numbers, topics(right + right), "out", 1, times=2) == ""
    assert await fault(numbers, topics([{"id": 0, "count": 9}, *right[1:]]), "out", 1) == "1 wrong"


def test_a_shape_survives_the_command_line() -> None:
    shape = Shape(hops=3, state=1, flows=2)
    assert Shape.parse(str(shape)) == shape


def test_points_and_their_report(tmp_path: Path) -> None:
    report = GrowthReport({}, machine={})
    for point in points(0.1):
        report.figures.append(Growth(point.group, point.value, 1000, 1.0, 0.002, 0.001, 50.0, 0.1))
    report.write(tmp_path, None)
    text = (tmp_path / "growth.md").read_text()
    assert sum(line.startswith("| --- |") for line in text.splitlines()) == len(GROUPS)
    assert "| 64 | 1,000 | **2.00** |" in text
    assert "| 24 | **0.2%** | 0.1% | 50 |" in text


def test_events_are_due_at_their_rate() -> None:
    assert list(dues([(0.5, 4.0), (0.25, 8.0)])) == [0.0, 0.25, 0.5, 0.625]


def traffic(*seen: tuple[float, float]) -> Any:
    return SimpleNamespace(seen=array("d", [value for pair in seen for value in pair]))


def test_a_step_leaves_its_warm_up_out(tmp_path: Path) -> None:
    seen = [(1.0, 9.0), *((WARM_UP + at / 100, WARM_UP + at / 100 + 0.01) for at in range(100))]
    commits = [Commits(float(at), 10 * at, 0.01 * at, 0.1 * at) for at in range(int(WARM_UP + SECONDS) + 1)]
    found = step(100.0, traffic(*seen), True, commits)
    assert (found.p50, found.p99) == (pytest.approx(10), pytest.approx(10))
    assert (found.commits, found.commit_cpu, found.worker_cpu) == (
        pytest.approx(10),
        pytest.approx(0.01),
        pytest.approx(0.1),
    )
    report = LoadReport({}, machine={}, steps=[found])
    report.write(tmp_path, None)
    assert "| 100 | 10.0 | 10.0 | 10.0 | 10 | 1% | 10% | yes |" in (tmp_path / "load.md").read_text()


def test_a_burst_is_over_when_latency_is_as_before() -> None:
    quiet = [(at / 10, at / 10 + 0.01) for at in range(50)]
    crowded = [(5 + at / 10, 5 + at / 10 + 0.5) for at in range(20)]
    after = [(7 + at / 10, 7 + at / 10 + 0.01) for at in range(50)]
    commits = [Commits(0.0, 0, 0.0, 0.0), Commits(1.0, 5, 0.1, 0.2)]
    found = burst(traffic(*quiet, *crowded, *after), True, commits)
    assert found.recovered() == pytest.approx(6.75)
    assert found.commits == [(1.0, 5.0, pytest.approx(0.1))]
    never = Burst([*found.latency, (20.0, 500.0, 500.0)], [], True)
    assert never.recovered() is None

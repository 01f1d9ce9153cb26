"""The benchmarks' judge of events in flight sees every kind of fault."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import orjson
import pytest

from benchmarks.flight.cases import CASES, Case
from benchmarks.flight.outcome import Outcome, make_input

COUNT = 2_000
Outputs = list[tuple[bytes | None, dict[str, Any]]]


def outputs(case: Case) -> Outputs:
    """What comes out of a case."""
    seen: Counter[str] = Counter()
    found: Outputs = []
    for id, event in enumerate(make_input(case, COUNT)):
        sensor = event.key.decode()
        if not case.failing(id, int(sensor[2:])):
            seen[sensor] += 1
            found.append((event.key, {"id": id, "sensor": sensor, "count": seen[sensor]}))
    return found


def judge(case: Case, found: Outputs) -> Any:
    outcome = Outcome(case, make_input(case, COUNT), COUNT)
    return outcome.judge((key, orjson.dumps(value)) for key, value in found)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_right_passes(case: Case) -> None:
    found = outputs(case)
    verdict = judge(case, found)
    assert verdict.ok
    assert verdict.right == len(found)


@pytest.mark.parametrize("name", ["wait", "count-failing", "hot"])
def test_faults_are_seen(name: str) -> None:
    case, found = CASES[name], outputs(CASES[name])
    assert judge(case, found[:-1]).missing == 1
    assert judge(case, [*found, found[5]]).duplicated == 1
    busiest, _ = Counter(key for key, _ in found).most_common(1)[0]
    of_one = [at for at, (key, _) in enumerate(found) if key == busiest]
    first, second = of_one[:2]
    found[first], found[second] = found[second], found[first]
    assert not judge(case, found).ok


def test_dead_letters_are_those_that_fail_each_once() -> None:
    case = CASES["count-failing"]
    outcome = Outcome(case, make_input(case, COUNT), COUNT)
    dead = [(None, orjson.dumps({"id": id})) for id in range(7, COUNT, 100)]
    assert outcome.dead == len(dead)
    assert outcome.dead_ids(dead)
    assert not outcome.dead_ids(dead[1:])
    assert not outcome.dead_ids([*dead, dead[0]])


def test_cases_survive_the_way_to_the_worker() -> None:
    for case in CASES.values():
        assert msgspec.json.decode(msgspec.json.encode(case), type=Case) == case

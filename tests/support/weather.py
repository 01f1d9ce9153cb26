"""Readings of weather stations, and what the weather flow must make of them: the oracle."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.kafka import Input, grouped
from tests.support.kills import Seen

BEGAN = 1_262_304_000_000  # 2010-01-01
HOUR = 3_600_000
Values = dict[str, list[dict[str, Any]]]


def readings(count: int, chance: random.Random, stations: int = 400) -> list[Input]:
    """Readings of all stations, mixed; those of one station are numbered and in order."""
    made: dict[str, int] = defaultdict(int)
    events: list[Input] = []
    for _ in range(count):
        station = f"station-{chance.randrange(stations)}"
        n = made[station] = made[station] + 1
        value = {"station": station, "n": n, "temp_f": round(chance.gauss(60, 8), 1)}
        events.append(Input(station, value, BEGAN + n * HOUR))
    return events


def averages(events: Sequence[Input]) -> Values:
    """Per station and in order: each reading with the average of the last 24."""
    last: dict[str, list[float]] = defaultdict(list)
    expected: Values = defaultdict(list)
    for event in events:
        temps = last[event.key] = [*last[event.key], event.value["temp_f"]][-24:]
        expected[event.key].append({**event.value, "average": sum(temps) / len(temps)})
    return dict(expected)


def alerts(expected: Values) -> Values:
    """The alerts that follow from the averages."""
    return {
        station: found
        for station, values in expected.items()
        if (found := [{"station": station, "n": v["n"]} for v in values if v["temp_f"] > v["average"] + 15])
    }


class Weather:
    """The oracle of some readings."""

    source = "-readings"
    sinks = ("-averages", "-alerts")

    def __init__(self, events: Sequence[Input]) -> None:
        self.events = events
        averaged = averages(events)
        self._expected = dict(zip(self.sinks, (averaged, alerts(averaged)), strict=True))

    def check(self, seen: Seen) -> None:
        """The right averages and alerts, once and in order."""
        for topic, expected in self._expected.items():
            found = seen(topic, sum(map(len, expected.values())))
            assert_same(grouped(found), expected, topic)


def assert_same(found: Mapping[str, list[Any]], expected: Mapping[str, list[Any]], what: str) -> None:
    """The same values per key in the same order; otherwise say what is wrong."""
    wrong = [key for key in sorted(found.keys() | expected.keys()) if found.get(key) != expected.get(key)]
    if not wrong:
        return
    about = [_difference(key, found.get(key, []), expected.get(key, [])) for key in wrong[:5]]
    raise AssertionError(f"{what}: {len(wrong)} keys differ\n" + "\n".join(about))


def _difference(key: str, found: list[Any], expected: list[Any]) -> str:
    numbers = [value["n"] for value in found]
    missing = sorted({value["n"] for value in expected} - set(numbers))
    twice = sorted({n for n in numbers if numbers.count(n) > 1})
    first = next((pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), None)
    return (
        f"  {key}: {len(found)} values, expected {len(expected)}; missing {missing[:5]}, twice {twice[:5]}, "
        f"in order: {numbers == sorted(numbers)}, first difference (found, expected): {first}"
    )

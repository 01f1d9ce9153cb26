"""What must come out of a case, computed from its input; every output is compared."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import orjson

from benchmarks.events import SENSORS, Readings, sensor_name
from benchmarks.flight.cases import HOT, Case
from benchmarks.oracle import Verdict


def make_input(case: Case, count: int) -> Readings:
    """The readings of a case."""
    readings = Readings(count)
    if case.hot:
        for id in range(0, count, 2):
            readings.sensor[id] = HOT
    return readings


class Outcome:
    """What is expected of the first so many readings."""

    def __init__(self, case: Case, readings: Readings, count: int) -> None:
        self._readings = readings
        self._places = array("l", [0]) * count
        """Which of its sensor's outputs the one of a reading is, from 1 on; 0: there is none."""
        self._counts = case.work == "count"
        made = array("l", [0]) * SENSORS
        for id in range(count):
            sensor = readings.sensor[id]
            if not case.failing(id, sensor):
                made[sensor] += 1
                self._places[id] = made[sensor]
        self.expected = sum(1 for place in self._places if place)
        self.dead = count - self.expected if case.attempts is not None else 0

    def judge(self, outputs: Iterable[tuple[bytes | None, bytes]]) -> Verdict:
        """Compare outputs, partition by partition, with what they must be."""
        seen = bytearray(len(self._places))
        last = array("l", [0]) * SENSORS
        duplicated = wrong = disordered = 0
        for key, value in outputs:
            output = orjson.loads(value)
            id = output["id"]
            place = self._places[id]
            sensor = self._readings.sensor[id]
            if seen[id]:
                duplicated += 1
            elif (
                not place
                or key != sensor_name(sensor).encode()
                or (self._counts and output["count"] != place)
            ):
                wrong += 1
            else:
                seen[id] = 1
                disordered += place != last[sensor] + 1  # none is left out, either
                last[sensor] = place
        right = seen.count(1)
        return Verdict(self.expected, right, self.expected - right, duplicated, wrong, disordered)

    def dead_ids(self, letters: Iterable[tuple[bytes | None, bytes]]) -> bool:
        """Whether the dead letters are those that they must be, each once."""
        ids = sorted(orjson.loads(value)["id"] for _, value in letters)
        return ids == [id for id, place in enumerate(self._places) if not place] if self.dead else not ids

"""What each workload must put out, computed from the input; every output is compared."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from benchmarks.events import (
    GAP_MS,
    SENSORS,
    WINDOW_MS,
    WITHIN_MS,
    Readings,
    sensor_name,
    site_name,
    timestamp_of,
)

THRESHOLD = 13
_TOLERANCE = 1e-9  # sums of ten numbers, in whatever order and precision a language adds them

LONG_AGO = -(2**62)

Judge = Callable[[bytes, dict[str, Any]], bool]


@dataclass(frozen=True)
class Verdict:
    """How the outputs compare with what they must be."""

    expected: int
    right: int = 0
    missing: int = 0
    duplicated: int = 0
    wrong: int = 0
    """Other content, another key, or none that should exist."""
    disordered: int = 0
    """Behind a later reading of the same sensor."""

    @property
    def ok(self) -> bool:
        """Whether every output is there once, as it must be."""
        return self.right == self.expected and not (self.duplicated or self.wrong or self.disordered)

    def __str__(self) -> str:
        if self.ok:
            return f"ok, {self.expected:,} outputs"
        faults = ("missing", "duplicated", "wrong", "disordered")
        return ", ".join(f"{getattr(self, fault):,} {fault}" for fault in faults if getattr(self, fault))


class Oracle(Protocol):
    """Takes outputs, partition by partition, and says what is wrong with them."""

    expected: int
    """How many there are to be."""

    def take(self, key: bytes | None, value: bytes) -> None:
        """Look at the next output."""

    def verdict(self) -> Verdict:
        """What came of it."""


def oracle_of(workload: str, readings: Readings, count: int | None = None) -> Oracle:
    """The oracle of a workload; with `count`, of the first so many readings."""
    if workload in CLOSED:
        return WindowOracle(CLOSED[workload](readings, count), timestamp_of(readings.count))
    if workload == "W6":
        return PairOracle(readings, count)
    return ReadingOracle(workload, readings, count)


class ReadingOracle:
    """Of workloads whose every output names the reading that it comes from.

    With `count`, those of the first so many readings.
    """

    def __init__(self, workload: str, readings: Readings, count: int | None = None) -> None:
        self._readings = readings
        self._count = readings.count if count is None else count
        self._judge: Judge = {"W1": self._converted, "W2": self._mean, "W4": self._counted}[workload]
        self._counts: dict[str, int] = {}
        self._seen = bytearray(self._count)
        self._last = array("q", [-1]) * SENSORS
        self._wrong = self._duplicated = self._disordered = 0
        dropped = sum(t < THRESHOLD for t in readings.temperature[: self._count]) if workload == "W1" else 0
        self.expected = self._count - dropped

    def take(self, key: bytes | None, value: bytes) -> None:
        """Look at the next output."""
        output = orjson.loads(value)
        id = output.get("id", -1)
        if not 0 <= id < self._count:
            self._wrong += 1
        elif self._seen[id]:
            self._duplicated += 1
        elif key is None or not self._judge(key, output):
            self._wrong += 1
        else:
            self._seen[id] = 1
            sensor = self._readings.sensor[id]
            self._disordered += id < self._last[sensor]
            self._last[sensor] = id

    def verdict(self) -> Verdict:
        """What came of it."""
        right = self._seen.count(1)
        missing = self.expected - right
        return Verdict(self.expected, right, missing, self._duplicated, self._wrong, self._disordered)

    # ---- what is right, per workload

    def _converted(self, key: bytes, output: dict[str, Any]) -> bool:
        id = output["id"]
        celsius, sensor = self._readings.temperature[id], self._readings.sensor[id]
        name = sensor_name(sensor)
        return (
            celsius >= THRESHOLD
            and key == name.encode()
            and output
            == {
                "id": id,
                "sensor": name,
                "site": site_name(sensor),
                "temperature": celsius,
                "ts": timestamp_of(id),
                "fahrenheit": celsius * 1.8 + 32,
            }
        )

    def _mean(self, key: bytes, output: dict[str, Any]) -> bool:
        id = output["id"]
        name = sensor_name(self._readings.sensor[id])
        near = abs(output["avg"] - self._readings.means[id]) < _TOLERANCE
        return near and output["sensor"] == name and key == name.encode()

    def _counted(self, key: bytes, output: dict[str, Any]) -> bool:
        site = site_name(self._readings.sensor[output["id"]])
        count = self._counts[site] = self._counts.get(site, 0) + 1
        return output["count"] == count and output["site"] == site and key == site.encode()


Means = dict[tuple[str, int], float]
"""By sensor and start of the window."""


def window_means(readings: Readings, count: int | None) -> Means:
    """The mean of each sensor in each tumbling window."""
    return _means(readings, count, lambda timestamp, last, start: timestamp // WINDOW_MS * WINDOW_MS)


def session_means(readings: Readings, count: int | None) -> Means:
    """The mean of each sensor in each session."""
    return _means(
        readings, count, lambda timestamp, last, start: start if timestamp - last <= GAP_MS else timestamp
    )


def _means(readings: Readings, count: int | None, start_of: Callable[[int, int, int], int]) -> Means:
    """The means of a sensor's readings; of each `start_of` says to which window it belongs.

    Args:
        readings: of these.
        count: or only of windows of which a later one of the first so many readings of the sensor tells that
            they are over: every system has closed those, whether its keys or its partitions have a clock.
        start_of: from a reading's timestamp, that of the sensor's last one, and the start of its window.
    """
    whole = count is None or count >= readings.count
    sums: dict[tuple[int, int], tuple[float, int]] = {}
    newest: dict[int, tuple[int, int]] = {}
    for id in range(readings.count if whole else count or 0):
        sensor, timestamp = readings.sensor[id], timestamp_of(id)
        start = start_of(timestamp, *newest.get(sensor, (LONG_AGO, LONG_AGO)))
        total, number = sums.get((sensor, start), (0.0, 0))
        sums[sensor, start] = (total + readings.temperature[id], number + 1)
        newest[sensor] = timestamp, start
    return {
        (sensor_name(sensor), start): total / number
        for (sensor, start), (total, number) in sums.items()
        if whole or start < newest[sensor][1]
    }


class WindowOracle:
    """The mean of each sensor in each window, once; those of a window come after those before it."""

    def __init__(self, means: Means, end: int) -> None:
        self._means = means
        self._end = end
        self._left = set(self._means)
        self._last: dict[str, int] = {}
        self._wrong = self._duplicated = self._disordered = 0
        self.expected = len(self._means)

    def take(self, key: bytes | None, value: bytes) -> None:
        """Look at the next output."""
        output = orjson.loads(value)
        sensor, start = output.get("sensor"), output.get("start", 0)
        if start >= self._end:  # what closes the others may be closed itself
            return
        mean = self._means.get((sensor, start))
        if mean is None or key != sensor.encode() or abs(output["avg"] - mean) >= _TOLERANCE:
            self._wrong += 1
        elif (sensor, start) not in self._left:
            self._duplicated += 1
        else:
            self._left.remove((sensor, start))
            self._disordered += start < self._last.get(sensor, start)
            self._last[sensor] = start

    def verdict(self) -> Verdict:
        """What came of it."""
        missing = len(self._left)
        right = self.expected - missing
        return Verdict(self.expected, right, missing, self._duplicated, self._wrong, self._disordered)


CLOSED: dict[str, Callable[[Readings, int | None], Means]] = {"W3": window_means, "W5": session_means}
"""Workloads that tell of what is over: something must come later, so that the last of it is over, too."""


class PairOracle:
    """Each pair of an even and an odd reading of a sensor that are close to each other, once, in any order.

    With `count`, those of the first so many readings.
    """

    def __init__(self, readings: Readings, count: int | None = None) -> None:
        self._readings = readings
        self._left = set(_pairs(readings, readings.count if count is None else count))
        self._seen: set[tuple[int, int]] = set()
        self._wrong = self._duplicated = 0
        self.expected = len(self._left)

    def take(self, key: bytes | None, value: bytes) -> None:
        """Look at the next output."""
        output = orjson.loads(value)
        pair = output.get("id", -1), output.get("other", -1)
        if pair in self._seen:
            self._duplicated += 1
        elif pair in self._left and self._right(key, output):
            self._left.remove(pair)
            self._seen.add(pair)
        else:
            self._wrong += 1

    def _right(self, key: bytes | None, output: dict[str, Any]) -> bool:
        readings, even, odd = self._readings, output["id"], output["other"]
        name = sensor_name(readings.sensor[even])
        difference = readings.temperature[even] - readings.temperature[odd]
        return (
            key == name.encode()
            and output["sensor"] == name
            and abs(output["difference"] - difference) < _TOLERANCE
        )

    def verdict(self) -> Verdict:
        """What came of it."""
        return Verdict(self.expected, len(self._seen), len(self._left), self._duplicated, self._wrong)


def _pairs(readings: Readings, count: int) -> Iterator[tuple[int, int]]:
    recent: dict[int, deque[int]] = {}
    for id in range(count):
        near = recent.setdefault(readings.sensor[id], deque())
        while near and timestamp_of(id) - timestamp_of(near[0]) > WITHIN_MS:
            near.popleft()
        yield from ((other, id) if id % 2 else (id, other) for other in near if (other - id) % 2)
        near.append(id)

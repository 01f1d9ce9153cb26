"""The input: readings of 10,000 sensors at 50 sites, about 90 bytes of JSON each, the same at every call.

Each sensor has one a second, on average.
"""

from __future__ import annotations

import random
from array import array
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import orjson

SENSORS = 10_000
SITES = 50
WINDOW = 10
"""Readings in the mean of the last ones."""
WINDOW_MS = 10_000
"""Milliseconds in a tumbling window."""
GAP_MS = 1_500
"""Milliseconds without a reading after which a session is over."""
WITHIN_MS = 500
"""Milliseconds between the readings of a pair, at most."""
FIRST_TIMESTAMP = 1_700_000_000_000
CLOSING_MS = 90_000
"""After so many milliseconds all windows have closed, also those that wait for what is late."""
PER_MS = SENSORS // 1_000
"""Readings per millisecond of event time."""


class Event(NamedTuple):
    """A reading as it stands in the topic."""

    key: bytes
    value: bytes
    timestamp: int


class Readings:
    """So many readings: number i is of sensor `sensor[i]` and says `temperature[i]`.

    With `closing` there follows one of each sensor, so much later that all windows and
    sessions have closed before it.
    """

    def __init__(self, count: int, *, closing: bool = False) -> None:
        chance = random.Random(1)
        self.count = count
        self.closing = closing
        self.sensor = array("H")
        self.temperature = array("d")
        for _ in range(count):
            self.sensor.append(int(chance.random() * SENSORS))
            self.temperature.append(round(chance.random() * 40 + 9, 2))  # a tenth is below 13

    @cached_property
    def means(self) -> array[float]:
        """The mean of the last ten temperatures of the sensor, at each reading."""
        last: dict[int, deque[float]] = {}
        means = array("d")
        for sensor, temperature in zip(self.sensor, self.temperature, strict=True):
            window = last.get(sensor)
            if window is None:
                window = last[sensor] = deque(maxlen=WINDOW)
            window.append(temperature)
            means.append(sum(window) / len(window))
        return means

    def __iter__(self) -> Iterator[Event]:
        for id in range(self.count):
            yield _event(id, self.sensor[id], self.temperature[id], timestamp_of(id))
        if self.closing:
            late = timestamp_of(self.count) + CLOSING_MS
            yield from (_event(self.count + sensor, sensor, 0.0, late) for sensor in range(SENSORS))


def _event(id: int, sensor: int, temperature: float, timestamp: int) -> Event:
    name = sensor_name(sensor)
    value = {"id": id, "sensor": name, "site": site_name(sensor), "temperature": temperature, "ts": timestamp}
    # A copy of its own size: what orjson returns holds 4 kB however short it is, 17 GB in 4 M events.
    return Event(name.encode(), b"".join((orjson.dumps(value), b"")), timestamp)


def timestamp_of(id: int) -> int:
    """Event time of a reading, epoch ms."""
    return FIRST_TIMESTAMP + id // PER_MS


def sensor_name(sensor: int) -> str:
    """The key of a reading."""
    return f"s-{sensor:05d}"


def site_name(sensor: int) -> str:
    """Where a sensor stands."""
    return f"plant-{sensor % SITES}"

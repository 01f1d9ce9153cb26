"""Windows over partitions that fall silent for long, and have traffic again, while owners come and go.

Producers date events by the clock that engines go by, too: how far time may have come is known at each moment
(`Bounds`), so each late event, and all that lanes tell of their time, can be judged.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from reflow_kafka.lane.record import LaneRecord
from reflow_kafka.log.api import OutRecord
from reflow_kafka.timed.watermark import Habits
from reflow_kafka.units import LONG_AGO
from tests.simulation.bounds import Bounds
from tests.simulation.hosts import Topics
from tests.simulation.windows import Windowed


class Silences(Windowed):
    """The same flows, whose sources stop counting when they have been silent for long."""

    size = 1_000
    waits = (0.0, 0.01, 0.3, 0.3, 3.0)

    def __init__(self, rng: random.Random, *, seconds: float, habits: Habits) -> None:
        super().__init__(rng, events=0)
        self.lanes = rng.choice((2, 3))
        self.habits = habits
        self.behind = rng.choice((0, 500))
        self.idle_after = rng.choice((1.0, 2.0, 5.0, 5.0, 1e6))
        self.steady = [rng.random() < 0.5 for _ in range(self.lanes)]
        """Whether a partition is never silent for long."""
        self.plan = sorted(
            (at, lane, event_time)
            for lane in range(self.lanes)
            for at, event_time in (self._steadily(seconds) if self.steady[lane] else self._at_times(seconds))
        )
        """When, in seconds after the beginning, which partition gets an event, and of which time that is."""
        self.began = 0
        self.published: list[tuple[int, int, dict[str, Any]]] = []
        """The wall clock (ms), the partition, and the event."""

    # ---- the input

    def _gap(self) -> float:
        return self.rng.choice((0.0, 0.01, 0.3, 1.0, 1.5))

    def _steadily(self, seconds: float) -> Iterator[tuple[float, float]]:
        at = self._gap()
        while at < seconds:
            yield at, at
            at += min(self._gap() + 0.1, 0.8 * self.idle_after)

    def _at_times(self, seconds: float) -> Iterator[tuple[float, float]]:
        at = self.rng.choice((0.0, 3.0, 20.0, seconds))
        while at < seconds:
            ago = self.rng.choice((0.0, 0.0, 2.0, 10.0))  # some tell of a while ago: they could not be sent
            for number in range(self.rng.choice((1, 3, 8))):
                yield at, max(at - ago / (1 + number), 0.0)
                at += self._gap()
            at += min(self.idle_after, 5.0) + self.rng.choice((-1.0, 0.1, 3.0, 20.0))

    def event(self, lane: int, now: int, event_time: int) -> OutRecord:
        """The next event, as it is written now."""
        rng = self.rng
        at = event_time - rng.randint(0, self.behind)
        value = {"id": len(self.published), "k": rng.choice("abc"), "g": rng.choice("xyz"), "at": at}
        self.published.append((now, lane, value))
        return OutRecord(value["k"].encode(), orjson.dumps(value), 7 if self.by_field else at)

    # ---- what must come out

    def all_closed(self, topics: Topics, until: int) -> bool:
        """Whether everything that was written by then has come out of windows of windows, or is late."""
        closed, late = topics.get("closed-again", ()), topics.get("late", ())
        out = {int(each.split()[2]) for _, value, _ in closed for each in value["seen"]}
        out |= {value["id"] for _, value, _ in late}
        return out >= {value["id"] for now, _, value in self.published if now <= until}

    def check(self, topics: Topics) -> None:
        """Whether each event is in its window or late, and late only if its window may have closed."""
        wanted = Counter((v["g"], v["at"] // self.size * self.size, v["id"]) for _, _, v in self.published)
        closed = self.closed(topics)
        late = Counter((v["g"], v["at"] // self.size * self.size, v["id"]) for _, v, _ in topics["late"])
        self.compare("windows and late events", wanted, closed + late)
        self.closed_once(topics)
        assert not topics["late-again"], f"windows are late: {topics['late-again']}"
        self.check_again(closed, topics)
        bounds = self._bounds()
        for now, lane, value in self.published:
            end = value["at"] // self.size * self.size + self.size
            if (value["g"], end - self.size, value["id"]) in late:
                bound = bounds.before(lane, now)
                assert end <= bound, (
                    f"late: {value}, written to {lane} at {now}, when time was at most {bound}"
                )

    def _bounds(self) -> Bounds:
        return Bounds(
            [(when, lane, value["at"]) for when, lane, value in self.published],
            self.began,
            self.lanes,
            behind=self.behind,
            after=round(self.idle_after * 1000),
            believed=self.habits.believed,
        )

    def check_times(self, records: dict[int, list[tuple[int, LaneRecord]]]) -> None:
        """Whether time has never gone back in any lane, nor ahead of what it may have been."""
        bounds = self._bounds()
        for lane, told in records.items():
            last: dict[str, int] = {}
            for now, record in told:
                for stage, time in record.times.items():
                    assert time.clock >= last.get(stage, LONG_AGO), f"{stage}[{lane}] went back to {time}"
                    last[stage] = time.clock
                    if stage in ("windows", "again"):
                        bound = bounds.at(now)
                        assert time.clock <= bound, f"{stage}[{lane}] is at {time} at {now}, not {bound}"

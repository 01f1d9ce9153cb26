"""Flows with windows, made from a seed: whatever happens, no event is late that is not older than it may be.

Time goes from the source through a stage or two, of any kind, into windows, and from there into windows of
windows. The input is in order but for a known time; so an event that comes late, or a window that closes
twice, shows a watermark that was told too early.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from reflow_kafka import Batch, Flow, Retry, Tumbling, Window
from reflow_kafka.log.api import OutRecord
from tests.simulation.hosts import Topics

SIZE = 20
"""Milliseconds of a window; those of windows are five times as long."""
RETRY = Retry(None, backoff=0.05, max_backoff=0.5)


class Windowed:
    """A flow, its input, and what is to come out."""

    name = "sim"
    size = SIZE
    idle_after = 1e6
    waits: tuple[float, ...] = (0.0, 0.01, 0.3)
    """Seconds for which what waits at times does so."""

    def __init__(self, rng: random.Random, *, events: int) -> None:
        self.rng = rng
        self.lanes = rng.choice((1, 2, 3))
        self.exactly_once = rng.random() < 0.85
        self.faults = rng.choice((0.0, 0.1, 0.3))
        self.behind = rng.choice((0, 15))
        self.by_field = rng.random() < 0.5
        self.middle = [rng.choice(("plain", "async", "overlap", "batch")) for _ in range(rng.randint(0, 2))]
        self._chains = rng.random() < 0.5
        self._waits = rng.random() < 0.5
        self.input: list[tuple[int, dict[str, Any]]] = []
        at = [0] * self.lanes
        for id in range(events):
            lane = rng.randrange(self.lanes)
            at[lane] += rng.choice((0, 1, 5, 30))
            value = {"id": id, "k": rng.choice("abc"), "g": rng.choice("xyz")}
            self.input.append((lane, {**value, "at": at[lane] - rng.randint(0, self.behind)}))

    def records(self) -> Iterator[tuple[int, OutRecord]]:
        """The input, with the partition of each record."""
        for lane, value in self.input:
            timestamp = 7 if self.by_field else 1_000 + value["at"]
            value = {**value, "at": 1_000 + value["at"]}
            yield lane, OutRecord(value["k"].encode(), orjson.dumps(value), timestamp)

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.faults = 0.0

    def flow(self) -> Flow:
        """The flow, as a program makes it that starts."""
        flow = Flow(self.name, partitions=self.lanes)
        times: dict[str, Any] = {"timestamp": "at"} if self.by_field else {}
        flow.source(
            "source", topic="in", idle_after=self.idle_after, out_of_orderness=self.behind / 1000, **times
        )
        before = "source"
        for number, kind in enumerate(self.middle):
            options: dict[str, Any] = {"retry": RETRY, "after": before, "name": f"middle{number}"}
            if number:
                options["key"] = "k"
            if kind == "overlap":
                options["concurrency"] = 3
            elif kind == "batch":
                options["batch"] = Batch(3, within=0.05)
            flow.stage(self._passing(kind), **options)
            before = options["name"]
        if self.middle and self._chains:
            flow.stage(self._passing("plain"), name="chained", after=before, chain=True, retry=RETRY)
            before = "chained"
        flow.stage(
            self._waiting(self._count) if self._waits else self._count,
            name="windows", after=before, key="g", window=Tumbling(self.size / 1000), state=list,
            on_close=self._waiting(self._close) if self._waits else self._close, retry=RETRY,
        )  # fmt: skip
        flow.sink("late", after="windows.late", topic="late")
        flow.sink("closed", after="windows", topic="closed")
        flow.stage(
            self._count_windows,
            name="again", after="windows", key=lambda closed: "all", window=Tumbling(5 * self.size / 1000),
            state=list, on_close=self._close_again, retry=RETRY,
        )  # fmt: skip
        flow.sink("late_again", after="again.late", topic="late-again")
        flow.sink("closed_again", after="again", topic="closed-again")
        return flow

    # ---- what stages do

    def _fails(self) -> None:
        if self.rng.random() < self.faults:
            raise OSError("away")

    def _passing(self, kind: str) -> Callable[..., Any]:
        def plain(value: Any) -> Any:
            self._fails()
            return value

        async def waits(value: Any) -> Any:
            if self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.choice(self.waits))
            return plain(value)

        return plain if kind == "plain" else waits

    def _waiting(self, code: Callable[..., Any]) -> Callable[..., Any]:
        async def waits(state: list[int], other: Any) -> Any:
            if self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.choice(self.waits))
            return code(state, other)

        return waits

    def _count(self, ids: list[int], value: dict[str, Any]) -> None:
        ids.append(value["id"])
        self._fails()

    def _close(self, ids: list[int], window: Window) -> dict[str, Any]:
        self._fails()
        return {"g": window.key, "start": window.start, "ids": ids}

    def _count_windows(self, seen: list[str], closed: dict[str, Any]) -> None:
        seen.extend(f"{closed['g']} {closed['start']} {id}" for id in closed["ids"])
        self._fails()

    def _close_again(self, seen: list[str], window: Window) -> dict[str, Any]:
        self._fails()
        return {"start": window.start, "seen": seen}

    # ---- what must come out

    def check(self, topics: Topics) -> None:
        """Whether each event is in its window, once, and in the window of its window."""
        late = [value for name in ("late", "late-again") for _, value, _ in topics[name]]
        assert not late, f"late: {late}"
        wanted = Counter(
            (value["g"], _start(1_000 + value["at"], self.size), value["id"]) for _, value in self.input
        )
        self.compare("windows", wanted, self.closed(topics))
        self.check_again(wanted, topics)

    def closed(self, topics: Topics) -> Counter[Any]:
        """What was in windows when they closed."""
        return Counter((v["g"], v["start"], id) for _, v, _ in topics["closed"] for id in v["ids"])

    def check_again(self, closed: Counter[Any], topics: Topics) -> None:
        """Whether what was in windows is in the windows of these."""
        size = self.size
        wanted = Counter(
            (_start(start + size - 1, 5 * size), f"{g} {start} {id}") for g, start, id in closed.elements()
        )
        found = Counter((v["start"], each) for _, v, _ in topics["closed-again"] for each in v["seen"])
        self.compare("windows of windows", wanted, found)

    def closed_once(self, topics: Topics) -> None:
        """Where no run has ended before all of the input was there, each window has closed once."""
        times: dict[tuple[str, int], int] = defaultdict(int)
        for _, value, _ in topics["closed"]:
            times[value["g"], value["start"]] += 1
        for _, value, _ in topics["closed-again"]:
            times["all", value["start"]] += 1
        twice = {window: count for window, count in times.items() if count > 1}
        assert not twice or not self.exactly_once, f"closed more than once: {twice}"

    def compare(self, what: str, wanted: Counter[Any], found: Counter[Any]) -> None:
        missing = wanted - found
        more = found - wanted if self.exactly_once else Counter()
        assert not missing, f"{what}: lost {dict(missing)}"
        assert not more, f"{what}: too many of {dict(more)}"


def _start(timestamp: int, size: int) -> int:
    return timestamp // size * size

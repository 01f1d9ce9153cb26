"""Readings for the flow of windows, and what it must make of them: the oracle."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from reflow_kafka.serde.keys import partition_of
from tests.support.kafka import Input
from tests.support.kills import Seen

BEGAN = 1_262_304_000_000  # 2010-01-01
APART = 10
"""Milliseconds between two readings of any station."""
JITTER = 2_000
"""Milliseconds by which readings are out of order."""
LATE = 120_000
"""Milliseconds by which some are late."""
FAR = BEGAN + 10**10
PARTITIONS = 8


def readings(count: int, chance: random.Random, regions: int = 100) -> list[Input]:
    """Readings of all stations, mixed and a little out of order, a few far too late; then one in each
    partition from a far time, so that all windows close.
    """
    events: list[Input] = []
    for id in range(count):
        region = f"region-{chance.randrange(regions)}"
        at = BEGAN + id * APART - chance.randrange(JITTER)
        is_late = id > count // 3 and chance.random() < 1 / 300
        value = {"id": id, "region": region, "late": is_late}
        events.append(Input(f"{region}/{chance.randrange(4)}", value, at - LATE * is_late))
    last = {"id": -1, "region": "end", "late": False}
    ends: dict[int, str] = {}
    for number in range(10 * PARTITIONS):
        ends.setdefault(partition_of(b"end/%d" % number, PARTITIONS), f"end/{number}")
    assert len(ends) == PARTITIONS
    return [*events, *(Input(key, last, FAR) for key in ends.values())]


class Windows:
    """What must come out of all readings."""

    source = "-readings"
    sinks = ("-closed", "-sessions", "-counts", "-late", "-never")

    def __init__(self, events: Sequence[Input]) -> None:
        self.events = events
        heard = [e for e in events if e.value["region"] != "end"]
        self._late = [e.value["id"] for e in heard if e.value["late"]]
        in_time = [e for e in heard if not e.value["late"]]
        self._closed = _closed(in_time)
        self._counts = _counts(self._closed)
        self._sessions = _sessions(in_time)

    def check(self, seen: Seen) -> None:
        """Each window once, with all that belongs into it, and each late reading once."""
        expected = (self._closed, self._sessions, self._counts, self._late)
        for topic, wanted in zip(self.sinks, expected, strict=False):
            found = [output for output in seen(topic, len(wanted)) if not output.key.startswith("end")]
            if topic == "-late":
                _check([output.value["id"] for output in found], wanted, topic)
            else:
                _check([(output.key, output.value) for output in found], wanted, topic)
        assert [letter.value for letter in seen("-never", 0)] == []
        assert [letter.value for letter in seen(".dead-letters", 0)] == []


def _check(found: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
    """The same things, each as often."""
    there, due = Counter(map(repr, found)), Counter(map(repr, wanted))
    missing, extra = list((due - there).elements()), list((there - due).elements())
    assert (missing, extra) == ([], []), (
        f"{what}: {len(missing)} missing, such as {missing[:3]}; {len(extra)} too much, such as {extra[:3]}"
    )


def _closed(events: Sequence[Input]) -> list[Any]:
    ids: dict[tuple[str, int], list[int]] = defaultdict(list)
    for event in events:
        ids[(event.key, event.timestamp - event.timestamp % 10_000)].append(event.value["id"])
    return [
        (
            station,
            {
                "region": station.partition("/")[0],
                "start": start,
                "n": len(held),
                "sum": sum(held),
                "ids": sorted(held),
            },
        )
        for (station, start), held in ids.items()
    ]


def _counts(closed: Sequence[Any]) -> list[Any]:
    counts: dict[tuple[str, int], list[int]] = defaultdict(list)
    for _, window in closed:
        at = window["start"] + 9_999
        counts[(window["region"], at - at % 60_000)].append(window["n"])
    return [
        (region, {"start": start, "windows": len(held), "readings": sum(held)})
        for (region, start), held in counts.items()
    ]


def _sessions(events: Sequence[Input]) -> list[Any]:
    by_region: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        by_region[event.value["region"]].append((event.timestamp, event.value["id"]))
    found: list[Any] = []
    for region, held in by_region.items():
        held.sort()
        sessions: list[list[tuple[int, int]]] = []
        for at, id in held:
            if sessions and at - sessions[-1][-1][0] <= 2_000:
                sessions[-1].append((at, id))
            else:
                sessions.append([(at, id)])
        found += [
            (region, {"start": s[0][0], "end": s[-1][0], "ids": sorted(id for _, id in s)}) for s in sessions
        ]
    return found

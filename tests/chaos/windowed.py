"""What must come of the windows of the campaign's flow, recomputed from its input log (pure).

A partition's time is that of its latest event, less the disorder that is allowed; the flow's is the least of
these. No source there is ever idle, so time does not go farther than its events, and has to come as far.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reflow_kafka.serde.keys import partition_of
from reflow_kafka.units import LONG_AGO
from tests.chaos.oracle import Log, Value, differences, disorder, flat, numbered, once

SIZE, GRACE, DISORDER = 5_000, 10_000, 15_000
"""As in the flow, in milliseconds."""

Place = tuple[str, int]
"""Key and start of a window."""
Windows = Mapping[Place, Sequence[int]]
"""Ids of what each holds."""


def check_windows(
    orders: Log, counted: Log, noted: Log, closed: Log, late: Log, held: Windows, lanes: int
) -> list[str]:
    """What is wrong; nothing if each event is noted in one window, or late, and each window is there once.

    Args:
        orders: the input.
        counted: what the stage with windows has read.
        noted, closed, late: its outputs.
        held: windows that are open, according to its changelog.
        lanes: how many partitions the input has.
    """
    wrong = once(flat(orders), {"noted": flat(noted), "late": flat(late)}, "noted and late")
    if wrong:  # what follows would only repeat it
        return wrong
    found: dict[Place, Any] = dict(held)
    for place, ids in _closings(closed):
        if place in found:
            how = "is still open" if place in held else "was closed before"
            wrong.append(f"the window {place} was closed with {ids}, and {how} with {found[place]}")
        found[place] = ids
    wrong += differences("windows", contents(noted), found)
    wrong += _noted(counted, noted)
    source = {value["id"]: value for value in flat(counted)}
    wrong += differences("late", {k: [source[v["id"]] for v in values] for k, values in late.items()}, late)
    return wrong + _not_late(orders, late, lanes)


def untimely(orders: Log, noted: Log, closed: Log, lanes: int) -> tuple[list[Place], list[Place]]:
    """Once all is quiet: which windows should have been closed, and which should not."""
    tops: dict[int, int] = {}
    for key, values in orders.items():
        lane = partition_of(key.encode(), lanes)
        tops[lane] = max(tops.get(lane, LONG_AGO), *(value["at"] for value in values))
    time = min(tops.get(lane, LONG_AGO) for lane in range(lanes)) - DISORDER
    due = {place for place in contents(noted) if _over(place[1], time)}
    gone = {place for place, _ in _closings(closed)}
    return sorted(due - gone), sorted(gone - due)


def contents(noted: Log) -> dict[Place, list[int]]:
    """What belongs into each window, in the order in which it came."""
    found: dict[Place, list[int]] = defaultdict(list)
    for key, values in noted.items():
        for value in values:
            found[key, _start(value)].append(value["id"])
    return dict(found)


def _start(order: Value) -> int:
    at: int = order["at"]
    return at - at % SIZE


def _over(start: int, time: int) -> bool:
    return start + SIZE + GRACE <= time


def _closings(closed: Log) -> Iterator[tuple[Place, list[int]]]:
    return (((key, window["start"]), window["ids"]) for key, values in closed.items() for window in values)


def _noted(counted: Log, noted: Log) -> list[str]:
    """Each event is numbered within its window; those of one group come in its order."""
    wrong = []
    places = {value["id"]: (value, place) for place, value in numbered(counted)}
    expected: dict[str, list[Value]] = defaultdict(list)
    for key, values in noted.items():
        ranks: dict[int, int] = defaultdict(int)
        for value in values:
            ranks[_start(value)] += 1
            expected[key].append({**places[value["id"]][0], "window_n": ranks[_start(value)]})
        placed = [{**value, "place": places[value["id"]][1]} for value in values]
        wrong += disorder(f"noted, {key}", placed, "group", "place")
    return wrong + differences("noted", expected, noted)


def _not_late(orders: Log, late: Log, lanes: int) -> list[str]:
    """Those whose window cannot have closed before them: its own partition had not come so far."""
    told = {value["id"] for value in flat(late)}
    tops: dict[int, int] = defaultdict(lambda: LONG_AGO)
    wrong = []
    for order in sorted(flat(orders), key=lambda order: int(order["id"])):
        lane = partition_of(order["customer"].encode(), lanes)
        if order["id"] in told and not _over(_start(order), tops[lane] - DISORDER):
            wrong.append(f"late, but nothing before it was late enough for that: {order}")
        tops[lane] = max(tops[lane], order["at"])
    return wrong[:4]

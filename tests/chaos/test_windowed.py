"""The oracle of windows must find what it is there for, and nothing in a right outcome."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from reflow_kafka.serde.keys import partition_of
from tests.chaos.windowed import DISORDER, GRACE, SIZE, check_windows, contents, untimely

Outcome = dict[str, Any]
LANES = 2
APART = 500
BACK = 15
"""Every so manieth event is late."""


def right(events: int = 200) -> Outcome:
    """What the stage makes of events of a customer in each of two lanes, one after the other."""
    logs: dict[str, dict[str, list[Any]]] = {
        name: {} for name in ("orders", "counted", "noted", "closed", "late")
    }
    customers = [
        next(c for c in map("c{}".format, range(9)) if partition_of(c.encode(), LANES) == n) for n in (0, 1)
    ]
    windows: dict[tuple[str, int], list[int]] = {}
    time = 0
    for id in range(events):
        is_late = id > events // 2 and id % BACK == 0
        at = 10**6 + id * APART - is_late * 2 * (SIZE + GRACE + DISORDER)
        customer, group = customers[id % 2], f"g{id % 3}"
        order = {"id": id, "customer": customer, "group": group, "at": at}
        logs["orders"].setdefault(customer, []).append({**order})
        logs["counted"].setdefault(group, []).append({**order})
        if is_late:
            logs["late"].setdefault(customer, []).append({**order})
            continue
        ids = windows.setdefault((customer, at - at % SIZE), [])
        ids.append(id)
        logs["noted"].setdefault(customer, []).append({**order, "window_n": len(ids)})
        time = at - APART - DISORDER  # the other lane has not come farther
    held = {}
    for (customer, start), ids in windows.items():
        if start + SIZE + GRACE <= time:
            logs["closed"].setdefault(customer, []).append({"start": start, "ids": ids})
        else:
            held[customer, start] = ids
    return {**logs, "held": held, "lanes": LANES}


def found(outcome: Outcome) -> list[Any]:
    """What both oracles say."""
    timely = untimely(*(outcome[name] for name in ("orders", "noted", "closed", "lanes")))
    return [*check_windows(**outcome), *timely[0], *timely[1]]


def test_a_right_outcome_is_right() -> None:
    outcome = right()
    assert found(outcome) == []
    assert all(outcome[name] for name in ("closed", "held", "late"))


def _first(log: dict[str, list[Any]]) -> list[Any]:
    return next(iter(log.values()))


def _take(outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """Take a closed window away."""
    key, windows = next(iter(outcome["closed"].items()))
    return key, windows.pop()


def _reopen(outcome: Outcome) -> None:
    key, window = _take(outcome)
    outcome["held"][key, window["start"]] = window["ids"]


def _close_early(outcome: Outcome) -> None:
    (key, start), ids = outcome["held"].popitem()
    outcome["closed"][key].append({"start": start, "ids": ids})


def _late_for_nothing(outcome: Outcome) -> None:
    """The last event is late, as if it had never been noted."""
    (key, _), ids = max(outcome["held"].items(), key=lambda window: window[1])
    last = outcome["noted"][key].pop()
    ids.remove(last.pop("id"))
    outcome["late"].setdefault(key, []).append({**last, "id": 199})
    del outcome["late"][key][-1]["window_n"]


WRONG: dict[str, Callable[[Outcome], object]] = {
    "lost": lambda o: _first(o["late"]).pop(),
    "noted twice": lambda o: _first(o["noted"]).append(_first(o["noted"])[-1]),
    "noted and late": lambda o: _first(o["late"]).append(_first(o["orders"])[0]),
    "late for nothing": _late_for_nothing,
    "a late one changed": lambda o: _first(o["late"])[0].update(at=0),
    "a wrong number": lambda o: _first(o["noted"])[3].update(window_n=1),
    "noted out of order": lambda o: _first(o["noted"]).insert(0, _first(o["noted"]).pop(1)),
    "closed twice": lambda o: _first(o["closed"]).append(_first(o["closed"])[0]),
    "closed and still open": lambda o: o["held"].update(contents(o["noted"])),
    "a window that is gone": _take,
    "an open window that is gone": lambda o: o["held"].popitem(),
    "a window of nothing": lambda o: o["held"].update({("c7", 0): []}),
    "an event of a window that is gone": lambda o: _first(o["closed"])[1]["ids"].pop(),
    "an event in two windows": lambda o: _first(o["closed"])[1]["ids"].append(
        _first(o["closed"])[0]["ids"][0]
    ),
    "a late one in a window": lambda o: _first(o["closed"])[1]["ids"].append(_first(o["late"])[0]["id"]),
    "a window that was never closed": _reopen,
    "a window that was closed too early": _close_early,
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_outcome_is_found(fault: str) -> None:
    outcome = copy.deepcopy(right())
    WRONG[fault](outcome)
    assert found(outcome) != []

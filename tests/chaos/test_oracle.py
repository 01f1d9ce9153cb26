"""The oracle must find what it is there for: each kind of wrong outcome, and nothing in a right one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.oracle import ROUND, check, gone

Outcome = dict[str, Any]


def right(events: int = 150) -> Outcome:
    """What the flow makes of events of two customers in two groups, one after the other."""
    logs: dict[str, dict[str, list[Any]]] = {name: {} for name in ("orders", "looked", "counted", "totalled")}
    states: dict[str, dict[str, Any]] = {"look_up": {}, "count": {}, "total": {}}
    for id in range(events):
        order = {"id": id, "customer": f"c{id % 2}", "group": f"g{id // 2 % 2}"}
        customer, group = order["customer"], order["group"]
        one = states["look_up"].setdefault(customer, {"last": -1, "n": 0})
        looked = {**order, "customer_n": one["n"] + 1, "customer_before": one["last"]}
        one.update(last=id, n=one["n"] + 1)
        two = states["count"].setdefault(group, {"last": -1, "n": 0, "sum": 0})
        counted = {
            **looked,
            "group_n": two["n"] + 1,
            "group_sum": two["sum"] + id,
            "group_before": two["last"],
        }
        two.update(last=id, n=two["n"] + 1, sum=two["sum"] + id)
        if two["n"] == ROUND:
            del states["count"][group]
        three = states["total"].setdefault(customer, {"last": -1, "sum": 0})
        three["sum"] += counted["group_sum"]
        totalled = {**counted, "total_sum": three["sum"], "total_before": three["last"]}
        three["last"] = id
        places = (order, customer), (looked, customer), (counted, group), (totalled, customer)
        for log, (value, key) in zip(logs.values(), places, strict=True):
            log.setdefault(key, []).append(value)
    return {**logs, "states": states}


def test_a_right_outcome_is_right() -> None:
    assert check(**right()) == []


def _swap(values: list[Any]) -> None:
    values[3], values[4] = values[4], values[3]


WRONG: dict[str, Callable[[Outcome], object]] = {
    "lost": lambda o: o["totalled"]["c0"].pop(),
    "twice": lambda o: o["looked"]["c1"].append(o["looked"]["c1"][-1]),
    "invented": lambda o: o["counted"]["g0"].append({**o["counted"]["g0"][0], "id": 999}),
    "looked out of order": lambda o: _swap(o["looked"]["c0"]),
    "counted out of order": lambda o: _swap(o["counted"]["g0"]),
    "totalled out of order": lambda o: _swap(o["totalled"]["c0"]),
    "a wrong fold": lambda o: o["counted"]["g1"][5].update(group_sum=0),
    "a wrong total": lambda o: o["totalled"]["c1"][5].update(total_before=0),
    "a stale state": lambda o: o["states"]["total"]["c1"].update(sum=1),
    "a state that came back": lambda o: o["states"]["count"].update(g7={"n": 1}),
    "a state that is gone": lambda o: o["states"]["look_up"].pop("c0"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_outcome_is_found(fault: str) -> None:
    outcome = copy.deepcopy(right())
    WRONG[fault](outcome)
    assert check(**outcome) != []


def test_what_was_compacted_away_is_counted_and_ends_of_transactions_are_not() -> None:
    assert gone([]) == 0
    assert gone([0, 1, 3, 5, 6]) == 0  # 2 and 4 are ends
    assert gone([0, 1, 6, 7]) == 3
    assert gone([9]) == 8

"""What must come out of the campaign's flow, recomputed from its input log (pure)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

ROUND = 50
"""As in the flow: a group begins anew after so many events."""

Value = dict[str, Any]
Log = Mapping[str, Sequence[Value]]
"""Values per key, in the order of the log."""
States = Mapping[str, Mapping[str, Any]]

_SHOWN = 4


def check(orders: Log, looked: Log, counted: Log, totalled: Log, states: Mapping[str, States]) -> list[str]:
    """What is wrong; nothing if every event counts once, in order per key, in all outputs and states.

    Args:
        orders: the input.
        looked, counted, totalled: the outputs of the three stages.
        states: stage → key → its state according to the changelog.
    """
    wanted = flat(orders)
    wrong = [
        *once(wanted, orders, "orders"),
        *once(wanted, looked, "looked"),
        *once(wanted, counted, "counted"),
        *once(wanted, totalled, "totalled"),
    ]
    if wrong:  # what follows would only repeat it
        return wrong
    found = {
        "look_up": _looked(orders, looked, wrong),
        "count": _counted(looked, counted, wrong),
        "total": _totalled(counted, totalled, wrong),
    }
    for stage, expected in found.items():
        wrong += differences(f"state of {stage}", expected, states[stage])
    return wrong


def once(wanted: Iterable[Value], log: Log, what: str) -> list[str]:
    """Every event is there, and once."""
    ids = Counter(value["id"] for value in flat(log))
    every = {value["id"] for value in wanted}
    wrong = {
        "missing": sorted(every - ids.keys()),
        "more than once": sorted(id for id, times in ids.items() if times > 1),
        "never sent": sorted(ids.keys() - every),
    }
    return [f"{what}: {len(some)} {how}: {some[:_SHOWN]}" for how, some in wrong.items() if some]


def _looked(orders: Log, looked: Log, wrong: list[str]) -> States:
    """Exactly the input of each customer, numbered: nothing overtakes within a key."""
    expected: dict[str, list[Value]] = {}
    states: dict[str, Value] = {}
    for key, values in orders.items():
        before = -1
        for n, order in enumerate(values, 1):
            expected.setdefault(key, []).append({**order, "customer_n": n, "customer_before": before})
            before = order["id"]
        states[key] = {"last": before, "n": len(values)}
    wrong += differences("looked", expected, looked)
    return states


def _counted(looked: Log, counted: Log, wrong: list[str]) -> States:
    """Each group's events folded in the order in which they came, its customers' in their order."""
    source = {value["id"]: value for value in flat(looked)}
    expected: dict[str, list[Value]] = defaultdict(list)
    states: dict[str, Value] = {}
    for group, values in counted.items():
        state: Value = {}
        for value in values:
            order = source[value["id"]]
            before = state.get("last", -1)
            state = {
                "last": order["id"],
                "n": state.get("n", 0) + 1,
                "sum": state.get("sum", 0) + order["id"],
            }
            fold = {"group_n": state["n"], "group_sum": state["sum"], "group_before": before}
            expected[group].append({**order, **fold})
            if state["n"] == ROUND:
                state = {}
        if state:
            states[group] = state
        wrong += disorder(f"counted, {group}", values, "customer", "customer_n")
    wrong += differences("counted", expected, counted)
    return states


def _totalled(counted: Log, totalled: Log, wrong: list[str]) -> States:
    """Each customer's events folded in the order in which they came, those of one group in its order."""
    places = {value["id"]: place for place, value in numbered(counted)}
    source = {value["id"]: value for value in flat(counted)}
    expected: dict[str, list[Value]] = defaultdict(list)
    states: dict[str, Value] = {}
    for customer, values in totalled.items():
        last, sum_ = -1, 0
        for value in values:
            order = source[value["id"]]
            sum_ += order["group_sum"]
            expected[customer].append({**order, "total_sum": sum_, "total_before": last})
            last = order["id"]
        states[customer] = {"last": last, "sum": sum_}
        placed = [{**value, "place": places[value["id"]]} for value in values]
        wrong += disorder(f"totalled, {customer}", placed, "group", "place")
    wrong += differences("totalled", expected, totalled)
    return states


def gone(offsets: Sequence[int]) -> int:
    """How many records of a partition are no more; the end of a transaction takes an offset, too."""
    return sum(max(0, later - one - 2) for one, later in pairwise([-1, *offsets]))


def numbered(log: Log) -> Iterable[tuple[int, Value]]:
    return ((place, value) for values in log.values() for place, value in enumerate(values))


def disorder(what: str, values: Sequence[Value], field: str, number: str) -> list[str]:
    """Events with the same `field` must come by ascending `number`."""
    last: dict[Any, int] = {}
    for value in values:
        if value[number] <= last.get(value[field], -1):
            return [f"{what}: {value} came after number {last[value[field]]}"]
        last[value[field]] = value[number]
    return []


def differences(what: str, expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> list[str]:
    wrong = [key for key in sorted(expected.keys() | found.keys()) if expected.get(key) != found.get(key)]
    if not wrong:
        return []
    key = wrong[0]
    one, other = expected.get(key), found.get(key)
    if isinstance(one, list) and isinstance(other, list):
        one, other = next(
            (pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]), (one, other)
        )
    return [f"{what}: {len(wrong)} keys differ, such as {key}: expected {one}, found {other}"]


def flat(log: Log) -> list[Value]:
    return [value for values in log.values() for value in values]

"""What outputs of any flow must be like: each event once, keys in order, states the fold of their events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Value = dict[str, Any]
Values = Mapping[str, Sequence[Value]]


def fold(state: dict[str, int], event: Value) -> Value:
    """What stages with state do: the output tells what was processed before it."""
    before = state.get("last", -1)
    state["last"] = event["id"]
    state["count"] = state.get("count", 0) + 1
    state["sum"] = state.get("sum", 0) + event["id"]
    return {**event, "before": before, **state}


def flat(values: Values) -> Iterable[Value]:
    """The values of all keys."""
    return (value for found in values.values() for value in found)


def check_once(found: Iterable[Value], wanted: Sequence[Value], what: str) -> None:
    """These events and no others, each once."""
    ids = Counter(event["id"] for event in found)
    wrong = {
        "missing": [event for event in wanted if event["id"] not in ids],
        "twice": [id for id, count in ids.items() if count > 1],
        "too much": sorted(ids.keys() - {event["id"] for event in wanted}),
    }
    told = ", ".join(f"{len(some)} {how} ({some[:5]})" for how, some in wrong.items() if some)
    assert not told, f"{what}: {told}"


def check_order(found: Values, what: str) -> None:
    """Events that are of the same `key` come in its order, also where another key brought them together."""
    for group, events in found.items():
        last: Counter[str] = Counter()
        for event in events:
            assert event["n"] > last[event["key"]], (
                f"{what}, {group}: {event} after number {last[event['key']]}"
            )
            last[event["key"]] = event["n"]


def check_folds(found: Values, what: str) -> dict[str, Value]:
    """Each output is the fold of those before it.

    Returns:
        The state of each key after all of them.
    """
    states: dict[str, Value] = {}
    for group, events in found.items():
        state = states[group] = {}
        for place, event in enumerate(events, 1):
            wanted = fold(state, event)
            assert event == wanted, f"{what}, {group}, output {place}: {event}, wanted {wanted}"
    return states

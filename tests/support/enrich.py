"""Calls for the enrichment flow, and what it must make of them: the oracle."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from tests.support.kafka import Input

FATES = {
    "fails once": 0.01,
    "fails twice": 0.005,
    "fails": 0.002,
    "hangs once": 0.001,
    "hangs": 0.0003,
    "waits": 0.005,
    "is bad": 0.002,
}
"""What happens to so large a share of the events, in either stage."""
ENDS = ("fails", "hangs", "is bad")
ATTEMPTS = {"fails": "3", "hangs": "3", "is bad": "1"}

HOT = 0.05
"""Share of the events of one key, and of one group: more than it can keep up with, at times."""

Call = dict[str, Any]
Values = dict[str, list[Call]]


def calls(count: int, chance: random.Random, keys: int = 500, groups: int = 300) -> list[Input]:
    """Calls of all keys, mixed; those of one key are numbered, and belong to any group."""
    made: Counter[str] = Counter()
    fates = random.Random(chance.random()).choices(
        [*FATES, ""], [*FATES.values(), 1 - sum(FATES.values())], k=count
    )
    events: list[Input] = []
    for id, fate in enumerate(fates):
        key = _name("key", keys, chance)
        made[key] += 1
        call = {
            "id": id,
            "key": key,
            "n": made[key],
            "group": _name("group", groups, chance),
            "fate": fate,
        }
        events.append(Input(key, {**call, "at": chance.choice(("look_up", "tally"))}))
    return events


def _name(what: str, count: int, chance: random.Random) -> str:
    return f"{what}-hot" if chance.random() < HOT else f"{what}-{chance.randrange(count)}"


class Expected:
    """What must come out of all calls."""

    def __init__(self, events: Sequence[Input]) -> None:
        every: list[Call] = [event.value for event in events]
        self.dead = [call for call in every if call["fate"] in ENDS]
        lost = {call["id"] for call in self.dead if call["at"] == "look_up"}
        self.looked = [call for call in every if call["id"] not in lost]
        self.tallied = [call for call in every if call["fate"] not in ENDS]


def check_looked(found: Values, expected: Expected) -> None:
    """Everything of each key, in order."""
    wanted: Values = defaultdict(list)
    for call in expected.looked:
        wanted[call["key"]].append(call)
    _once((call for calls in found.values() for call in calls), expected.looked, "looked")
    for key, calls in found.items():
        numbers = [call["n"] for call in calls]
        assert calls == wanted[key], f"looked, {key}: {numbers}, in order: {numbers == sorted(numbers)}"


def check_tallied(found: Values, expected: Expected) -> dict[str, Call]:
    """Everything, each key's in order within its group, each output the fold of those before it.

    Returns:
        The state of each group after it.
    """
    _once((call for calls in found.values() for call in calls), expected.tallied, "tallied")
    states: dict[str, Call] = {}
    for group, calls in found.items():
        before, total = -1, 0
        last: Counter[str] = Counter()
        for place, call in enumerate(calls, 1):
            total += call["id"]
            state = {"last": call["id"], "count": place, "sum": total}
            seen = {name: call[name] for name in state}
            assert (call["before"], seen) == (before, state), f"tallied, {group}, output {place}: {call}"
            assert call["n"] > last[call["key"]], f"tallied, {group}: {call} after number {last[call['key']]}"
            before, last[call["key"]] = call["id"], call["n"]
            states[group] = state
    return states


def check_dead(found: Iterable[Call], expected: Expected) -> None:
    """Those that can never succeed, once each."""
    _once(found, expected.dead, "dead letters")


def _once(found: Iterable[Call], wanted: Sequence[Call], what: str) -> None:
    ids = Counter(call["id"] for call in found)
    wrong = {
        "missing": [call for call in wanted if call["id"] not in ids],
        "twice": [id for id, count in ids.items() if count > 1],
        "too much": sorted(ids.keys() - {call["id"] for call in wanted}),
    }
    told = ", ".join(f"{len(some)} {how} ({some[:5]})" for how, some in wrong.items() if some)
    assert not told, f"{what}: {told}"

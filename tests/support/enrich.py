"""Calls for the enrichment flow, and what it must make of them: the oracle."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.support.folds import check_folds, check_once, check_order, flat
from tests.support.kafka import Input, Output, grouped
from tests.support.kills import Seen

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


class Enrich:
    """What must come out of all calls."""

    source = "-calls"
    sinks = ("-looked", "-tallied")

    def __init__(self, events: Sequence[Input]) -> None:
        self.events = events
        every: list[Call] = [event.value for event in events]
        self._dead = [call for call in every if call["fate"] in ENDS]
        lost = {call["id"] for call in self._dead if call["at"] == "look_up"}
        self._looked = [call for call in every if call["id"] not in lost]
        self._tallied = [call for call in every if call["fate"] not in ENDS]

    def check(self, seen: Seen) -> None:
        """Everything once, each key in order (in its group, too), each output the fold of those before."""
        tallied = grouped(seen("-tallied", len(self._tallied)))
        self._check_dead(seen(".dead-letters", len(self._dead)))
        looked = grouped(seen("-looked", len(self._looked)))
        check_once(flat(looked), self._looked, "looked")
        check_once(flat(tallied), self._tallied, "tallied")
        wanted = grouped(Output(call["key"], call) for call in self._looked)
        for key, calls in looked.items():
            numbers = [call["n"] for call in calls]
            assert calls == wanted[key], f"looked, {key}: {numbers}, in order: {numbers == sorted(numbers)}"
        check_order(tallied, "tallied")
        states = check_folds(tallied, "tallied")
        changes = grouped(seen(".tally.changelog", 0))
        assert {group: found[-1] for group, found in changes.items()} == states

    def _check_dead(self, letters: Sequence[Output]) -> None:
        """Those that can never succeed, once each, with their stage's name and how often they were tried."""
        for letter in letters:
            call, cause = letter.value, letter.headers
            found = cause["reflow.error.stage"], cause["reflow.error.attempts"]
            wanted = call["at"], ATTEMPTS.get(call["fate"])
            assert found == wanted, f"dead letter {call}: {found}, {cause['reflow.error.traceback']}"
        check_once((letter.value for letter in letters), self._dead, "dead letters")

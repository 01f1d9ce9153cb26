"""Events for the flow that runs its stages in all ways, and what it must make of them: the oracle."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.support.folds import check_folds, check_once, check_order, flat
from tests.support.kafka import Input, Output, grouped
from tests.support.kills import Seen

Event = dict[str, Any]

ROWS = (("stamp", "look", "tally", "note"), ("digest", "meter", "trail"), ("pack",))
"""Stages that follow each other, from the source on."""
KEYS = {"look": "key", "pack": "key"}
"""The key of what comes out of a stage; of all others it is the group."""
STATES = ("tally", "note", "meter", "trail", "pack")

ANYWHERE = {"fails once": 20, "fails": 8, "is bad": 4}
SLOWLY = {"hangs once": 1, "hangs": 1}
IN_PROCESSES = {"ends its process once": 3, "ends its process": 1}
FATES = {
    stage: ANYWHERE
    | (SLOWLY if stage in ("look", "tally", "digest") else {})
    | (IN_PROCESSES if stage in ("tally", "digest") else {})
    for row in ROWS
    for stage in row
}
"""What happens to so many events, and where."""
ENDS = {"fails": "3", "is bad": "1", "hangs": "3", "ends its process": "3"}
"""What becomes dead letters, and after how many tries; in a batch, others may have used some of them."""
BATCHED = ("stamp", "pack")
HOT = 0.02
"""Share of the events of one key, and of one group."""


def trouble(count: int, chance: random.Random, keys: int = 400, groups: int = 200) -> list[Input]:
    """Events of all keys, mixed; those of one key are numbered, and belong to any group."""
    fates = [
        (stage, fate) for stage, some in FATES.items() for fate, number in some.items() for _ in range(number)
    ]
    # The last of them come well before the end, so that those who hang are not waited for alone.
    unlucky = dict(zip(chance.sample(range(int(count * 0.9)), len(fates)), fates, strict=True))
    made: Counter[str] = Counter()
    events: list[Input] = []
    for id in range(count):
        key = _name("key", keys, chance)
        made[key] += 1
        at, fate = unlucky.get(id, ("", ""))
        value = {"id": id, "key": key, "n": made[key], "group": _name("group", groups, chance)}
        events.append(Input(key, {**value, "at": at, "fate": fate}))
    return events


def _name(what: str, count: int, chance: random.Random) -> str:
    return f"{what}-hot" if chance.random() < HOT else f"{what}-{chance.randrange(count)}"


class Ways:
    """What must come out of all events."""

    source = "-events"
    sinks = tuple(f"-{stage}" for row in ROWS for stage in row if stage not in ("stamp", "digest"))

    def __init__(self, events: Sequence[Input]) -> None:
        self.events = events
        self._every: list[Event] = [event.value for event in events]
        self._dead = [event for event in self._every if event["fate"] in ENDS]

    def check(self, seen: Seen) -> None:
        """From every stage what passed it, once and in order, with its state; dead letters of the rest."""
        ends = {row[-1]: seen(f"-{row[-1]}", len(self._passed(row))) for row in ROWS}
        self._check_dead(seen(".dead-letters", len(self._dead)))
        for row in ROWS:
            for place, stage in enumerate(row, 1):
                if f"-{stage}" in self.sinks:
                    passed = self._passed(row[:place])
                    outputs = ends.get(stage) or seen(f"-{stage}", len(passed))
                    self._check_stage(stage, outputs, passed, seen)

    def _passed(self, stages: Sequence[str]) -> list[Event]:
        """What comes out of the last of these stages."""
        return [event for event in self._every if not (event["fate"] in ENDS and event["at"] in stages)]

    def _check_stage(self, stage: str, outputs: list[Output], passed: Sequence[Event], seen: Seen) -> None:
        field = KEYS.get(stage, "group")
        strange = [output for output in outputs if output.key != output.value[field]]
        assert not strange, f"{stage}: keys that are not the event's {field}: {strange[:3]}"
        found = grouped(outputs)
        check_once(flat(found), passed, stage)
        check_order(found, stage)
        self._check_values(stage, flat(found))
        if stage in STATES:
            states = check_folds(found, stage)
            changes = grouped(seen(f".{stage}.changelog", 0))
            assert {key: values[-1] for key, values in changes.items()} == states, f"state of {stage}"

    def _check_values(self, stage: str, found: Any) -> None:
        for event in found:
            wanted = dict(self._every[event["id"]])
            if stage in ROWS[0]:
                wanted["stamp"] = event["id"] * 3
            elif stage in ROWS[1]:
                wanted["digest"] = hashlib.sha256(str(event["id"]).encode()).hexdigest()
            known = {name: event.get(name) for name in wanted}
            assert known == wanted, f"{stage}: {event}, wanted {wanted}"

    def _check_dead(self, letters: Sequence[Output]) -> None:
        """Those that can never succeed, once each, with their stage's name and how often they were tried."""
        for letter in letters:
            event, cause = letter.value, letter.headers
            found = cause["reflow.error.stage"], cause["reflow.error.attempts"]
            wanted = [(event["at"], ENDS.get(event["fate"]))]
            if event["at"] in BATCHED and event["fate"] == "is bad":
                wanted = [(event["at"], tries) for tries in ("1", "2", "3")]
            assert found in wanted, f"dead letter {event}: {found}, {cause['reflow.error.traceback']}"
        check_once((letter.value for letter in letters), self._dead, "dead letters")

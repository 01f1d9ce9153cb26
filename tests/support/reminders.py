"""Notes for the flow of reminders, and what it must make of them: the oracle."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tests.support.folds import check_once
from tests.support.kafka import Input, Output, grouped
from tests.support.kills import Seen

FAR = 3600.0
"""Seconds after which nobody looks any more."""


def notes(count: int, chance: random.Random, keys: int = 200) -> list[Input]:
    """Notes of all keys, mixed; one in ten is for a far time, and half of these are taken back later."""
    far: dict[str, list[int]] = defaultdict(list)
    events: list[Input] = []
    for id in range(count):
        key = f"key-{chance.randrange(keys)}"
        cancels = far[key].pop() if far[key] and chance.random() < 0.05 else None
        delay = FAR if chance.random() < 0.1 else chance.choice((0.0, chance.random() * 3))
        if delay == FAR:
            far[key].append(id)
        events.append(Input(key, {"id": id, "delay": delay, "cancels": cancels}))
    return events


class Reminders:
    """What must come out of all notes."""

    source = "-notes"
    sinks = ("-taken", "-reminded")

    def __init__(self, events: Sequence[Input]) -> None:
        self.events = events
        self._due = [{"id": event.value["id"]} for event in events if event.value["delay"] < FAR]
        far: dict[str, set[int]] = defaultdict(set)
        self._taken: dict[str, list[Any]] = defaultdict(list)
        for event in events:
            note, taken = event.value, self._taken[event.key]
            if note["delay"] == FAR:
                far[event.key].add(note["id"])
            far[event.key].discard(note["cancels"])
            total = taken[-1]["sum"] if taken else 0
            found = {"id": note["id"], "n": len(taken) + 1, "sum": total + note["id"]}
            taken.append({**found, "far": len(far[event.key])})

    def check(self, seen: Seen) -> None:
        """Each note taken in order, each timer fired once, and of each key one after the other."""
        reminded = seen("-reminded", len(self._due))
        assert [letter.value for letter in seen(".dead-letters", 0)] == []
        check_once(({"id": found.value["id"]} for found in reminded), self._due, "reminded")
        assert grouped(seen("-taken", len(self.events))) == self._taken
        for key, found in grouped(reminded).items():
            assert [value["reminded"] for value in found] == list(range(1, len(found) + 1)), key
        self._check_order(reminded)

    def _check_order(self, reminded: Sequence[Output]) -> None:
        """Timers without a delay fire in the order in which they were set: by their names if at once."""
        soon = {event.value["id"] for event in self.events if event.value["delay"] == 0}
        for key, found in grouped(reminded).items():
            ids = [value["id"] for value in found if value["id"] in soon]
            assert ids == sorted(ids), f"{key}: {ids}"

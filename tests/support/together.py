"""Orders for a flow that brings together what it has split, and what must come of them: the oracle."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tests.support.folds import check_once
from tests.support.kafka import Input, grouped
from tests.support.kills import Seen

BEGIN = 1_700_000_000_000
SECOND = 1000
LATER = 7200 * SECOND
"""Long enough for all that waits to be given up."""


def orders(count: int, chance: random.Random, customers: int = 200) -> list[Input]:
    """Orders of all customers, whose numbers and times go up; the last of each comes long after these."""
    made: Counter[str] = Counter()
    names = [f"customer-{chance.randrange(customers)}" for _ in range(count - customers)]
    names += [f"customer-{number}" for number in range(customers)]
    events = []
    for id, name in enumerate(names):
        made[name] += 1
        items = ["x" * chance.randrange(1, 20) for _ in range(chance.randrange(1, 6))]
        if chance.random() < 0.01:
            items[chance.randrange(len(items))] = "bad"
        at = BEGIN + (id if id < count - customers else count + LATER)
        events.append(Input(name, {"id": id, "n": made[name], "items": items, "at": at}, at))
    return events


class Together:
    """What must come out of all orders; at the end of a run also what was left."""

    source = "-orders"
    sinks = ("-totals", "-incomplete", "-pairs", "-spent", "-busy", "-last", "-odd")

    def __init__(self, events: Sequence[Input], *, ends: bool) -> None:
        self.events = events
        self._ends = ends
        self._bad = [e.value for e in events if "bad" in e.value["items"]]
        self._customers: dict[str, list[Any]] = defaultdict(list)
        for event in events:
            self._customers[event.key].append(event.value)

    def check(self, seen: Seen) -> None:
        """Each set, pair, update and window once, those of a key in order; nothing late."""
        self._check_sets(seen)
        pairs = seen("-pairs", len(self.events))
        assert grouped(pairs) == {
            key: [[n, n * 10] for n in range(1, len(found) + 1)] for key, found in self._customers.items()
        }
        assert grouped(seen("-spent", len(self.events))) == {
            key: [
                {"key": key, "orders": n, "sum": sum(each["id"] for each in found[:n])}
                for n in range(1, len(found) + 1)
            ]
            for key, found in self._customers.items()
        }
        assert grouped(seen("-last", len(self.events))) == self._customers
        self._check_windows(seen)
        assert [found.value for found in seen("-odd", 0)] == []

    def _check_sets(self, seen: Seen) -> None:
        bad = {order["id"] for order in self._bad}
        fine = [e.value for e in self.events if e.value["id"] not in bad]
        wanted = [
            {
                "id": order["id"],
                "parts": list(range(len(order["items"]))),
                "total": sum(map(len, order["items"])),
            }
            for order in fine
        ]
        totals = seen("-totals", len(wanted))
        check_same([{"id": int(found.key), **found.value} for found in totals], wanted, "totals")
        rest = [{"id": o["id"], "items": sorted(i for i in o["items"] if i != "bad")} for o in self._bad]
        passed = {o["id"] for o in self._bad if self._ends or o["at"] < BEGIN + LATER}
        rest = [order for order in rest if order["items"] and order["id"] in passed]
        incomplete = seen("-incomplete", len(rest))
        found = [{"id": int(f.key), "items": sorted(p["item"] for p in f.value)} for f in incomplete]
        check_same(found, rest, "incomplete")
        letters = [{"id": letter.value["order"]} for letter in seen(".dead-letters", len(self._bad))]
        check_same(letters, [{"id": id} for id in bad], "letters")

    def _check_windows(self, seen: Seen) -> None:
        windows: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for key, found in self._customers.items():
            for order in found if self._ends else found[:-1]:
                windows[key][order["at"] // SECOND * SECOND].append(order["n"])
        wanted = {
            key: [{"key": key, "start": start, "end": start + SECOND, "all": found[start]} for start in found]
            for key, found in windows.items()
        }
        assert grouped(seen("-busy", sum(map(len, wanted.values())))) == wanted


def check_same(found: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
    """These and no others, each once and as it must be."""
    check_once(found, wanted, what)
    expected = {each["id"]: each for each in wanted}
    assert [each for each in found if each != expected[each["id"]]] == [], what

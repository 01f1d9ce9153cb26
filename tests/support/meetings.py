"""Events for a flow of joins, and what must come of them: the oracle."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tests.support.kafka import Input, Output, grouped
from tests.support.kills import Seen

BEGIN = 1_700_000_000_000
BEFORE, AFTER = 100, 200
FAR = 60_000
KEYS = {"show": 100, "click": 100, "order": 50, "price": 20, "person": 40, "phone": 40, "town": 10}
"""How many keys there are of each kind; phones have those of people."""
OF_ONE_KEY = {"click": "show", "phone": "person"}


def meetings(count: int, chance: random.Random) -> list[Input]:
    """Events of all kinds, a millisecond apart; at the end time goes on in every partition."""
    kinds = chance.choices(list(KEYS), weights=[30, 30, 20, 5, 7, 5, 3], k=count)
    events = [_event(id, kind, chance) for id, kind in enumerate(kinds)]
    end = BEGIN + count + FAR
    return events + [Input(f"end-{n}", {"kind": "end", "at": end}, end) for n in range(100)]


def _event(id: int, kind: str, chance: random.Random) -> Input:
    key = f"{OF_ONE_KEY.get(kind, kind)}-{chance.randrange(KEYS[kind])}"
    value: dict[str, Any] = {"kind": kind, "id": id, "at": BEGIN + id}
    if kind == "order":
        value["item"] = f"price-{chance.randrange(KEYS['price'])}"
    if kind == "person":
        value["town"] = chance.choice([None, *(f"town-{n}" for n in range(KEYS["town"]))])
    if kind in ("price", "person", "phone", "town") and chance.random() < 0.2:
        value["gone"] = True
    return Input(key, value, value["at"])


class Meetings:
    """What must come out of all events."""

    source = "-events"
    sinks = ("-seen", "-bills", "-addresses", "-odd")

    def __init__(self, events: Sequence[Input]) -> None:
        self.events = events
        self._of: dict[str, list[Input]] = defaultdict(list)
        for event in events:
            self._of[event.value["kind"]].append(event)

    def check(self, seen: Seen) -> None:
        """Each pair once, each row as of its time, and tables that end as they must; nothing late."""
        self._check_same(seen, "-seen", self._pairs())
        self._check_same(seen, "-bills", self._bills())
        self._check_addresses(seen)
        assert [found.value for found in seen("-odd", 0)] == []
        assert [found.value for found in seen(".dead-letters", 0)] == []

    @staticmethod
    def _check_same(seen: Seen, topic: str, wanted: list[tuple[str, Any, Any]]) -> None:
        found = Counter((out.key, *out.value) for out in seen(topic, len(wanted)))
        expected = Counter(wanted)
        assert {"missing": expected - found, "too much": found - expected} == {
            "missing": Counter(),
            "too much": Counter(),
        }, topic

    def _pairs(self) -> list[tuple[str, Any, Any]]:
        by_key: dict[str, list[list[Any]]] = defaultdict(lambda: [[], []])
        for side, kind in enumerate(("show", "click")):
            for event in self._of[kind]:
                by_key[event.key][side].append(event.value)
        pairs: list[tuple[str, Any, Any]] = []
        for key, (shows, clicks) in by_key.items():
            met = [
                (key, show["id"], click["id"])
                for show in shows
                for click in clicks
                if show["at"] - BEFORE <= click["at"] <= show["at"] + AFTER
            ]
            pairs += met
            pairs += [(key, show["id"], None) for show in shows if show["id"] not in {m[1] for m in met}]
            pairs += [(key, None, click["id"]) for click in clicks if click["id"] not in {m[2] for m in met}]
        return pairs

    def _bills(self) -> list[tuple[str, Any, Any]]:
        times: dict[str, list[int]] = defaultdict(list)
        rows: dict[str, list[Any]] = defaultdict(list)
        for event in self._of["price"]:
            times[event.key].append(event.value["at"])
            rows[event.key].append(None if event.value.get("gone") else event.value["id"])
        bills: list[tuple[str, Any, Any]] = []
        for event in self._of["order"]:
            item = event.value["item"]
            place = bisect_right(times[item], event.value["at"])
            bills.append((item, event.value["id"], rows[item][place - 1] if place else None))
        return bills

    def _check_addresses(self, seen: Seen) -> None:
        """How often a result changes depends on what comes first; how it ends does not."""
        tables = {kind: self._last(kind) for kind in ("person", "phone", "town")}
        wanted = {}
        for key, person in tables["person"].items():
            town = tables["town"].get(person["town"])
            if town is not None:
                phone = tables["phone"].get(key)
                wanted[key] = [person["id"], phone and phone["id"], town["id"]]
        outputs = seen("-addresses", len(wanted))
        while self._ends(outputs) != wanted:  # there is no telling how many come
            before, outputs = outputs, seen("-addresses", len(outputs) + 1)
            assert len(outputs) > len(before), f"it ends with {self._ends(outputs)}, wanted {wanted}"
        found = grouped(outputs)
        for key, values in found.items():
            assert values[0] is not None, f"{key} begins with a tombstone"
            twice = [at for at in range(1, len(values)) if values[at] is values[at - 1] is None]
            assert twice == [], f"{key} has tombstones behind tombstones: {values}"

    @staticmethod
    def _ends(outputs: Sequence[Output]) -> dict[str, Any]:
        """The table that results make up."""
        rows = {out.key: out.value for out in outputs}
        return {key: row for key, row in rows.items() if row is not None}

    def _last(self, kind: str) -> dict[str, Any]:
        rows = {event.key: event.value for event in self._of[kind]}
        return {key: row for key, row in rows.items() if not row.get("gone")}

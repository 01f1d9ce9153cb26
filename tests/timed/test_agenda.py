"""An agenda is a sorted list of entries whose changes come in steps, of which it knows the next few."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.shelf import Shelf, as_is
from reflow_kafka.state.store import LaneStores, StoreMark
from reflow_kafka.timed import agenda as module
from reflow_kafka.timed.agenda import Agenda
from reflow_kafka.timed.program import LONG_AGO, NEVER

TIMES = st.one_of(st.integers(-20, 20), st.sampled_from([LONG_AGO, NEVER]))
WHATS = st.sampled_from([b"", b"\x00", b"a", b"ab", b"\xff"])


def shelf_of(stores: LaneStores) -> Shelf[bytes]:
    return Shelf(stores, "store", b"x", as_is, as_is)


class OneAgenda(RuleBasedStateMachine):
    """Against sets: what a step has made of it, what was accepted, what was stored."""

    def __init__(self) -> None:
        super().__init__()
        self.monkeypatch = pytest.MonkeyPatch()
        self.monkeypatch.setattr(module, "AHEAD", 3)
        self.stores = MemoryBackend().open("flow", 0, ["store"])
        self.accepted: set[tuple[int, bytes]] = set()
        self.stored: set[tuple[int, bytes]] = set()
        self.open()

    def teardown(self) -> None:
        self.monkeypatch.undo()

    def open(self) -> None:
        self.shelf = shelf_of(self.stores)
        self.agenda = Agenda(self.shelf, b"k")
        self.other = Agenda(self.shelf, b"j")

    @rule(
        added=st.sets(st.tuples(TIMES, WHATS), max_size=8),
        removed=st.sets(st.tuples(TIMES, WHATS), max_size=8),
        accepted=st.booleans(),
    )
    def step(self, added: set[tuple[int, bytes]], removed: set[tuple[int, bytes]], accepted: bool) -> None:
        for entry in removed:
            self.agenda.remove(*entry)
        for entry in added:
            self.agenda.add(*entry)
        if accepted:
            self.shelf.encode()
            self.shelf.accept()
            self.accepted = (self.accepted - removed) | added
        else:
            self.shelf.drop()

    @rule(until=TIMES)
    def do_the_first(self, until: int) -> None:
        first = self.agenda.first(until)
        wanted = min((entry for entry in self.accepted if entry[0] <= until), default=None)
        assert (None if first is None else self.agenda.read(first)) == wanted
        if wanted is not None:
            self.step(set(), {wanted}, True)

    @rule()
    def commit(self) -> None:
        changes = self.shelf.snapshot()
        self.stores.write({"store": changes.items()}, StoreMark("one", {"store": 1}, 0))
        self.shelf.settled()
        self.stored = set(self.accepted)

    @rule()
    def rewind(self) -> None:
        self.shelf.rewind()
        self.agenda.rewound()
        self.accepted = set(self.stored)

    @rule()
    def restart(self) -> None:
        self.open()
        self.accepted = set(self.stored)

    @rule(until=TIMES, skipped=st.sets(WHATS))
    def holds_what_it_should(self, until: int, skipped: set[bytes]) -> None:
        found = [self.agenda.read(key) for key in self.agenda.entries(until)]
        assert found == sorted(entry for entry in self.accepted if entry[0] <= until)
        first = self.agenda.first(until, lambda key: self.agenda.read(key)[1] in skipped)
        wanted = [entry for entry in found if entry[1] not in skipped]
        assert (None if first is None else self.agenda.read(first)) == next(iter(wanted), None)

    @rule()
    def knows_the_last(self) -> None:
        assert self.agenda.latest() == max((at for at, _ in self.accepted), default=None)
        assert self.other.latest() is None

    @invariant()
    def the_other_is_empty(self) -> None:
        assert self.other.first() is None


TestOneAgenda = OneAgenda.TestCase


class CountedStores:
    """Counts how often the store is searched."""

    def __init__(self, stores: LaneStores) -> None:
        self._stores = stores
        self.searches = 0

    def __getattr__(self, name: str) -> object:
        self.searches += name == "range"
        return getattr(self._stores, name)


def test_nothing_due_costs_no_search() -> None:
    stores = CountedStores(MemoryBackend().open("flow", 0, ["store"]))
    shelf = shelf_of(stores)  # type: ignore[arg-type]
    agenda = Agenda(shelf)
    for _ in range(10):
        assert agenda.first(5) is None
    agenda.add(7, b"a")
    shelf.encode()
    shelf.accept()
    for _ in range(10):
        assert agenda.first(5) is None
    assert stores.searches == 1


def test_many_entries_cost_a_search_for_each_page() -> None:
    stores = CountedStores(MemoryBackend().open("flow", 0, ["store"]))
    shelf = shelf_of(stores)  # type: ignore[arg-type]
    agenda = Agenda(shelf)
    for at in range(10 * module.AHEAD):
        agenda.add(at, b"a")
    shelf.encode()
    shelf.accept()
    for at in range(10 * module.AHEAD):
        first = agenda.first(NEVER)
        assert first is not None
        assert agenda.read(first) == (at, b"a")
        agenda.remove(at, b"a")
        shelf.encode()
        shelf.accept()
    assert agenda.first() is None
    assert stores.searches <= 11

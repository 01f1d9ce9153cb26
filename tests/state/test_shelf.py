"""A shelf is a sorted dictionary whose changes come in steps, and go to the store by commits."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.shelf import Shelf, Shelves
from reflow_kafka.state.store import StoreMark

KEYS = st.sampled_from([b"", b"a", b"a\x00", b"ab", b"b", b"\xff", b"\xff\xff"])


def encode(value: list[int]) -> bytes:
    return bytes(value)


def decode(raw: bytes) -> list[int]:
    return list(raw)


class OneShelf(RuleBasedStateMachine):
    """Against dictionaries: what the step sees, what was accepted, what the last snapshot held."""

    def __init__(self) -> None:
        super().__init__()
        self.backend = MemoryBackend()
        self.stores = self.backend.open("flow", 0, ["store"])
        self.step: dict[bytes, list[int]] = {}
        self.accepted: dict[bytes, list[int]] = {}
        self.shared: dict[bytes, list[int]] = {}
        self.changes: dict[str, dict[bytes, bytes | None]] = {}
        self.pending = False
        self.changed = False
        self.open()

    def open(self) -> None:
        self.shelf = Shelf(self.stores, "store", b"\xff", encode, decode, limit=4)
        self.other = Shelf(self.stores, "store", b"\xfe", encode, decode)
        self.shelves = Shelves([self.shelf, self.other])

    @rule(key=KEYS, value=st.integers(0, 255))
    def put(self, key: bytes, value: int) -> None:
        self.shelf.put(key, [value])
        self.step[key] = [value]
        self.changed = True

    @rule(key=KEYS, value=st.integers(0, 255))
    def change_in_place(self, key: bytes, value: int) -> None:
        found = self.shelf.get(key)
        if found is not None:
            found.append(value)
            self.shelf.put(key, found)
            self.step[key] = [*self.step[key], value]
            self.changed = True

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        self.shelf.delete(key)
        self.step.pop(key, None)
        self.changed = True

    @rule()
    def accept(self) -> None:
        self.shelves.encode()
        self.shelves.accept()
        self.accepted = {key: list(value) for key, value in self.step.items()}
        self.changed = False

    @rule()
    def drop(self) -> None:
        self.shelves.drop()
        self.step = {key: list(value) for key, value in self.accepted.items()}
        self.changed = False

    @rule(key=KEYS)
    def fail_half_way(self, key: bytes) -> None:
        if self.changed:
            return
        if (found := self.shelf.get(key)) is not None:
            found.append(7)
        self.shelves.drop()

    @precondition(lambda self: not self.pending and not self.changed)
    @rule()
    def snapshot(self) -> None:
        self.changes = self.shelves.snapshot()
        self.shared = {key: list(value) for key, value in self.accepted.items()}
        self.pending = True

    @precondition(lambda self: self.pending)
    @rule()
    def settle(self) -> None:
        self.stores.write(
            {store: changed.items() for store, changed in self.changes.items()},
            StoreMark("one", {"store": 1}, 0),
        )
        self.shelves.settled()
        self.pending = False

    @rule()
    def rewind(self) -> None:
        self.shelves.rewind()
        self.accepted = {key: list(value) for key, value in self.shared.items()}
        self.step = {key: list(value) for key, value in self.shared.items()}
        self.changed = False

    @precondition(lambda self: not self.pending)
    @rule()
    def restart(self) -> None:
        self.open()
        self.accepted = {key: list(value) for key, value in self.shared.items()}
        self.step = {key: list(value) for key, value in self.shared.items()}
        self.changed = False

    @invariant()
    def holds_what_it_should(self) -> None:
        assert list(self.shelf.items()) == sorted(self.step.items())
        assert list(self.shelf.keys(b"a", b"b")) == sorted(k for k in self.step if b"a" <= k < b"b")
        assert [k for k, _ in self.shelf.under(b"\xff")] == sorted(k for k in self.step if k[:1] == b"\xff")
        assert self.shelf.first() == min(self.step, default=None)
        assert self.other.first() is None


TestOneShelf = OneShelf.TestCase


def test_a_value_that_cannot_be_encoded_leaves_no_trace() -> None:
    stores = MemoryBackend().open("flow", 0, ["store"])
    shelf = Shelf(stores, "store", b"", encode, decode)
    shelves = Shelves([shelf])
    shelf.put(b"good", [1])
    shelf.put(b"bad", [256])
    with pytest.raises(ValueError, match="range"):
        shelves.encode()
    shelves.drop()
    assert shelves.snapshot() == {"store": {}}
    assert list(shelf.keys()) == []

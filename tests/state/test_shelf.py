"""A shelf is a sorted dictionary whose changes come in steps, and go to the store by commits."""

from __future__ import annotations

import struct
import weakref
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reflow_kafka.state.cache import UnreadableState
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
        self.shelf = Shelf(self.stores, "store", b"\xff", encode, decode, limit=4, room=1_000)
        self.other = Shelf(self.stores, "store", b"\xfe", encode, decode)
        self.shelves = Shelves([self.shelf, self.other])

    @rule(key=KEYS, value=st.integers(0, 255), size=st.sampled_from([1, 300, 600]))
    def put(self, key: bytes, value: int, size: int) -> None:
        self.shelf.put(key, [value] * size)
        self.step[key] = [value] * size
        self.changed = True

    @precondition(lambda self: not self.changed)
    @rule(key=KEYS, value=st.integers(0, 255), size=st.sampled_from([1, 300]))
    def replace(self, key: bytes, value: int, size: int) -> None:
        found = self.shelf.at_hand(key)
        if found is not None:
            found[:] = [value] * size
            self.shelf.replace(key, found)
            self.step[key] = [value] * size
            self.accepted[key] = [value] * size

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


class Value(list[int]):
    """What lives as long as somebody holds it."""


@pytest.mark.parametrize("changes", [False, True])
def test_of_large_values_few_are_kept_at_hand(changes: bool) -> None:
    held: weakref.WeakSet[Value] = weakref.WeakSet()

    class Hashable(Value):
        __hash__ = object.__hash__

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            held.add(self)

    stores = MemoryBackend().open("flow", 0, ["store"])
    shelf = Shelf(stores, "store", b"", encode, Hashable, room=100_000)
    shelves = Shelves([shelf])
    keys = [b"%d" % n for n in range(100)]
    for _ in range(3):
        for key in keys:
            value = shelf.get(key)
            if value is None or changes:
                shelf.put(key, Hashable([1] * 10_000))
            del value
            shelves.encode()
            shelves.accept()
            assert len(held) <= 12
    assert [len(shelf.get(key) or ()) for key in keys] == [10_000] * 100


def test_small_values_are_only_counted() -> None:
    stores = MemoryBackend().open("flow", 0, ["store"])
    shelf = Shelf(stores, "store", b"", encode, decode, room=1_000)
    for n in range(100):
        shelf.put(b"%d" % n, [1] * 200)
    shelf.encode()
    shelf.accept()
    assert all(shelf.at_hand(b"%d" % n) for n in range(100))


def test_what_has_changed_is_weighed_but_for_what_is_small() -> None:
    stores = MemoryBackend().open("flow", 0, ["store"])
    shelves = Shelves([shelf := Shelf(stores, "store", b"", encode, decode)])
    for key, size in [(b"a", 1_000), (b"b", 10), (b"a", 3_000)]:
        shelf.put(key, [1] * size)
        shelves.encode()
        shelves.accept()
    assert shelves.weight == 3_000
    value = shelf.at_hand(b"a")
    assert value is not None
    shelf.replace(b"a", [*value, 1])
    assert shelves.weight == 3_001
    shelves.snapshot()
    assert shelves.weight == 0


@pytest.mark.parametrize("error", [ValueError, struct.error, IndexError])
def test_what_cannot_be_read_is_told_with_its_store_and_key(error: type[Exception]) -> None:
    def unable(raw: bytes) -> list[int]:
        raise error("not this")

    stores = MemoryBackend().open("flow", 0, ["store"])
    stores.write({"store": [(b"\xffkey", b"1")]}, StoreMark("incarnation", {"store": 1}, 0))
    shelf = Shelf(stores, "store", b"\xff", encode, unable)
    with pytest.raises(UnreadableState, match=r"store 'store' holds at b'\\xffkey' cannot be read: not this"):
        shelf.get(b"key")
    assert "store 'store' holds nothing at b'\\xffother'" in str(shelf.missing(b"other"))

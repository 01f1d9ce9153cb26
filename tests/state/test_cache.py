"""The cache of decoded state, against plain dictionaries that are copied whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reflow_kafka import State
from reflow_kafka.state.cache import StateCache
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.store import StoreMark

BAD = object()
keys = st.sampled_from([bytes([n]) for n in range(6)])
Model = dict[bytes, list[int]]


def new_cache(*, boxed: bool = False, limit: int = 20_000, factory: Callable[[], Any] = list) -> StateCache:
    stores = MemoryBackend().open("f", 0, ["s"])
    return StateCache(
        "s", stores, encode=orjson.dumps, decode=orjson.loads, factory=factory, boxed=boxed, limit=limit
    )


class Machine(RuleBasedStateMachine):
    """A worker and its commits: events that succeed or fail, fast or careful, going back, forgetting."""

    @initialize(limit=st.sampled_from([1, 4, 100]), boxed=st.booleans())
    def start(self, limit: int, boxed: bool) -> None:
        self.boxed = boxed
        self.cache = new_cache(boxed=boxed, limit=limit, factory=tuple if boxed else list)
        self.careful = False
        self.now: Model = {}
        self.shared: Model = {}
        self.poisoned = False
        self.pending: dict[bytes, bytes | None] | None = None
        self.count = 0

    def change(self, key: bytes, what: Any) -> Any:
        """What a handler does to the state of a key."""
        state = self.cache.objects.get(key)
        if state is None:
            state = self.cache.load(key)
        if self.boxed:
            assert list(state.value) == self.now.get(key, []) or self.poisoned
            state.value = (*state.value, what)
        else:
            assert state == self.now.get(key, []) or self.poisoned
            state.append(what)
        return state

    def go_back(self) -> None:
        self.cache.rewind()
        self.now = copy.deepcopy(self.shared)
        self.careful, self.poisoned = True, False

    def fail(self, key: bytes) -> None:
        if not self.cache.undo(key):
            assert not self.careful
            self.go_back()

    @rule(key=keys)
    def event(self, key: bytes) -> None:
        self.count += 1
        state = self.change(key, self.count)
        if self.careful:
            self.cache.keep(key, state)
        else:
            self.cache.dirty[key] = state
        self.now.setdefault(key, []).append(self.count)

    @rule(key=keys)
    def event_that_fails(self, key: bytes) -> None:
        self.change(key, -1)
        self.fail(key)

    @rule(key=keys)
    def event_whose_state_cannot_be_encoded(self, key: bytes) -> None:
        state = self.change(key, BAD)
        if self.careful:
            with pytest.raises(TypeError):
                self.cache.keep(key, state)
            self.fail(key)
        else:
            self.cache.dirty[key] = state
            self.poisoned = True

    @rule(key=keys)
    def event_that_clears_its_state(self, key: bytes) -> None:
        state = self.change(key, -2)
        if self.careful:
            self.cache.keep(key, state) if not self.poisoned else None
        else:
            self.cache.dirty[key] = state
        if self.boxed:
            state.clear()
        self.cache.forget(key, careful=self.careful)
        self.now.pop(key, None)

    @rule()
    def at_full_speed_again(self) -> None:
        self.careful = False

    @precondition(lambda self: self.pending is None)
    @rule()
    def commit_begins(self) -> None:
        try:
            changes = self.cache.snapshot()
        except TypeError:
            assert self.poisoned
            self.go_back()
            return
        self.poisoned = False  # what could not be encoded was forgotten since
        for key, raw in changes.items():
            assert (None if raw is None else orjson.loads(raw)) == self.now.get(key)
        unchanged = self.shared.keys() | self.now.keys()
        for key in unchanged - changes.keys():
            assert self.shared.get(key) == self.now.get(key)
        assert len(self.cache) == 0
        self.pending = changes
        self.shared = copy.deepcopy(self.now)

    @precondition(lambda self: self.pending is not None)
    @rule()
    def commit_is_in_the_store(self) -> None:
        assert self.pending is not None
        self.cache._stores.write({"s": self.pending.items()}, StoreMark("i", {"s": 1}, 0))
        self.pending = None
        self.cache.settled()

    @rule()
    def worker_goes_back(self) -> None:
        self.go_back()

    @invariant()
    def every_key_is_as_it_should_be(self) -> None:
        if self.poisoned:
            return
        for n in range(6):
            raw = self.cache.peek(bytes([n]))
            assert (None if raw is None else orjson.loads(raw)) == self.now.get(bytes([n]))

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.cache.objects) <= max(self.cache._generation, 1)
        assert len(self.cache._aged) <= max(self.cache._generation, 1)


Machine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCache = Machine.TestCase


def test_a_state_stays_decoded_between_events() -> None:
    cache = new_cache()
    state = cache.load(b"k")
    state.append(1)
    cache.dirty[b"k"] = state
    cache.snapshot()
    assert cache.objects[b"k"] is state
    cache.settled()
    assert cache.objects[b"k"] is state


def test_a_box_starts_from_the_factory_again_once_cleared() -> None:
    cache = new_cache(boxed=True, factory=lambda: 7)
    state = cache.load(b"k")
    assert isinstance(state, State)
    assert state.value == 7
    state.value = 8
    cache.dirty[b"k"] = state
    cache.snapshot()
    state.clear()
    cache.forget(b"k")
    assert cache.peek(b"k") is None
    assert cache.load(b"k").value == 7
    assert cache.snapshot() == {b"k": None}


def test_a_suspended_change_is_in_no_commit() -> None:
    cache = new_cache()
    state = cache.load(b"k")
    state.append("half")
    assert cache.snapshot() == {}
    cache.settled()
    state.append("whole")
    cache.keep(b"k", state)
    state.append("half of the next")
    assert cache.snapshot() == {b"k": b'["half","whole"]'}

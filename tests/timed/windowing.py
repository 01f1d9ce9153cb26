"""Programs of windows against plain models: any order of events, any steps of time, failures and restarts."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from reflow_kafka.serde.typed import edge_codec, state_codec
from reflow_kafka.state.shelf import Shelf, Shelves
from reflow_kafka.state.store import LaneStores
from reflow_kafka.timed.program import LONG_AGO, NEVER, Program
from reflow_kafka.timed.states import States
from reflow_kafka.timed.windowed import Stock
from reflow_kafka.value import State
from reflow_kafka.windows import Window
from tests.timed.driver import STORE, Driver, Make

LISTS = state_codec(list[int])


def listing() -> States:
    """States that hold what went into a window."""
    return States(list, boxed=False, encode=LISTS.encode, decode=LISTS.decode)


def collect(state: list[int], value: int) -> tuple[int, ...]:
    """A handler that tells what its window holds."""
    state.append(value)
    return tuple(state)


def tell(state: list[int], window: Window) -> tuple[Any, ...]:
    """An `on_close` that tells all; what it leaves in the state must not come back."""
    found = (window.key, window.start, window.end, tuple(state))
    state.append(-1)
    return found


def boxing(program: Any, kind: Any) -> Driver:
    """A driver of a program whose states are sums in boxes; one of zero is cleared."""
    codec = state_codec(int)
    boxes = States(int, boxed=True, encode=codec.encode, decode=codec.decode)

    def add(total: State[int], value: int) -> None:
        total.value += value
        if total.value == 0:
            total.clear()

    return Driver(
        making(program, kind, boxes), handler=add, on_close=lambda total, window: (window, total.value)
    )


def making(program: Any, kind: Any, states: States, **options: Any) -> Make:
    """How a driver makes a program of windows."""

    def make(stores: LaneStores, shelves: Shelves) -> Program:
        def shelf(prefix: bytes, encode: Any, decode: Any) -> Shelf[Any]:
            return shelves.add(Shelf(stores, STORE, prefix, encode, decode))

        made: Program = program(Stock(shelf, states, codecs=[edge_codec(Any)], **options), kind)
        return made

    return make


def driving(program: Any, kind: Any, **options: Any) -> Driver:
    """A driver of such a program, with the code above."""
    return Driver(making(program, kind, listing(), **options), handler=collect, on_close=tell)


@dataclass
class Held:
    """A window of a model."""

    key: str
    start: int
    end: int
    values: list[int] = field(default_factory=list)

    @property
    def told(self) -> tuple[Any, ...]:
        """What `tell` says of it."""
        return (self.key, self.start, self.end, tuple(self.values))


class Model(Protocol):
    """What windows are, in as few words as possible."""

    windows: list[Held]
    """Those that have not been told of."""

    def event(self, key: str, timestamp: int, value: int, watermark: int) -> list[tuple[int, ...]] | None:
        """The windows that tell an update; None if the event is late."""

    def closes(self, window: Held, watermark: int) -> bool:
        """Whether a window has closed."""


@dataclass
class _World:
    """All that a commit keeps and a rewind brings back."""

    model: Any
    out: list[Any] = field(default_factory=list)
    watermark: int = LONG_AGO
    held: int = LONG_AGO
    """What others may have been told: nothing older comes any more."""


KEYS = st.sampled_from(["", "a", "a\x00", "b"])
NEAR = st.integers(-20, 20)
"""How far from the watermark the time of an event is."""


class Windows(RuleBasedStateMachine):
    """One program, of the kind that a subclass tells."""

    program: ClassVar[Any]
    kinds: ClassVar[st.SearchStrategy[Any]]
    model: ClassVar[Any]
    in_short: ClassVar[bool] = False
    """Whether events take the short way, where there is one."""

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.kind = data.draw(self.kinds)
        self.driver = driving(type(self).program, self.kind)
        self.driver.in_short = self.in_short
        self.world = _World(type(self).model(self.kind))
        self.committed = copy.deepcopy(self.world)
        self.values = 0

    @rule(key=KEYS, near=NEAR, fail=st.none() | st.none() | st.integers(1, 4))
    def event(self, key: str, near: int, fail: int | None) -> None:
        timestamp = near + max(self.world.watermark, 0)
        self.values += 1
        found = self.driver.event(self.values, key=key.encode(), timestamp=timestamp, fail=fail)
        if found is None:
            return
        updates = self.world.model.event(key, timestamp, self.values, self.world.watermark)
        expected: list[Any] = [(self.values, "late")] if updates is None else [(u, None) for u in updates]
        assert [(out.value, out.to) for out in found] == expected
        assert updates is not None or found[0].timestamp == timestamp
        self.world.out += expected

    @rule(step=st.integers(-5, 15), fail=st.none() | st.none() | st.integers(1, 3))
    def advance(self, step: int, fail: int | None) -> None:
        before = self.world.watermark
        self.reach(step if before == LONG_AGO else before + max(step, 0), fail)

    @rule(step=st.integers(0, 15), most=st.integers(1, 3))
    def advance_piece_by_piece(self, step: int, most: int) -> None:
        """Events may come while there is still something due."""
        self.world.watermark = max(self.world.watermark, 0) + step
        self.closed(self.driver.advance(self.world.watermark, most=most), missing=None)

    def reach(self, watermark: int, fail: int | None = None) -> None:
        self.retry()
        self.world.watermark = watermark
        held = max(self.world.held, self.driver.program.holds(self.driver.watermark))
        self.world.held = held if self.driver.watermark < NEVER else self.world.held
        found = self.driver.advance(watermark, fail=fail)
        assert all(out.timestamp >= held for out in found), "older than what was told earlier"
        self.closed(found, missing=len(self.driver.put_off))

    def closed(self, found: list[Any], missing: int | None = 0) -> None:
        """Compare what was told with what there is to tell, but for so much that has failed.

        With `missing` None all of it may wait.
        """
        model = self.world.model
        ripe = [w for w in model.windows if model.closes(w, self.world.watermark)]
        ripe.sort(key=lambda window: (window.end, window.key))
        told = [out.value for out in found]
        done = [window for window in ripe if window.told in told]
        assert told == [window.told for window in done]
        assert missing is None or len(ripe) - len(done) == missing
        model.windows = [window for window in model.windows if all(window is not d for d in done)]
        self.world.out += [(value, None) for value in told]

    @rule()
    def retry(self) -> None:
        self.closed(self.driver.retry())

    @rule()
    def commit(self) -> None:
        self.driver.commit()
        self.committed = copy.deepcopy(self.world)

    @rule(same=st.booleans())
    def go_back(self, same: bool) -> None:
        """To the last commit, with the same program or another."""
        if same:
            self.driver.rewind()
        else:
            self.driver.restart()
        self.world = copy.deepcopy(self.committed)
        self.driver.watermark = self.world.watermark

    @precondition(lambda self: hasattr(self, "driver"))
    @rule()
    def end(self) -> None:
        """The end of a run closes everything and leaves nothing; another run may follow."""
        self.reach(NEVER)
        assert self.world.model.windows == []
        assert self.driver.stored() == {}
        self.begin_again()

    def begin_again(self) -> None:
        self.driver.restart()
        self.world = _World(type(self).model(self.kind))
        self.driver.watermark = LONG_AGO
        self.committed = copy.deepcopy(self.world)

    def teardown(self) -> None:
        if hasattr(self, "driver"):
            self.end()

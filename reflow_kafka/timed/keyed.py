"""A stage with a state for each key, or none, and timers, an end of its life, or stores beside it (pure).

States lie in the stage's store under their keys as they are, as those of a stage without all this do: so a
stage may get it, or lose it, and keep its states. Everything else begins with `OWN`, and a letter:

    t   timers by time          agenda, time, key, name → nothing          (`timed.timers`)
    T   timers by key           key, name → agenda, time
    n   named stores            name, key → value                          (`timed.stores`)
    x   what is over at a time  time, what → nothing                       (`timed.expiry`)
    l   when something is over  what → time
    s   states                  key → state, for keys that begin with `OWN` themselves

What can be over is a state, called ``s`` and its key, or an entry of a named store, called ``n``, name, key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from reflow_kafka.errors import UsageError
from reflow_kafka.state.ordered import read_text, text
from reflow_kafka.state.shelf import Shelf, as_is
from reflow_kafka.timed.expiry import Expiry
from reflow_kafka.timed.program import LONG_AGO, NEVER, Act, Call, Due, Incoming
from reflow_kafka.timed.states import States
from reflow_kafka.timed.stores import NamedStore, prefix_of
from reflow_kafka.timed.timers import Timers
from reflow_kafka.units import Clock, moment

OWN: Final = b"\xff\xfe\xff"
"""No text begins so."""

T = TypeVar("T")
MakeShelf = Callable[[bytes, Callable[[T], bytes], Callable[[bytes], T]], Shelf[T]]
"""Makes one of the stage's shelves: what its keys begin with, how values are encoded and decoded."""


def place_of(key: bytes) -> bytes:
    """Where the state of a key lies in the stage's store."""
    return OWN + b"s" + key if key.startswith(OWN) else key


def timers_at(key: bytes) -> bytes:
    """What the places of a key's timers begin with there, before their names; `read_timer` reads them."""
    return OWN + b"T" + text(key)


def store_at(name: str) -> bytes:
    """What the places of a named store's entries begin with there, before their keys."""
    return OWN + prefix_of(name)


@dataclass(frozen=True, slots=True)
class StoreKind:
    """What a named store holds."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    ttl: int | None = None
    """Milliseconds after which a key that was not put is forgotten."""


class Book:
    """What the user's code asks of time and stores while an event is handled, or a timer fires."""

    def __init__(self, timers: Timers | None, stores: Mapping[str, NamedStore]) -> None:
        self._timers = timers
        self._stores = stores
        self._key = b""
        self._timestamp = self._watermark = self._now = 0

    def turn_to(self, key: bytes, timestamp: int, watermark: int, now: int) -> None:
        """What is asked from now on, is asked for this key at this time."""
        self._key, self._timestamp, self._watermark, self._now = key, timestamp, watermark, now

    def timer(self, name: str, clock: Clock, at: int | None, delay: int) -> None:
        """Set a timer for a time, or so long after the event's own time, or the present one."""
        timers = self._kept()
        if at is None:
            at = min((self._now if clock == "wall-clock" else self._timestamp) + delay, NEVER - 1)
        timers.set(self._key, name, clock, at, self._watermark)

    def cancel_timer(self, name: str) -> None:
        """Forget a timer."""
        self._kept().cancel(self._key, name)

    def _kept(self) -> Timers:
        if self._timers is None:
            raise UsageError("this stage has no timers: say with on_timer= what is done when one fires")
        return self._timers

    def store(self, name: str) -> NamedStore:
        """A named store."""
        found = self._stores.get(name)
        if found is None:
            there = f"there is {', '.join(map(repr, self._stores))}" if self._stores else "it has none"
            raise UsageError(f'this stage has no store {name!r} ({there}): say stores={{"{name}": dict}}')
        return found


class Keyed:
    """The program of such a stage."""

    def __init__(
        self,
        shelf: MakeShelf[Any],
        *,
        states: States | None = None,
        ttl: int | None = None,
        timers: bool = False,
        stores: Mapping[str, StoreKind] | None = None,
    ) -> None:
        kinds = {} if stores is None else stores
        self._states = states
        self._shelf = None if states is None else shelf(b"", states.encode, states.decode)
        self._ttl = ttl
        self._timers = (
            Timers(shelf(OWN + b"t", as_is, as_is), shelf(OWN + b"T", as_is, as_is)) if timers else None
        )
        mortal = ttl is not None or any(kind.ttl is not None for kind in kinds.values())
        self._expiry = (
            Expiry(shelf(OWN + b"x", as_is, as_is), shelf(OWN + b"l", as_is, as_is), self._forget)
            if mortal
            else None
        )
        self._stores = {
            name: NamedStore(
                name,
                shelf(store_at(name), as_is, as_is),
                encode=kind.encode,
                decode=kind.decode,
                ttl=kind.ttl,
                expiry=self._expiry,
            )
            for name, kind in kinds.items()
        }
        self.book = Book(self._timers, self._stores)

    # ---- what is done

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """Call the handler, with the state of the event's key."""
        call = Call((incoming.value,), incoming.key, incoming.timestamp, incoming.headers)
        return self._called(call, watermark, now)

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        """The first timer whose time has come; then what is to be forgotten."""
        if self._timers is not None:
            if left := self._timers.left(watermark):
                return left
            found = self._timers.due(watermark, now, put_off)
            if found is not None:
                return found if isinstance(found, Due) else self._fires(found, self._timers, watermark, now)
        return None if self._expiry is None else self._expiry.due(now)

    def _fires(self, id: bytes, timers: Timers, watermark: int, now: int) -> Due:
        key, timer = timers.timer(id)
        at = timer.at
        if timer.clock == "wall-clock":
            at = watermark if LONG_AGO < watermark < NEVER else now

        def acts() -> Iterator[Act]:
            timers.remove(id)
            yield from self._called(Call((timer,), key, at, code="on_timer"), watermark, now)

        return Due(id, at, acts(), key)

    def _called(self, call: Call, watermark: int, now: int) -> Iterator[Act]:
        key = call.key
        assert key is not None  # whoever drives it sees to that
        self.book.turn_to(key, call.timestamp, watermark, now)
        if self._expiry is not None:
            self._expiry.now = now
        if self._states is None or self._shelf is None:
            yield call
            return
        state = self._state(key, self._states, self._shelf)
        call.arguments = (state, *call.arguments)
        yield call
        if not self._states.is_cleared(state, call):
            self._shelf.put(place_of(key), state)
            return
        self._shelf.delete(place_of(key))
        if self._expiry is not None:
            self._expiry.drop(b"s" + key)

    def _state(self, key: bytes, states: States, shelf: Shelf[Any]) -> Any:
        if self._ttl is not None and self._expiry is not None:
            over = self._expiry.over(b"s" + key)
            self._expiry.touch(b"s" + key, self._ttl)
            if over:
                return states.new()
        found = shelf.get(place_of(key))
        return states.new() if found is None else found

    def _forget(self, what: bytes) -> None:
        """Forget what is over."""
        if what[:1] == b"s":
            if self._shelf is not None:
                self._shelf.delete(place_of(what[1:]))
            return
        store = self._stores.get(read_text(what, 1)[0].decode())
        if store is not None:  # else an earlier version of the flow had it
            store.expired(what)

    # ---- what is asked of a program

    def wake(self, now: int) -> int | None:
        """When the next timer of the wall clock is due, or something is over."""
        times = (part.wake() for part in (self._timers, self._expiry) if part is not None)
        return min((at for at in times if at is not None), default=None)

    def tell(self, id: bytes) -> str:
        """Which timer."""
        assert self._timers is not None
        _, timer = self._timers.timer(id)
        return f"timer {timer.name!r} for {moment(timer.at)}"

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """Forget a timer that cannot be done."""
        assert self._timers is not None
        key, timer = self._timers.timer(id)
        self._timers.remove(id)
        told = timer.name.encode("utf-8", "backslashreplace").decode()  # JSON takes nothing but UTF-8
        return key, replace(timer, name=told)

    def holds(self, watermark: int) -> int:
        """Timers emit with their own time."""
        return watermark if self._timers is None else self._timers.oldest(watermark)

    def pending(self) -> bool:
        """Timers are, those of the wall clock too."""
        return self._timers is not None and self._timers.pending()

    def rewound(self) -> None:
        """The shelves hold something else now."""
        for part in (self._timers, self._expiry):
            if part is not None:
                part.rewound()

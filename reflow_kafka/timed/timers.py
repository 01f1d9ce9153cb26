"""The timers of one stage in one lane: set and cancelled by name for a key, due in order of time (pure).

On the shelf of timers by key (``T``) stands, under the key and the name, which agenda a timer is in and for
when. The shelf of timers by time (``t``) holds the agendas; what is to happen is the key and the name again.

A timer that is set anew with each event, for ever later times, would move in its agenda each time. It stays
where it is instead, and what stands by its key then also tells where that is; when that time has come, it
moves to where it belongs.

There are three agendas: by event time, by the wall clock, and one of timers that were set at the end of time,
when a finite run fires all it has. Those wait until time goes on in another run: a timer that sets itself
again would else never let a run end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from reflow_kafka.serde.keys import decode_key
from reflow_kafka.state.ordered import number, read_number, read_text, text
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.timed.agenda import AHEAD, Agenda
from reflow_kafka.timed.program import NEVER, Act, Due
from reflow_kafka.timers import Timer
from reflow_kafka.units import Clock

_EVENT_TIME: Final = b"e"
_WALL_CLOCK: Final = b"w"
_ANOTHER_RUN: Final = b"r"
_TOO_EARLY: Final = b"m"


class Timers:
    """Timers by key and name: one set under a name that is there already takes its place."""

    def __init__(self, by_time: Shelf[bytes], by_key: Shelf[bytes]) -> None:
        self._by_key = by_key
        self._agendas = {kind: Agenda(by_time, kind) for kind in (_EVENT_TIME, _WALL_CLOCK, _ANOTHER_RUN)}
        self._put_off: frozenset[bytes] = frozenset()
        self._held_up: frozenset[bytes] = frozenset()
        """Keys with a timer that is put off: the others wait behind it."""

    # ---- for the user's code

    def set(self, key: bytes, name: str, clock: Clock, at: int, watermark: int) -> None:
        """Set a timer of a key."""
        what = _what(key, name)
        kind = _WALL_CLOCK if clock == "wall-clock" else _ANOTHER_RUN if watermark == NEVER else _EVENT_TIME
        entry = self._by_key.get(what)
        if entry is not None:
            place = _place(entry)
            if entry[:1] == kind != _ANOTHER_RUN and place <= at:
                self._by_key.put(what, kind + number(at) + (number(place) if place < at else b""))
                return
            self._agendas[entry[:1]].remove(place, what)
        self._enter(kind, at, what)

    def cancel(self, key: bytes, name: str) -> None:
        """Forget a timer, if there is one of this name."""
        what = _what(key, name)
        entry = self._by_key.get(what)
        if entry is not None:
            self._agendas[entry[:1]].remove(_place(entry), what)
            self._by_key.delete(what)

    def _enter(self, kind: bytes, at: int, what: bytes) -> None:
        self._agendas[kind].add(at, what)
        self._by_key.put(what, kind + number(at))

    # ---- for the program

    def due(self, watermark: int, now: int, put_off: frozenset[bytes]) -> bytes | Due | None:
        """The id of the first timer whose time has come, or what is to be done before that can be told.

        The timers of keys that have one put off wait with it.
        """
        self._learn(put_off)
        event = self._agendas[_EVENT_TIME].first(watermark, self._skip)
        wall = self._agendas[_WALL_CLOCK].first(now, self._skip)
        first = event or wall if event is None or wall is None else min(event, wall, key=_by_time)
        if first is not None and len(entry := self._by_key.get(first[9:]) or b"") > 9:
            return Due(_TOO_EARLY, NEVER, self._move(first, read_number(entry, 1)))
        return first

    def _move(self, id: bytes, at: int) -> Iterator[Act]:
        self.remove(id)
        self._enter(id[:1], at, id[9:])
        yield from ()

    def _learn(self, put_off: frozenset[bytes]) -> None:
        if put_off != self._put_off:
            self._put_off = put_off
            self._held_up = frozenset(_read(id)[2] for id in put_off if id[:1] in (_EVENT_TIME, _WALL_CLOCK))

    @property
    def _skip(self) -> Callable[[bytes], bool] | None:
        return (lambda entry: _read(entry)[2] in self._held_up) if self._held_up else None

    def timer(self, id: bytes) -> tuple[bytes, Timer]:
        """The key that a timer belongs to, and the timer."""
        kind, at, key, name = _read(id)
        return key, Timer(decode_key(name), at, "wall-clock" if kind == _WALL_CLOCK else "event-time")

    def remove(self, id: bytes) -> None:
        """Forget a timer that fires or is given up."""
        self._agendas[id[:1]].remove(read_number(id, 1), id[9:])
        self._by_key.delete(id[9:])

    def wake(self) -> int | None:
        """When to look again by the wall clock, but for those that were put off when `due` was asked last."""
        first = self._agendas[_WALL_CLOCK].first(skip=self._skip)
        return None if first is None else _read(first)[1]

    def oldest(self, watermark: int) -> int:
        """The time of the first by event time, at most `watermark`."""
        kinds = (_EVENT_TIME,) if watermark == NEVER else (_EVENT_TIME, _ANOTHER_RUN)
        firsts = (self._agendas[kind].first(watermark) for kind in kinds)
        return min((_read(first)[1] for first in firsts if first is not None), default=watermark)

    def pending(self) -> bool:
        """Whether any will fire in this run."""
        return any(self._agendas[kind].first() is not None for kind in (_EVENT_TIME, _WALL_CLOCK))

    def left(self, watermark: int) -> Due | None:
        """Timers that the end of a former run has left: they count from now on, but at another end."""
        agenda = self._agendas[_ANOTHER_RUN]
        if watermark == NEVER or agenda.first() is None:
            return None
        return Due(_ANOTHER_RUN, NEVER, self._let_count(list(islice(agenda.entries(), AHEAD))))

    def _let_count(self, ids: list[bytes]) -> Iterator[Act]:
        for id in ids:
            self.remove(id)
            self._enter(_EVENT_TIME, read_number(id, 1), id[9:])
        yield from ()

    def rewound(self) -> None:
        """The shelves hold something else now."""
        self._learn(frozenset())
        for agenda in self._agendas.values():
            agenda.rewound()


def read_timer(name: bytes, entry: bytes) -> Timer:
    """A timer from what the shelf of timers by key holds under its name."""
    clock: Clock = "wall-clock" if entry[:1] == _WALL_CLOCK else "event-time"
    return Timer(decode_key(name), read_number(entry, 1), clock)


def _what(key: bytes, name: str) -> bytes:
    return text(key) + name.encode("utf-8", "surrogateescape")


def _place(entry: bytes) -> int:
    """The time at which a timer is in its agenda, from what stands by its key."""
    return read_number(entry, len(entry) - 8)


def _by_time(id: bytes) -> bytes:
    return id[1:]


def _read(id: bytes) -> tuple[bytes, int, bytes, bytes]:
    """The agenda that an entry is in, its time, and the key and name of its timer."""
    key, at = read_text(id, 9)
    return id[:1], read_number(id, 1), key, id[at:]

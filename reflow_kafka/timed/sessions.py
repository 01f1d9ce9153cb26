"""Sessions: windows as long as the events of a key follow each other closely (pure).

    y <key>                    the sessions of the key: when each begins, and its number
    z <key> <number>           a session: its end, where it stands in the agenda, its state
    v <time> <key> <number>    the agenda: a session that ends at that time or later

An event in the order of time changes one key, that of its session. The agenda is not touched then: when the
time that stands there has come, the session moves to where it ends by now, or is closed.

A closed session that is still there (its `on_close` has failed, or has not come up yet) takes no events.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from struct import Struct
from typing import Any, Final

import msgspec

from reflow_kafka.state.ordered import number, read_number, read_text, text
from reflow_kafka.state.shelf import as_is
from reflow_kafka.timed.program import Act, Call, Incoming
from reflow_kafka.timed.windowed import Stock, Windowed, told
from reflow_kafka.value import CLEARED
from reflow_kafka.windows import Session

_NUMBERS: Final = Struct(">qq")


class Sessions(msgspec.Struct, array_like=True):
    """The sessions of a key."""

    next: int = 0
    """The number of the next one."""
    begun: list[tuple[int, int]] = []
    """The first moment and the number of each, in order."""


class Open:
    """A session that has not been closed."""

    __slots__ = ("agenda", "last", "state")

    def __init__(self, last: int, agenda: int, state: Any) -> None:
        self.last = last
        """Its last moment."""
        self.agenda = agenda
        """Under which time it stands in the agenda: not after `last`."""
        self.state = state


class SessionWindows(Windowed):
    """Windows that grow, and meet."""

    def __init__(self, stock: Stock, kind: Session) -> None:
        self._gap = kind.gap
        self._merge = kind.merge
        self._states = stock.states
        self._keys = stock.shelf(
            b"y", msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Sessions).decode
        )
        self._sessions = stock.shelf(b"z", self._encode, self._decode)
        self._found: tuple[bytes, Open, int] = b"", Open(0, 0, None), 0
        super().__init__(stock, stock.shelf(b"v", as_is, as_is), after=kind.gap + kind.grace + 1, stamp=0)

    # ---- events

    def _event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """One call, with the state of the session that the event joins, makes one of two, or begins."""
        time, timestamp = self._time(watermark, now), incoming.timestamp
        key = text(incoming.key)  # type: ignore[arg-type]
        sessions = self._keys.get(key) or Sessions()
        joined = self._joined(key, sessions, timestamp, time)
        if joined:
            (first, id), session = joined[0]
            for (_, other), younger in joined[1:]:
                self._unite(session, younger)
                self._forget(key, sessions, other, younger)
            session.last = max(session.last, timestamp)
            if timestamp < first:
                sessions.begun.remove((first, id))
                first = timestamp
                insort(sessions.begun, (first, id))
                self._keys.put(key, sessions)
        elif timestamp + self._after <= time:
            yield self._late(incoming)
            return
        else:
            id, session = self._begin(key, sessions, timestamp)
            first = timestamp
        span = (first, session.last)
        call = Call((session.state, incoming.value), incoming.key, timestamp, incoming.headers, span=span)
        yield call
        if self._is_cleared(session.state, call):
            self._forget(key, sessions, id, session)
        else:
            self._sessions.put(key + number(id), session)

    # ---- in short

    def find(self, key: bytes, timestamp: int, watermark: int) -> Any | None:
        """The state of the newest session, if the event joins that one and no other, and it is at hand."""
        sessions: Sessions | None = self._keys.at_hand(text(key))
        if sessions is None or self._wall is not None:
            return None
        first, id = sessions.begun[-1]
        place = text(key) + number(id)
        session: Open | None = self._sessions.at_hand(place)
        if session is None or session.last + self._after <= watermark:
            return None
        if not first <= timestamp <= session.last + self._gap:  # those before it end too early to be met
            return None
        self._found = place, session, timestamp
        return session.state

    def keep(self, state: Any) -> None:
        """The handler has changed it."""
        place, session, timestamp = self._found
        if not (self._states.boxed and state.value is CLEARED):
            session.last = max(session.last, timestamp)
            self._sessions.replace(place, session)
            return
        key, id = place[:-8], read_number(place, len(place) - 8)
        sessions = self._keys.get(key)
        assert sessions is not None
        self._forget(key, sessions, id, session)
        for shelf in (self._keys, self._sessions, self._shelf):
            shelf.encode()
            shelf.accept()

    def lose(self) -> None:
        """The handler has failed."""
        self._sessions.spoiled(self._found[0])

    # ---- the sessions of a key

    def _joined(
        self, key: bytes, sessions: Sessions, timestamp: int, time: int
    ) -> list[tuple[tuple[int, int], Open]]:
        """The sessions that an event joins, the older first: two at most, as others lie between no more."""
        found: list[tuple[tuple[int, int], Open]] = []
        begun = sessions.begun
        for begin in reversed(begun[: bisect_right(begun, (timestamp + self._gap, _LAST))]):
            session: Open = self._sessions.need(key + number(begin[1]))
            if session.last + self._after <= time:
                continue
            if session.last + self._gap < timestamp:
                break
            found.insert(0, (begin, session))
        return found

    def _begin(self, key: bytes, sessions: Sessions, timestamp: int) -> tuple[int, Open]:
        id = sessions.next
        sessions.next += 1
        insort(sessions.begun, (timestamp, id))
        self._keys.put(key, sessions)
        self._enter(timestamp, key + number(id))
        return id, Open(timestamp, timestamp, self._new())

    def _unite(self, older: Open, younger: Open) -> None:
        """Make one of two; whoever calls forgets the younger."""
        assert self._merge is not None
        value = self._states.value
        merged = self._merge(value(older.state), value(younger.state))
        if merged is not None:  # else it has changed the older one in place
            older.state = self._states.holding(merged)
        older.last = max(older.last, younger.last)

    def _forget(self, key: bytes, sessions: Sessions, id: int, session: Open) -> None:
        sessions.begun = [begin for begin in sessions.begun if begin[1] != id]
        if sessions.begun:
            self._keys.put(key, sessions)
        else:
            self._keys.delete(key)
        self._sessions.delete(key + number(id))
        self._shelf.delete(number(session.agenda) + key + number(id))

    def _enter(self, time: int, which: bytes) -> None:
        """Put a session on the agenda."""
        place = number(time) + which
        self._shelf.put(place, b"")
        self._closing.put(place)

    def open(self, key: bytes) -> Iterator[tuple[int, int, Any]]:
        """The sessions of a key that are there."""
        sessions = self._keys.get(text(key)) or Sessions()
        for first, id in sessions.begun:
            session: Open = self._sessions.need(text(key) + number(id))
            yield first, session.last, session.state

    # ---- closing

    def _close(self, place: bytes) -> Iterator[Act]:
        which = place[8:]
        session: Open | None = self._sessions.get(which)
        if session is None or session.agenda != read_number(place):
            # Since this place was read the session has moved, or is gone. Or it never was a session's: what
            # stayed here would be handed out for ever, and nothing behind it.
            self._shelf.delete(place)
            return
        if session.last > session.agenda:
            self._shelf.delete(place)
            session.agenda = session.last
            self._enter(session.last, which)
            self._sessions.put(which, session)
            return
        key, id = which[:-8], read_number(which, len(which) - 8)
        sessions: Sessions = self._keys.need(key)
        if self._tells:
            first = next(first for first, other in sessions.begun if other == id)
            yield self._on_close(session.state, first, session.last, self._owner(place), session.last)
        self._forget(key, sessions, id, session)

    def _span(self, place: bytes) -> tuple[int, int]:
        which = place[8:]
        raw = self._sessions.raw(which)
        if raw is None:
            raise self._sessions.missing(which)
        sessions = self._keys.need(which[:-8])
        id = read_number(which, len(which) - 8)
        # Not decoded: its state may be what cannot be read.
        return next(first for first, other in sessions.begun if other == id), _NUMBERS.unpack_from(raw)[0]

    def _owner(self, place: bytes) -> bytes:
        return read_text(place, 8)[0]

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """Forget a session that cannot be closed."""
        which = id[8:]
        key, which_one = which[:-8], read_number(which, len(which) - 8)
        sessions, raw = self._keys.get(key), self._sessions.raw(which)
        if sessions is None or raw is None:
            return self._owner(id), None
        last, agenda = _NUMBERS.unpack_from(raw)
        first = next(first for first, other in sessions.begun if other == which_one)
        self._forget(key, sessions, which_one, Open(last, agenda, None))
        self._closing.gone(id)
        return self._owner(id), told(first, last, raw[_NUMBERS.size :])

    # ---- what is stored

    def _encode(self, session: Open) -> bytes:
        return _NUMBERS.pack(session.last, session.agenda) + self._states.encode(session.state)

    def _decode(self, raw: bytes) -> Open:
        last, agenda = _NUMBERS.unpack_from(raw)
        return Open(last, agenda, self._states.decode(raw[_NUMBERS.size :]))


_LAST: Final = 2**63
"""Behind all numbers of sessions."""

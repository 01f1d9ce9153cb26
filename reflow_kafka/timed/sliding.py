"""Windows that move with the events: one for each different set of events close to each other (pure).

An event at time t is in all windows that hold t, and there are two because of it: that which ends with t, and
that which begins behind it, once it holds something. A window may so come to be after events that belong into
it. They are kept for as long as that can happen, and are handed to the handler anew, without telling what it
returns, before the event that made the window:

    e <key> <time> <order>    an event, and how many came before it
    o <start> <key>           a window: its state, if it is there by now; whether it begins behind an event

The place of the window behind an event is taken when the event comes, whether or not it ever holds something:
when its time is over, no window can hold the event any more, and it goes.

An event costs as many calls as there are windows that it is in: about one for each event of its key that is
not farther away than the size, and as many again for the window that ends with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from reflow_kafka.event import Event, received
from reflow_kafka.log.api import Headers
from reflow_kafka.state.ordered import after, number, read_number, text
from reflow_kafka.timed.program import Act, Call, Incoming
from reflow_kafka.timed.windowed import Stock, Windowed, told
from reflow_kafka.windows import Sliding

_BEHIND: Final = 1
_MADE: Final = 2
_FULL: Final = 4


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """An event, as it is kept."""

    id: str
    side: int
    upstream: str
    headers: list[tuple[str, bytes | None]]
    value: bytes | None
    """Written as the edge that it came by has it."""
    whole: bool
    """The handler takes events, not values."""


class Near(msgspec.Struct, frozen=True):
    """An event that is kept, and when it came."""

    timestamp: int
    order: int
    event: Kept


class Slot:
    """A place where a window begins."""

    __slots__ = ("behind", "made", "state")

    def __init__(self, behind: bool, made: bool, state: Any) -> None:
        self.behind = behind
        """An event lies just before it, which goes with it."""
        self.made = made
        """The window is there."""
        self.state = state
        """None if there is none, as the code has cleared it."""


class SlidingWindows(Windowed):
    """Windows as Kafka Streams has them."""

    def __init__(self, stock: Stock, kind: Sliding) -> None:
        self._size = kind.size
        self._states = stock.states
        self._codecs = stock.codecs
        self._events = stock.shelf(b"e", _encode_kept, _decode_kept)
        slots = stock.shelf(b"o", self._encode, self._decode)
        super().__init__(stock, slots, after=kind.size + kind.grace + 1, stamp=kind.size)

    # ---- events

    def _event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """A call for each window that it is in, the oldest first; last for the one that begins behind it."""
        time, timestamp = self._time(watermark, now), incoming.timestamp
        owner, size = incoming.key, self._size
        assert owner is not None
        key = text(owner)
        near = [] if timestamp + self._after <= time else self._near(key, timestamp)
        starts = {timestamp - size}
        starts |= {n.timestamp - size for n in near if timestamp <= n.timestamp <= timestamp + size}
        starts |= {n.timestamp + 1 for n in near if n.timestamp < timestamp}
        open_ = sorted(start for start in starts if start + self._after > time)
        if not open_:
            yield self._late(incoming)
            return
        kept = self._kept(incoming)  # before the code may change the value
        for start in open_:
            place = number(start) + owner
            slot = self._slot(place)
            if not slot.made:
                yield from self._fill(slot, start, owner, self._within(near, start), quiet=True)
            yield from self._call(slot, start, incoming, quiet=False)
            self._shelf.put(place, slot)
        yield from self._behind(owner, near, timestamp)
        order = 1 + max((n.order for n in near), default=-1)
        self._events.put(key + number(timestamp) + number(order), kept)

    def _behind(self, owner: bytes, near: Sequence[Near], timestamp: int) -> Iterator[Act]:
        """Take the place behind an event, and make the window there if it holds something."""
        start = timestamp + 1
        place = number(start) + owner
        slot = self._slot(place)
        slot.behind = True
        held = self._within(near, start)
        if held and not slot.made:
            yield from self._fill(slot, start, owner, held[:-1], quiet=True)
            yield from self._fill(slot, start, owner, held[-1:], quiet=False)
        self._shelf.put(place, slot)

    def _near(self, key: bytes, timestamp: int) -> list[Near]:
        """The events that are kept and matter, in the order in which they came."""
        start, end = timestamp - self._size, timestamp + self._size + 2
        found = [
            Near(read_number(place, len(key)), read_number(place, len(key) + 8), kept)
            for place, kept in self._events.items(key + number(start), key + number(end))
        ]
        found.sort(key=_order)
        return found

    def _within(self, near: Sequence[Near], start: int) -> list[Near]:
        return [n for n in near if start <= n.timestamp <= start + self._size]

    def _slot(self, place: bytes) -> Slot:
        slot: Slot | None = self._shelf.get(place)
        if slot is None:
            self._closing.put(place)
            return Slot(behind=False, made=False, state=None)
        return slot

    def _fill(
        self, slot: Slot, start: int, owner: bytes, events: Sequence[Near], *, quiet: bool
    ) -> Iterator[Act]:
        for near in events:
            yield from self._call(slot, start, self._given(owner, near), quiet=quiet)

    def _call(self, slot: Slot, start: int, incoming: Incoming, *, quiet: bool) -> Iterator[Act]:
        state = self._new() if slot.state is None else slot.state
        call = Call(
            (state, incoming.value),
            incoming.key,
            incoming.timestamp,
            incoming.headers,
            quiet=quiet,
            span=(start, start + self._size),
        )
        yield call
        slot.made, slot.state = True, None if self._is_cleared(state, call) else state

    # ---- closing

    def open(self, key: bytes) -> Iterator[tuple[int, int, Any]]:
        """The windows of a key that are there: they end with its events, or begin behind them."""
        own = text(key)
        times = {read_number(place, len(own)) for place in self._events.keys(own, after(own))}
        for start in sorted({time - self._size for time in times} | {time + 1 for time in times}):
            slot: Slot | None = self._shelf.get(number(start) + key)
            if slot is not None and slot.made and slot.state is not None:
                yield start, start + self._size, slot.state

    def _close(self, place: bytes) -> Iterator[Act]:
        slot: Slot = self._shelf.need(place)
        start, end = read_number(place), read_number(place) + self._size
        if self._tells and slot.state is not None:
            yield self._on_close(slot.state, start, end, place[8:], end)
        self._forget(place, slot.behind)

    def _forget(self, place: bytes, behind: bool) -> None:
        self._shelf.delete(place)
        if behind:
            start, key = read_number(place), text(place[8:])
            for event in self._events.keys(key + number(start - 1), key + number(start)):
                self._events.delete(event)

    def _span(self, place: bytes) -> tuple[int, int]:
        start = read_number(place)
        return start, start + self._size

    def _owner(self, place: bytes) -> bytes:
        return place[8:]

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """Forget a window that cannot be closed."""
        raw = self._shelf.raw(id)
        self._closing.gone(id)
        if raw is None:
            return id[8:], None
        self._forget(id, bool(raw[0] & _BEHIND))
        start = read_number(id)
        return id[8:], told(start, start + self._size, raw[1:] if raw[0] & _FULL else None)

    # ---- what is stored

    def _encode(self, slot: Slot) -> bytes:
        full = slot.state is not None
        flags = slot.behind * _BEHIND + slot.made * _MADE + full * _FULL
        return bytes([flags]) + (self._states.encode(slot.state) if full else b"")

    def _decode(self, raw: bytes) -> Slot:
        flags = raw[0]
        state = self._states.decode(raw[1:]) if flags & _FULL else None
        return Slot(behind=bool(flags & _BEHIND), made=bool(flags & _MADE), state=state)

    def _kept(self, incoming: Incoming) -> Kept:
        value, side = incoming.value, incoming.side
        whole = isinstance(value, Event)
        if whole:
            value = value.value
        raw = None if value is None else self._codecs[side].encode(value)
        return Kept(incoming.id, side, incoming.upstream, list(incoming.headers), raw, whole)

    def _given(self, owner: bytes, near: Near) -> Incoming:
        """An event as it came."""
        kept, timestamp = near.event, near.timestamp
        headers: Headers = kept.headers
        value = None if kept.value is None else self._codecs[kept.side].decode(kept.value)
        if kept.whole:
            named = {name: data or b"" for name, data in headers}
            value = received(value, owner, timestamp, named, kept.upstream, kept.id)
        return Incoming(owner, value, timestamp, kept.upstream, kept.id, headers, kept.side)


_encode_kept = msgspec.msgpack.Encoder().encode
_decode_kept = msgspec.msgpack.Decoder(Kept).decode


def _order(near: Near) -> int:
    return near.order

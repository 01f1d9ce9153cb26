"""Zip: the first of one side with the first of the other, the second with the second, for each key (pure).

Only one side of a key can have something waiting. What waits when the run ends goes to the output
``timeout``, as a pair whose other half is None. A side that is `limit` ahead for a key is not to be taken
further (`takes`): its driver leaves that input alone, so that what follows stays in its topic, until the
other side has caught up. What is given all the same is paired like anything else, so a driver that sees both
sides wait for each other, by different keys, takes something beyond the limit.

On the shelves, under ``q``:

- ``qh``: text(key) → what waits. The first few kilobytes stand there, so most keys are one;
- ``qi``: text(key) + number → something that waits beyond these, in order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from reflow_kafka.event import Event
from reflow_kafka.log.api import Headers
from reflow_kafka.serde.typed import Codec
from reflow_kafka.state.ordered import number, read_text, text
from reflow_kafka.state.shelf import MakeShelf, Shelf
from reflow_kafka.timed.program import NEVER, Act, Call, Due, Emit, Incoming

INLINE: Final = 4_096
"""Bytes of what waits that stand with the key itself."""


class Item(msgspec.Struct, array_like=True, frozen=True):
    """An event that waits for the other side."""

    timestamp: int
    headers: Headers
    value: bytes | None
    """Written as the edge that it came by has it."""
    gone: bool = False
    """It was given up, and only keeps its place."""

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        headers = sum(len(name) + len(data or b"") for name, data in self.headers)
        return 16 + headers + len(self.value or b"")


class Queue(msgspec.Struct, array_like=True):
    """What waits of one key: first `items`, then those on the other shelf from `first` to before `next`."""

    side: int
    """Which side it is of."""
    items: list[Item] = []
    size: int = 0
    """Bytes of the items that stand here."""
    first: int = 0
    next: int = 0

    def __len__(self) -> int:
        return len(self.items) + self.next - self.first


class ZipProgram:
    """Pairs of two sides, see `Program`."""

    def __init__(self, shelf: MakeShelf, codecs: Sequence[Codec], *, limit: int) -> None:
        """`codecs` are those of the two sides."""
        pack, queue = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(Queue).decode
        self._queues: Shelf[Queue] = shelf(b"qh", pack, queue)
        self._items: Shelf[Item] = shelf(b"qi", pack, msgspec.msgpack.Decoder(Item).decode)
        self._codecs = codecs
        self._limit = limit
        self._flushed = b""
        """At the end of a run: no key before it has anything that waits."""

    # ---- events

    def takes(self, side: int, keys: Sequence[bytes | None]) -> int:
        """How many events of a side with these keys may be taken now, before it is too far ahead."""
        ahead: dict[bytes | None, int] = {}
        for taken, key in enumerate(keys):
            lead = ahead[key] if key in ahead else self._lead(side, key)
            if lead >= self._limit:
                return taken
            ahead[key] = lead + 1
        return len(keys)

    def _lead(self, side: int, key: bytes | None) -> int:
        queue = None if key is None else self._queues.get(text(key))
        if queue is None:
            return 0
        return len(queue) if queue.side == side else -len(queue)

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        key = incoming.key
        assert key is not None
        at = text(key)
        queue = self._queues.get(at)
        if queue is not None and queue.side != incoming.side:
            item = self._pop(at, queue)
            if item.gone:
                yield self._alone(incoming.side, incoming.value, key, incoming.timestamp, incoming.headers)
            else:
                yield self._pair(item, incoming, key)
        else:
            queue = Queue(incoming.side) if queue is None else queue
            self._push(at, queue, incoming)
        self._keep(at, queue)

    def gone(self, incoming: Incoming) -> Iterator[Act]:
        """What it would have met, or will meet, stays alone: the pairs that follow are as they would be."""
        key, at = incoming.key, text(incoming.key or b"")
        queue = self._queues.get(at)
        if queue is not None and queue.side != incoming.side:
            item = self._pop(at, queue)
            if not item.gone:
                # It may be what could not be read: that of which the event has just failed.
                value = None if item.value is None else self._codecs[queue.side].told(item.value)
                yield self._alone(queue.side, value, key, item.timestamp, item.headers)
        else:
            queue = Queue(incoming.side) if queue is None else queue
            self._put(at, queue, Item(incoming.timestamp, [], None, gone=True))
        self._keep(at, queue)

    def _alone(self, side: int, value: Any, key: bytes | None, timestamp: int, headers: Headers) -> Emit:
        pair = [value, None] if side == 0 else [None, value]
        return Emit(Event(pair, to="timeout"), key, timestamp, headers)

    def _pair(self, item: Item, incoming: Incoming, key: bytes) -> Call:
        other = self._value(1 - incoming.side, item)
        left = incoming.side == 0
        return Call(
            (incoming.value, other) if left else (other, incoming.value),
            key,
            max(item.timestamp, incoming.timestamp),
            incoming.headers if left else item.headers,
        )

    def _value(self, side: int, item: Item) -> Any:
        return None if item.value is None else self._codecs[side].decode(item.value)

    def _push(self, at: bytes, queue: Queue, incoming: Incoming) -> None:
        value = incoming.value
        raw = None if value is None else self._codecs[incoming.side].encode(value)
        self._put(at, queue, Item(incoming.timestamp, list(incoming.headers), raw))

    def _put(self, at: bytes, queue: Queue, item: Item) -> None:
        if queue.first == queue.next and queue.size + (size := item.size) <= INLINE:
            queue.items.append(item)
            queue.size += size
        else:
            self._items.put(at + number(queue.next), item)
            queue.next += 1

    def _pop(self, at: bytes, queue: Queue) -> Item:
        if queue.items:
            item = queue.items.pop(0)
            queue.size -= item.size
            return item
        place = at + number(queue.first)
        queue.first += 1
        found = self._items.need(place)
        self._items.delete(place)
        return found

    def _keep(self, at: bytes, queue: Queue) -> None:
        if len(queue):
            self._queues.put(at, queue)
        else:
            self._queues.delete(at)

    # ---- the end of a run

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        if watermark != NEVER:
            self._flushed = b""
            return None
        skipped = False
        for at in self._queues.keys(self._flushed):
            if at in put_off:
                skipped = True
                continue
            if not skipped:
                self._flushed = at  # what is deleted in the store need not be passed again and again
            queue = self._queues.need(at)
            key, _ = read_text(at)
            return Due(at, self._timestamps(at, queue), self._flush(at, key, queue), key)
        return None

    def _timestamps(self, at: bytes, queue: Queue) -> int:
        """The oldest timestamp of what waits."""
        return min(item.timestamp for item in self._waiting(at, queue))

    def _waiting(self, at: bytes, queue: Queue) -> Iterator[Item]:
        yield from queue.items
        for place in range(queue.first, queue.next):
            found = self._items.need(at + number(place))
            yield found

    def _flush(self, at: bytes, key: bytes, queue: Queue) -> Iterator[Act]:
        while len(queue):
            item = self._pop(at, queue)
            if not item.gone:
                value = self._value(queue.side, item)
                yield self._alone(queue.side, value, key, item.timestamp, item.headers)
        self._queues.delete(at)

    def wake(self, now: int) -> int | None:
        return None

    def tell(self, id: bytes) -> str:
        return "what is left over of pairs"

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        queue = self._queues.need(id)
        items, told = self._waiting(id, queue), self._codecs[queue.side].told
        values = [None if item.value is None else told(item.value) for item in items if not item.gone]
        for place in range(queue.first, queue.next):
            self._items.delete(id + number(place))
        self._queues.delete(id)
        return read_text(id)[0], values

    def holds(self, watermark: int) -> int:
        if watermark != NEVER:
            return watermark  # a pair is as young as its younger half
        due = self.due(watermark, 0)
        return NEVER if due is None else min(NEVER, due.at)

    def pending(self) -> bool:
        return False

    def rewound(self) -> None:
        self._flushed = b""

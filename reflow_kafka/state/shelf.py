"""Ordered state that changes in steps: what stages with windows, timers and joins remember.

A *shelf* holds values by ordered keys, decoded. A *step* is all that one event, or one thing whose time has
come, changes on the shelves of a stage: it is taken as a whole (`encode`, which may fail, then `accept`,
which cannot) or dropped (`drop`). A commit takes what the steps since the last one have changed (`snapshot`).

Where a value is found, newest first: the step, `_fresh` (accepted since the last snapshot), `_pending` (in
the commit under way), the store.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

from reflow_kafka.serde.json import own_size
from reflow_kafka.state.cache import UNREADABLE, UnreadableState
from reflow_kafka.state.layer import Layer
from reflow_kafka.state.ordered import after
from reflow_kafka.state.store import LaneStores

T = TypeVar("T")

_ABSENT: Final[Any] = object()
_LIMIT: Final = 20_000
"""Decoded values that a shelf keeps at hand, …"""
_ROOM: Final = 8 * 1024 * 1024
"""… and how many bytes those of them that are not small may have, encoded."""
_SMALL: Final = 256
"""Bytes of a value up to which it is only counted: to weigh each would cost more than it tells."""


def as_is(value: bytes) -> bytes:
    """For shelves whose values are bytes."""
    return value


class Shelf(Generic[T]):
    """Values by ordered keys, in one part of a store: all keys there begin with `prefix`.

    A value that is read may be changed in place; it counts once it is `put` in the same step. Of decoded
    values it keeps no more at hand than `limit`, and those with more than a few bytes only up to `room` of
    them in all: both in two generations, a cheap LRU.
    """

    def __init__(
        self,
        stores: LaneStores,
        store: str,
        prefix: bytes,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        limit: int = _LIMIT,
        room: int = _ROOM,
    ) -> None:
        self._stores = stores
        self.store = store
        self.prefix = prefix
        self._encode = encode
        self._decode = decode
        self._step: dict[bytes, Any] = {}
        self._encoded: list[tuple[bytes, bytes | None, Any]] = []
        self._read: list[bytes] = []
        self._objects: dict[bytes, T] = {}
        self._aged: dict[bytes, T] = {}
        self._generation = max(limit // 2, 1)
        self._room = room // 2
        self._sizes: dict[bytes, int] = {}
        """Of those among `_objects` that are not small, as they were encoded last."""
        self._aged_sizes: dict[bytes, int] = {}
        self._weight = 0
        """The sum of `_sizes`."""
        self._fresh = Layer()
        self._pending = Layer()

    # ---- reading

    def get(self, key: bytes) -> T | None:
        """The value of a key, None if there is none.

        Raises:
            UnreadableState: the store holds bytes that are no value.
        """
        value: Any = self._step.get(key, _ABSENT)
        if value is not _ABSENT:
            return value  # type: ignore[no-any-return]
        value = self._objects.get(key)
        if value is None:
            value = self._load(key)
        if value is not None:
            self._read.append(key)
        return value  # type: ignore[no-any-return]

    def need(self, key: bytes) -> T:
        """The value of a key of which something else that is stored says that it has one.

        Raises:
            UnreadableState: it has none, or the store holds bytes that are no value.
        """
        value = self.get(key)
        if value is None:
            raise self.missing(key)
        return value

    def missing(self, key: bytes) -> UnreadableState:
        """What to raise if a key has no value, while something else that is stored says that it has one."""
        return UnreadableState(
            f"store {self.store!r} holds nothing at {self.prefix + key!r:.100}, and other records there say "
            "that it does; were some of them lost, or written by somebody else?"
        )

    def at_hand(self, key: bytes) -> T | None:
        """The value of a key, if it is decoded already; between steps only."""
        return self._objects.get(key)

    def replace(self, key: bytes, value: T) -> None:
        """A step that changes nothing but a value that was at hand.

        Raises:
            ValueError, TypeError: it cannot be encoded; `spoiled` then.
        """
        raw = b"".join((self._encode(value), b""))
        values = self._fresh.values
        if len(raw) > _SMALL:
            self._fresh.weigh(key, raw)
            self._weigh(key, len(raw))
        if key not in values:
            self._fresh.new.append(key)
        values[key] = raw

    def spoiled(self, key: bytes) -> None:
        """A value that was at hand has been changed in place, and does not count: read it again."""
        self._let_go(key)

    def _load(self, key: bytes) -> T | None:
        value = self._aged.get(key)
        if value is not None:
            size = self._aged_sizes.get(key, 0)
        else:
            raw = self.raw(key)
            if raw is None:
                return None
            try:
                value, size = self._decode(raw), len(raw)
            except UNREADABLE as error:
                raise UnreadableState(
                    f"what store {self.store!r} holds at {self.prefix + key!r:.100} cannot be read: "
                    f"{str(error) or type(error).__name__}; was it written by another version of the flow, "
                    "or by somebody else?"
                ) from error
        self._keep(key, value)
        if size > _SMALL:
            self._weigh(key, size)
        return value

    def _keep(self, key: bytes, value: T) -> None:
        if len(self._objects) >= self._generation:
            self._age()
        self._objects[key] = value

    def _weigh(self, key: bytes, size: int) -> None:
        """A value at hand, which is not small, has this size now."""
        self._weight += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        if self._weight > self._room:
            self._age()

    def _age(self) -> None:
        self._aged, self._objects = self._objects, {}
        self._aged_sizes, self._sizes, self._weight = self._sizes, {}, 0

    def _let_go(self, key: bytes) -> None:
        """A value is not kept at hand any more."""
        self._objects.pop(key, None)
        self._aged.pop(key, None)
        if self._sizes:
            self._weight -= self._sizes.pop(key, 0)

    def raw(self, key: bytes) -> bytes | None:
        """The encoded value of a key, as the last step has left it."""
        for layer in (self._fresh, self._pending):
            raw = layer.values.get(key, _ABSENT)
            if raw is not _ABSENT:
                return raw  # type: ignore[no-any-return]
        return self._stores.get(self.store, self.prefix + key)

    def __contains__(self, key: bytes) -> bool:
        """Whether a key has a value, be it one that cannot be decoded."""
        value = self._step.get(key, _ABSENT)
        if value is not _ABSENT:
            return value is not None
        return key in self._objects or self.raw(key) is not None

    def keys(self, start: bytes = b"", end: bytes | None = None) -> Iterator[bytes]:
        """Keys from `start` to before `end` (None: all that follow), in order.

        What is put or deleted while they are gone through may or may not be among them.
        """
        layers: list[Iterable[tuple[bytes, int, bool]]] = [
            [(k, 0, v is not None) for k, v in sorted(self._step.items(), key=_key) if _within(k, start, end)]
        ]
        for rank, layer in enumerate((self._fresh, self._pending), 1):
            layers.append(_changed(layer, rank, start, end))
        layers.append(self._stored(start, end))
        last: bytes | None = None
        for key, _, there in heapq.merge(*layers):
            if key != last:
                last = key
                if there:
                    yield key

    def first(self, start: bytes = b"", end: bytes | None = None) -> bytes | None:
        """The first key from `start` to before `end`."""
        return next(self.keys(start, end), None)

    def items(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, T]]:
        """Keys with their values, as `keys` gives them."""
        for key in self.keys(start, end):
            value = self.get(key)
            if value is not None:
                yield key, value

    def under(self, prefix: bytes) -> Iterator[tuple[bytes, T]]:
        """All whose keys begin with `prefix`."""
        return self.items(prefix, after(prefix) or None)

    def _stored(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, int, bool]]:
        own = len(self.prefix)
        stop = self.prefix + end if end is not None else after(self.prefix)
        for key, _ in self._stores.range(self.store, self.prefix + start, stop):
            yield key[own:], 3, True

    # ---- a step

    def put(self, key: bytes, value: T) -> None:
        """Set the value of a key."""
        self._step[key] = value

    def delete(self, key: bytes) -> None:
        """Forget a key."""
        self._step[key] = None

    def encode(self) -> None:
        """Do all of the step that can fail.

        Raises:
            ValueError, TypeError: a value cannot be encoded; `drop` the step.
        """
        if self._step:
            encode = self._encode
            self._encoded = [
                (key, None if value is None else encode(value), value) for key, value in self._step.items()
            ]

    def accept(self) -> None:
        """Take the step that `encode` has prepared; cannot fail."""
        if self._encoded:
            values, new = self._fresh.values, self._fresh.new
            for key, raw, value in self._encoded:
                if key not in values:
                    new.append(key)
                if raw is None:
                    values[key] = None
                    self._let_go(key)
                    continue
                if large := len(raw) > _SMALL:
                    self._fresh.weigh(key, raw)
                values[key] = own_size(raw)
                if self._objects.get(key) is not value:
                    self._keep(key, value)
                if large:
                    self._weigh(key, len(raw))
            self._encoded = []
            self._step.clear()
        if self._read:
            self._read.clear()

    def drop(self) -> None:
        """Forget the step; what was read in it may have been changed in place, so it is read again."""
        for key in self._read:
            self._let_go(key)
        self._encoded = []
        self._step.clear()
        self._read.clear()

    def unchanged(self) -> None:
        """Nothing of what was read since the last step has been changed in place."""
        if not self._step:
            self._read.clear()

    # ---- commits

    def __len__(self) -> int:
        """How many keys have changed since the last snapshot."""
        return len(self._fresh.values)

    def snapshot(self) -> dict[bytes, bytes | None]:
        """What has changed since the last snapshot, by keys of the store; pending until `settled`."""
        self._pending, self._fresh = self._fresh, Layer()
        return {self.prefix + key: raw for key, raw in self._pending.values.items()}

    def settled(self) -> None:
        """The last snapshot is in the store."""
        self._pending = Layer()

    def rewind(self) -> None:
        """Forget everything since the last snapshot."""
        self.drop()
        for key in self._fresh.values:
            self._let_go(key)
        self._fresh = Layer()


MakeShelf = Callable[[bytes, Callable[[Any], bytes], Callable[[bytes], Any]], Shelf[Any]]
"""Makes a shelf of its own for a program: from the prefix of its keys, encoder and decoder."""


class Shelves:
    """The shelves of one stage in one lane: they change together."""

    def __init__(self, shelves: Iterable[Shelf[Any]] = ()) -> None:
        self._shelves = list(shelves)

    def add(self, shelf: Shelf[T]) -> Shelf[T]:
        """Let a shelf change with the others."""
        self._shelves.append(shelf)
        return shelf

    def __len__(self) -> int:
        """How many keys have changed since the last snapshot."""
        return sum(map(len, self._shelves))

    @property
    def weight(self) -> int:
        """Bytes of what has changed since then, but for what is small."""
        return sum(shelf._fresh.weight for shelf in self._shelves)

    def encode(self) -> None:
        """Do all of the step that can fail; raises what `Shelf.encode` raises."""
        for shelf in self._shelves:
            shelf.encode()

    def accept(self) -> None:
        """Take the step; cannot fail."""
        for shelf in self._shelves:
            shelf.accept()

    def unchanged(self) -> None:
        """Nothing of what was read since the last step has been changed in place."""
        for shelf in self._shelves:
            shelf.unchanged()

    def drop(self) -> None:
        """Forget the step."""
        for shelf in self._shelves:
            shelf.drop()

    def snapshot(self) -> dict[str, dict[bytes, bytes | None]]:
        """What has changed in each store since the last snapshot; pending until `settled`."""
        changes: dict[str, dict[bytes, bytes | None]] = {}
        for shelf in self._shelves:
            changes.setdefault(shelf.store, {}).update(shelf.snapshot())
        return changes

    def settled(self) -> None:
        """The last snapshot is in the store."""
        for shelf in self._shelves:
            shelf.settled()

    def rewind(self) -> None:
        """Forget everything since the last snapshot."""
        for shelf in self._shelves:
            shelf.rewind()


def _changed(layer: Layer, rank: int, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, int, bool]]:
    values = layer.values
    return ((key, rank, values[key] is not None) for key in layer.keys(start, end))


def _key(item: tuple[bytes, Any]) -> bytes:
    return item[0]


def _within(key: bytes, start: bytes, end: bytes | None) -> bool:
    return key >= start and (end is None or key < end)

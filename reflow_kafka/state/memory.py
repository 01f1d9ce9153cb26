"""Local state in memory: for tests, and for lanes that have none."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from reflow_kafka.errors import StateError
from reflow_kafka.state.ordered import after
from reflow_kafka.state.store import Changes, LaneStores, StoreMark

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Content:
    """What a disk would hold of one lane."""

    stores: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    mark: StoreMark | None = None
    opened: MemoryStores | None = None


class MemoryBackend:
    """Keeps the state of lanes as long as this object lives, as a disk would; see `StateBackend`.

    With `keep` False content goes when its lane is closed, as if another machine opened it next.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._lanes: dict[tuple[str, int], _Content] = {}

    def open(self, flow: str, lane: int, stores: Iterable[str]) -> LaneStores:
        """Open the lane's stores. If they are open already, they are not waited for: it opens empty."""
        content = self._lanes.get((flow, lane))
        if content is None or content.opened is not None or not self._keep:
            content = self._lanes[flow, lane] = _Content()
        return MemoryStores(content, list(stores))

    def set_aside(self, flow: str, lane: int, reason: str) -> None:
        """Forget the lane's content."""
        self.drop(flow, lane)
        log.warning("local state of %s lane %d set aside: %s", flow, lane, reason)

    def drop(self, flow: str, lane: int) -> None:
        """Forget the lane's content, as if its disk were lost."""
        self._lanes.pop((flow, lane), None)

    def kept(self, flow: str) -> frozenset[int]:
        """Lanes with content."""
        return frozenset(lane for name, lane in self._lanes if name == flow)

    def look(self, flow: str) -> dict[int, MemoryView]:
        """The content of each lane as it is, whether or not it is open."""
        return {lane: MemoryView(each.stores) for (name, lane), each in self._lanes.items() if name == flow}

    def close(self) -> None:
        """Nothing to do: the content stays with this object."""


class MemoryView:
    """Looks at the stores of one lane without opening them."""

    def __init__(self, stores: Mapping[str, Mapping[bytes, bytes]]) -> None:
        self._stores = stores

    def get(self, store: str, key: bytes) -> bytes | None:
        """The value of a key."""
        return self._stores.get(store, {}).get(key)

    def scan(self, store: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys that start with `prefix`, in byte order."""
        return self.range(store, prefix, after(prefix))

    def range(self, store: str, start: bytes, end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys from `start` to before `end` (empty: to the last), in byte order."""
        found = self._stores.get(store, {})
        return ((key, found[key]) for key in sorted(found) if start <= key and (not end or key < end))


class MemoryStores:
    """The stores of one lane in dictionaries; see `LaneStores`."""

    def __init__(self, content: _Content, names: list[str]) -> None:
        mark = content.mark
        if mark is not None:
            kept = {name: at for name, at in mark.positions.items() if name in names}
            content.mark = mark = replace(mark, positions=kept)
        positions = mark.positions if mark is not None else {}
        content.stores = {name: content.stores.get(name, {}) if name in positions else {} for name in names}
        content.opened = self
        self._content: _Content | None = content
        self._sorted: dict[str, list[bytes]] = {}  # the keys of a store in order, until one comes or goes

    def mark(self) -> StoreMark | None:
        """What is known about the content."""
        return self._open().mark

    def get(self, store: str, key: bytes) -> bytes | None:
        """The value of a key."""
        return self._open().stores[store].get(key)

    def scan(self, store: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys that start with `prefix`, in byte order, as they are now: later writes are not seen."""
        return self.range(store, prefix, after(prefix))

    def range(self, store: str, start: bytes, end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys from `start` to before `end` (empty: to the last), as `scan` gives them."""
        content = self._open().stores[store]
        keys = self._sorted.get(store)
        if keys is None:
            keys = self._sorted[store] = sorted(content)
        stop = bisect_left(keys, end) if end else len(keys)
        return self._while_open([(key, content[key]) for key in keys[bisect_left(keys, start) : stop]])

    def _while_open(self, found: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for pair in found:
            self._open()
            yield pair

    def write(self, changes: Changes, mark: StoreMark) -> None:
        """Apply changes and mark in one step; see `LaneStores.write`."""
        content = self._open()
        if not changes.keys() <= mark.positions.keys():
            raise ValueError(f"no position for {sorted(changes.keys() - mark.positions.keys())}")
        # Read to the end first: a generator that fails half-way must leave nothing behind.
        complete = [(name, content.stores[name], list(pairs)) for name, pairs in changes.items()]
        for name, store, pairs in complete:
            size = len(store)
            for key, value in pairs:
                if value is None:
                    if store.pop(key, None) is not None:
                        self._sorted.pop(name, None)
                else:
                    store[key] = value
            if len(store) != size:
                self._sorted.pop(name, None)
        content.mark = mark

    def close(self) -> None:
        """Close; the content stays."""
        if self._content is not None and self._content.opened is self:
            self._content.opened = None
        self._content = None

    def _open(self) -> _Content:
        if self._content is None:
            raise StateError("the store is closed")
        return self._content

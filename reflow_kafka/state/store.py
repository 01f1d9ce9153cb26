"""The contract of local state: keyed bytes of one lane, with the changelog positions they stand at.

Local state is a cache of the changelogs. It may be behind them (it then catches up), but never ahead and
never torn: data and positions change in one atomic write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

Changes = Mapping[str, Iterable[tuple[bytes, bytes | None]]]
"""Store name → (key, value) pairs; None deletes the key."""


@dataclass(frozen=True, slots=True)
class StoreMark:
    """What a lane's local state says about itself."""

    incarnation: str
    """Whose history it belongs to: the incarnation of the lane record."""
    positions: Mapping[str, int]
    """Store name → changelog offset up to which (exclusive) it is complete.

    Every store with content has one; a store that has none is empty when it is opened.
    """
    caught_up: int
    """Epoch ms when it last was known to be complete: one too old may miss expired tombstones."""


class LaneStores(Protocol):
    """The stores of one lane: one per stage with state."""

    def mark(self) -> StoreMark | None:
        """What is known about the content; None for stores that were never written."""

    def get(self, store: str, key: bytes) -> bytes | None:
        """The value of a key."""

    def scan(self, store: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys that start with `prefix`, in byte order, as they are now: later writes are not seen."""

    def range(self, store: str, start: bytes, end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys from `start` to before `end` (empty: to the last), as `scan` gives them."""

    def write(self, changes: Changes, mark: StoreMark) -> None:
        """Apply changes and mark in one atomic step, durable against the death of this process.

        Raises:
            StateError: the disk is full or broken.
            ValueError: `mark` has no position for one of the stores.
        """

    def close(self) -> None:
        """Close; the content stays."""


class StateBackend(Protocol):
    """Where the engine keeps the local state of its lanes."""

    def open(self, flow: str, lane: int, stores: Iterable[str]) -> LaneStores:
        """Open, or create, the stores of a lane; content that cannot be used is set aside, not an error.

        Raises:
            StateError: the disk is full, not writable, or broken.
        """

    def set_aside(self, flow: str, lane: int, reason: str) -> None:
        """Put the (closed) local state of a lane out of the way: it cannot be used."""

    def kept(self, flow: str) -> frozenset[int]:
        """Lanes of a flow that there is local state of, whether or not it can be used."""

    def close(self) -> None:
        """Release what lanes share."""

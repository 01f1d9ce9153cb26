"""Records, the builders that collect them, and the batches they are kept in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter

import msgspec

from reflow_kafka.log.api import Headers, OutRecord

MAX_BATCH_BYTES = 512 * 1024
MAX_RECORD_BYTES = 1024 * 1024

RECORD_OVERHEAD = 24  # about what a record costs beside its key, value and headers
_NO_HEADERS: Headers = []
_offset_of = attrgetter("offset")


class LocalRecord(msgspec.Struct, array_like=True, gc=False):
    """One record for its whole life: appended, encoded, kept and handed to readers as the same object.

    The log sets `offset` when the record gets its place; nobody else changes anything.
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def record_size(record: LocalRecord | OutRecord) -> int:
    """Bytes that a record counts for."""
    size = RECORD_OVERHEAD + len(record.key or b"") + len(record.value or b"")
    return size + headers_size(record.headers) if record.headers else size


def headers_size(headers: Sequence[tuple[str, bytes | None]]) -> int:
    """Bytes that headers count for."""
    return sum(len(name) + len(value or b"") for name, value in headers)


_join = b"".join


class LocalBuilder:
    """Collects the records of one partition for one batch. Headers are kept, not copied."""

    __slots__ = ("_append", "_limit", "_size", "records")

    def __init__(self, limit: int = MAX_BATCH_BYTES) -> None:
        self.records: list[LocalRecord] = []
        self._append = self.records.append
        self._limit = limit
        self._size = 0

    def append(
        self, *, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = _NO_HEADERS
    ) -> object | None:
        """Add a record; None if it no longer fits (a first record always fits)."""
        size = self._size + RECORD_OVERHEAD
        if key is not None:
            size += len(key)
        if value is not None:
            # A copy of its own size: what orjson gives holds 4 kB, however short. Thousand events per
            # CPU-second on the embedded log: W1 235 → 351, W2 115 → 148.
            value = _join((value, b""))
            size += len(value)
        if headers:
            size += headers_size(headers)
        if size > self._limit and self.records:
            return None
        self._size = size
        self._append(LocalRecord(-1, timestamp, key, value, headers))
        return size

    def size(self) -> int:
        """Bytes collected so far."""
        return self._size

    def record_count(self) -> int:
        """Records collected so far."""
        return len(self.records)

    def take(self) -> list[LocalRecord]:
        """Give the records away; from now on nothing more fits.

        Raises:
            ValueError: they were given away before.
        """
        if self._limit < 0:
            raise ValueError("a batch builder can be handed to the log once only")
        self._limit = -1
        return self.records


class LocalBatch:
    """Records of one partition that were written together: the unit in which they are kept and read.

    `base` is the place of the batch, at or below its first record's offset (compaction leaves gaps), `end`
    the offset after its last record. Records of an aborted batch are for uncommitted readers only.
    """

    __slots__ = ("aborted", "base", "end", "records", "size")

    def __init__(
        self, base: int, records: list[LocalRecord], size: int, *, end: int = -1, aborted: bool = False
    ) -> None:
        self.base = base
        self.records = records
        self.size = size
        self.end = end if end >= 0 else records[-1].offset + 1
        self.aborted = aborted

    def index(self, offset: int) -> int:
        """Where in `records` the first one at or above `offset` stands."""
        if offset <= self.base:
            return 0
        return bisect_left(self.records, offset, key=_offset_of)


def place(records: list[LocalRecord], base: int, size: int) -> LocalBatch:
    """Give records the offsets from `base` on and make a batch of them."""
    for offset, record in enumerate(records, base):
        record.offset = offset
    return LocalBatch(base, records, size, end=base + len(records))

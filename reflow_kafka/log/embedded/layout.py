"""How the embedded log's keys and values look: fixed-width, big-endian, so that order is offset order.

T <name>                                topic: number, partitions, kind
S <topic u32> <partition u32>           start offset, where it is not 0
E <topic u32> <partition u32>           end offset
P <topic u32> <partition u32> <flow>    committed position of a flow
C <topic u32> <partition u32>           what compaction remembers
B <topic u32> <partition u32> <base u64>  a batch: header, then its records in MessagePack
"""

from __future__ import annotations

import struct
from struct import Struct

import msgspec

from reflow_kafka.errors import LogError
from reflow_kafka.log.local import LocalBatch

PARTITION = Struct(">cII")
BATCH = Struct(">cIIQ")
OFFSET = Struct(">Q")

_HEADER = Struct(">BQ")  # flags, the offset after the last record
_ABORTED = 1


class Topic(msgspec.Struct, array_like=True):
    """What is kept about a topic."""

    number: int
    partitions: int
    kind: str


class Position(msgspec.Struct, array_like=True):
    """What is kept about a committed position."""

    offset: int
    metadata: str


class Compaction(msgspec.Struct, array_like=True):
    """How far a partition was compacted, and which tombstones may go next time."""

    upto: int = 0  # below this no two records have the same key
    live: int = 0  # records found then
    horizon: int = 0  # tombstones below this are the oldest of their key …
    horizon_at: float = 0.0  # … since this time, s


def encode_batch(batch: LocalBatch) -> bytes:
    """A batch as a value."""
    return b"".join((_HEADER.pack(_ABORTED if batch.aborted else 0, batch.end), batch.data))


def end_of(value: bytes) -> int:
    """The end offset of an encoded batch."""
    end: int = _HEADER.unpack_from(value)[1]
    return end


def decode_batch(base: int, value: bytes) -> LocalBatch:
    """A value as a batch, its records still encoded.

    Raises:
        LogError: it is damaged.
    """
    try:
        flags, end = _HEADER.unpack_from(value)
    except struct.error as error:
        raise LogError(f"a batch of the log, at offset {base}, is damaged: {error}") from error
    return LocalBatch(base, memoryview(value)[_HEADER.size :], end, aborted=bool(flags & _ABORTED))

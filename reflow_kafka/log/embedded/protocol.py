"""The messages between a program and the worker whose log it wants: length, then MessagePack."""

from __future__ import annotations

import asyncio
from pathlib import Path
from struct import Struct
from typing import Any

import msgspec

from reflow_kafka import errors
from reflow_kafka.errors import LogError, OffsetOutOfRange, RecordRefused, ReflowError
from reflow_kafka.log.api import OutRecord, TopicPartition, TopicSpec
from reflow_kafka.log.local import LocalRecord

MAX_MESSAGE = 64 * 1024 * 1024
SOCKET = "log.sock"
POINTER = "log.sock.path"  # a file that says where the socket is, if not there
DEADLINE = 10.0  # s, for everything but waiting for records

_LENGTH = Struct(">I")

ARGUMENTS: dict[str, Any] = {
    "partition_counts": tuple[list[str]],
    "ensure_topics": tuple[list[TopicSpec]],
    "publish": tuple[str, int, list[OutRecord]],
    "start_offsets": tuple[list[TopicPartition]],
    "end_offsets": tuple[list[TopicPartition]],
    "read": tuple[str, int, int, int, float],
}
"""The calls there are, and what they take."""

RESULTS: dict[str, Any] = {
    "partition_counts": dict[str, int | None],
    "ensure_topics": list[str],
    "publish": None,
    "start_offsets": list[int],  # in the order asked for
    "end_offsets": list[int],
    "read": tuple[list[LocalRecord], int],
}


class Request(msgspec.Struct, array_like=True):
    """A call."""

    method: str
    arguments: msgspec.Raw


class Failure(msgspec.Struct, array_like=True):
    """An error of this library, to be raised on the other side."""

    kind: str
    message: str
    positions: list[tuple[TopicPartition, int]] = []


class Response(msgspec.Struct, array_like=True):
    """The answer to a call."""

    failure: Failure | None
    result: msgspec.Raw


def failure_of(error: ReflowError) -> Failure:
    """An error as a message."""
    positions: list[tuple[TopicPartition, int]] = []
    if isinstance(error, OffsetOutOfRange):
        positions = list(error.positions.items())
    elif isinstance(error, RecordRefused):
        positions = [(tp, 0) for tp in error.partitions]
    return Failure(type(error).__name__, str(error), positions)


def error_of(failure: Failure) -> ReflowError:
    """A message as an error."""
    if failure.kind == "OffsetOutOfRange":
        return OffsetOutOfRange(dict(failure.positions))
    if failure.kind == "RecordRefused":
        return RecordRefused(failure.message, [tp for tp, _ in failure.positions])
    kind = getattr(errors, failure.kind, LogError)
    return (
        kind(failure.message)
        if kind in (errors.UsageError, errors.TopologyMismatch)
        else LogError(failure.message)
    )


async def receive(reader: asyncio.StreamReader, timeout: float | None) -> bytes | None:
    """The next message, however long it takes if `timeout` is None; None when the other side has gone.

    Raises:
        TimeoutError: it did not come in time.
    """
    try:
        async with asyncio.timeout(timeout):
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            if length > MAX_MESSAGE:
                return None
            return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def transmit(writer: asyncio.StreamWriter, message: bytes) -> None:
    """Send a message.

    Raises:
        TimeoutError: the other side does not take it.
        OSError: it has gone.
    """
    async with asyncio.timeout(DEADLINE):
        writer.write(_LENGTH.pack(len(message)) + message)
        await writer.drain()


def socket_file(data_dir: Path) -> Path:
    """Where the worker's socket is: in the data directory, or where a file there says."""
    try:
        return Path((data_dir / POINTER).read_text().strip())
    except OSError:
        return data_dir / SOCKET

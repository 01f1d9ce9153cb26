"""Global tables: the whole content of a topic in each engine, read to its end before lanes start to work.

It is held in memory as it is written, and decoded when it is asked for. What comes later is followed; if
reading fails, the table stays as it is and is read anew, with growing pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from reflow_kafka.clock import monotonic
from reflow_kafka.definition.spec import GlobalTableSpec
from reflow_kafka.errors import LogError, OffsetOutOfRange
from reflow_kafka.log.api import Log, Reader, Record, TopicPartition
from reflow_kafka.serde.keys import encode_key, key_getter
from reflow_kafka.serde.typed import edge_codec

logger = logging.getLogger(__name__)

STALL: Final = 30.0
"""Seconds without any progress after which loading gives up."""
TELL_EVERY: Final = 10.0
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0


class GlobalTable:
    """The rows of a topic, as handlers see them."""

    def __init__(self, name: str, spec: GlobalTableSpec) -> None:
        codec = edge_codec(spec.type, spec.format)
        self._name = name
        self._decode: Callable[[bytes], Any] = codec.decode
        self._key_of = key_getter(spec.key)
        self._rows: dict[bytes, bytes] = {}
        self._moved: dict[bytes, bytes] = {}
        """With `key=`: under which key the row of a record's own key stands, for its tombstone."""

    def get(self, key: object) -> Any:
        """The row of a key, None if there is none.

        Raises:
            ValueError: it cannot be decoded.
        """
        wanted = encode_key(key)
        row = None if wanted is None else self._rows.get(wanted)
        return None if row is None else self._decode(row)

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def take(self, record: Record) -> None:
        """A row, or a tombstone, that was read."""
        key, row = record.key, record.value
        if self._key_of is not None:
            key = self._place(record)
        if key is None:
            return
        if row is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = row

    def _place(self, record: Record) -> bytes | None:
        """Where a record's row belongs by what `key=` finds in it; the record's row before goes."""
        before = None if record.key is None else self._moved.pop(record.key, None)
        if before is not None:
            self._rows.pop(before, None)
        if record.value is None:
            return None
        assert self._key_of is not None
        try:
            key = self._key_of(self._decode(record.value))
        except Exception as error:
            logger.warning("table %r: no key in the row at offset %d: %s", self._name, record.offset, error)
            return None
        if key is not None and record.key is not None:
            self._moved[record.key] = key
        return key

    def become(self, other: GlobalTable) -> None:
        """Take over the rows of another."""
        self._rows, self._moved = other._rows, other._moved


@asynccontextmanager
async def global_table(name: str, spec: GlobalTableSpec, log: Log) -> AsyncIterator[GlobalTable]:
    """A table that is complete, and follows its topic until it is closed.

    Raises:
        LogError: it cannot be read, or nothing arrives for `STALL` seconds.
    """
    table = GlobalTable(name, spec)
    reading = _Reading(name, spec, log)
    await reading.load(table)
    following = asyncio.create_task(reading.follow(table), name=f"table {name}")
    try:
        yield table
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


class _Reading:
    """Reads the topic of a table."""

    def __init__(self, name: str, spec: GlobalTableSpec, log: Log) -> None:
        self._name = name
        self._spec = spec
        self._log = log
        self._positions: dict[TopicPartition, int] = {}

    async def load(self, table: GlobalTable) -> None:
        """Read from the start to where the topic ends now."""
        topic = self._spec.topic
        count = (await self._log.partition_counts([topic]))[topic] or 0
        partitions = [TopicPartition(topic, partition) for partition in range(count)]
        ends = await self._log.end_offsets(partitions)
        self._positions = await self._log.start_offsets(partitions)
        last = told = monotonic()
        async with self._reader() as reader:
            while behind := [tp for tp in partitions if self._positions[tp] < ends[tp]]:
                moved = await self._step(table, reader)
                now = monotonic()
                last = now if moved else last
                if now - last > STALL:
                    topic, partition = waits = behind[0]
                    raise LogError(
                        f"table {self._name!r}: nothing arrived for {STALL:g} s from {topic}[{partition}], "
                        f"read to {self._positions[waits]} of {ends[waits]}"
                    )
                if now - told > TELL_EVERY:
                    told = now
                    left = sum(ends[tp] - self._positions[tp] for tp in behind)
                    logger.info("table %r: %d rows read, about %d records left", self._name, len(table), left)
        logger.debug("table %r: complete with %d rows", self._name, len(table))

    async def follow(self, table: GlobalTable) -> None:
        """Read what comes, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._reader() as reader:
                    while True:
                        await self._step(table, reader)
                        pause = FIRST_PAUSE
            except OffsetOutOfRange as error:
                logger.warning("table %r is read anew: its topic was cut (%s)", self._name, error)
                await self._read_anew(table)
            except LogError as error:
                logger.warning("table %r stays as it is for now: %s", self._name, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _read_anew(self, table: GlobalTable) -> None:
        fresh = GlobalTable(self._name, self._spec)
        try:
            await self.load(fresh)
        except LogError as error:
            logger.warning("table %r stays as it is for now: %s", self._name, error)
            await asyncio.sleep(LONGEST_PAUSE)
        else:
            table.become(fresh)

    async def _step(self, table: GlobalTable, reader: Reader) -> bool:
        """Take what has come; whether anything has."""
        fetched = await reader.fetch()
        for records in fetched.values():
            for record in records:
                table.take(record)
        before = self._positions
        self._positions = {tp: reader.position(tp) for tp in before}
        await asyncio.sleep(0)  # a long table must not hold up the loop
        return self._positions != before

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[Reader]:
        reader = self._log.reader()
        reader.assign(self._positions)
        try:
            yield reader
        finally:
            await reader.close()

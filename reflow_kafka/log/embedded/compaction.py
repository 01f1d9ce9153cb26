"""Keeping only the last record of each key of changelogs and lane records.

A record may be dropped as soon as a later one with the same key is there, whatever else happened: so a
partition is rewritten a few batches at a time, each step atomic, and a crash in between only leaves some
records for next time. Offsets never change.

A tombstone has to stay for a while after it has become the oldest record of its key: who follows the
partition from an older position would otherwise never hear that the key is gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
from rocksdict import WriteBatch

from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.embedded.layout import Compaction, encode_batch
from reflow_kafka.log.embedded.storage import RocksStorage
from reflow_kafka.log.local import LocalBatch, LocalRecord

MIN_RECORDS = 10_000
MAX_KEYS = 500_000  # held in memory at a time: some 100 MB at most
TOMBSTONE_RETENTION = 24 * 3600.0
_GROUP_BYTES = 256 * 1024  # small batches are put together up to this size


class Compactor:
    """Compacts the partitions of one storage, one after the other."""

    def __init__(
        self,
        storage: RocksStorage,
        *,
        min_records: int = MIN_RECORDS,
        max_keys: int = MAX_KEYS,
        tombstone_retention: float = TOMBSTONE_RETENTION,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._storage = storage
        self._min_records = min_records
        self._max_keys = max_keys
        self._retention = tombstone_retention
        self._clock = clock
        self._states: dict[TopicPartition, Compaction] = {}
        self._busy = False

    async def run(self, stable: dict[TopicPartition, int]) -> None:
        """Compact the partitions that are worth it, each below the offset given."""
        if self._busy:
            return
        self._busy = True
        try:
            for tp, upto in stable.items():
                state = self._state(tp)
                if upto - state.upto > max(self._min_records, 2 * state.live):
                    await self._compact(tp, upto)
        finally:
            self._busy = False

    def forget(self) -> None:
        """The storage was closed."""
        self._states = {}

    def _state(self, tp: TopicPartition) -> Compaction:
        state = self._states.get(tp)
        if state is None:
            value = self._storage.db.get(self._storage.key(b"C", tp))
            state = Compaction() if value is None else msgspec.msgpack.decode(value, type=Compaction)
            self._states[tp] = state
        return state

    async def _compact(self, tp: TopicPartition, upto: int) -> None:
        """Several rounds if there are more new keys than fit into memory."""
        while self._state(tp).upto < upto:
            last, end = await self._last_offsets(tp, self._state(tp).upto, upto)
            await self._round(tp, last, end)

    async def _last_offsets(self, tp: TopicPartition, start: int, upto: int) -> tuple[dict[bytes, int], int]:
        """The last offset of each key from `start` on, and how far this looked."""
        last: dict[bytes, int] = {}
        while len(last) < self._max_keys:
            batch = self._storage.next_batch(tp, start, upto)
            if batch is None:
                return last, upto
            if not batch.aborted:
                last.update((record.key, record.offset) for record in batch.records if record.key is not None)
            start = batch.end
            await asyncio.sleep(0)
        return last, start

    async def _round(self, tp: TopicPartition, last: dict[bytes, int], end: int) -> None:
        """Drop what these keys make superfluous below `end`."""
        state = self._state(tp)
        ripe = self._clock() - state.horizon_at >= self._retention
        gone_below = state.horizon if ripe else 0
        group = _Group(self._storage, tp)
        live = position = 0
        while batch := self._storage.next_batch(tp, position, end):
            position = batch.end
            kept = [] if batch.aborted else [r for r in batch.records if _stays(r, last, gone_below)]
            live += len(kept)
            group.add(batch, kept)
            await asyncio.sleep(0)
        group.write()
        new = Compaction(end, live, state.horizon, state.horizon_at)
        if ripe:
            new.horizon, new.horizon_at = end, self._clock()
        done = WriteBatch(raw_mode=True)
        done.put(self._storage.key(b"C", tp), msgspec.msgpack.encode(new))
        self._storage.commit(done)
        self._states[tp] = new


def _stays(record: LocalRecord, last: dict[bytes, int], gone_below: int) -> bool:
    if record.key is None:
        return True
    if record.value is None and record.offset < gone_below:
        return False
    return last.get(record.key, -1) <= record.offset


class _Group:
    """Neighbouring batches whose remaining records become one batch, in one step."""

    def __init__(self, storage: RocksStorage, tp: TopicPartition) -> None:
        self._storage = storage
        self._tp = tp
        self._bases: list[int] = []
        self._records: list[LocalRecord] = []
        self._size = 0
        self._changed = False

    def add(self, batch: LocalBatch, kept: list[LocalRecord]) -> None:
        """Take in what is left of the next batch."""
        left = batch.size * len(kept) // max(1, len(batch.records))
        if self._size and self._size + left > _GROUP_BYTES:
            self.write()
        self._changed = self._changed or bool(self._bases) or len(kept) < len(batch.records)
        self._bases.append(batch.base)
        self._records += kept
        self._size += left

    def write(self) -> None:
        """Replace the batches taken in, if anything about them changes."""
        if self._changed:
            step = WriteBatch(raw_mode=True)
            keys = [self._storage.batch_key(self._tp, base) for base in self._bases]
            for key in keys:
                step.delete(key)
            if self._records:
                step.put(keys[0], encode_batch(LocalBatch.of(self._bases[0], self._records)))
            self._storage.commit(step)
        self._bases, self._records, self._size, self._changed = [], [], 0, False

"""From changelogs to local state: open what can be used of it, and bring it up to date."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reflow_kafka.errors import DataLoss, LogError, OffsetOutOfRange
from reflow_kafka.killpoint import reached
from reflow_kafka.log.api import Log, Reader, Record, TopicPartition
from reflow_kafka.state.judge import MAX_AGE_MS, Full, Lost, Tail, judge
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.store import LaneStores, StateBackend, StoreMark

logger = logging.getLogger(__name__)

_BATCH: Final = 2_000  # records per write: it holds the GIL for 1 to 2 microseconds per record
_WAIT: Final = 0.5  # seconds for which one fetch waits


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """How far a restore has come."""

    flow: str
    lane: int
    reason: str | None
    """Why it is done in full; None: the local state only catches up."""
    records: int
    """Records applied so far."""
    done: int
    """Offsets passed so far …"""
    total: int
    """… of so many."""


@dataclass(frozen=True, slots=True)
class Restored:
    """Stores that are open and complete."""

    stores: LaneStores
    mark: StoreMark
    """Where they stand: never above the ends in the lane record."""
    ends: Mapping[str, int]
    """Changelog topic → where the lane's next commit writes: behind aborted records and markers, too."""
    records: Mapping[str, int]
    """Store → records applied."""
    reason: str | None
    """Why the restore was done in full; None: local state was used."""


async def restore(
    backend: StateBackend,
    log: Log,
    flow: str,
    lane: int,
    changelogs: Mapping[str, str],
    incarnation: str,
    recorded: Mapping[str, int] | None,
    *,
    now: Callable[[], int],
    progress: Callable[[RestoreProgress], None] | None = None,
    stall_timeout: float = 30.0,
    max_age_ms: int = MAX_AGE_MS,
    gentle: bool = False,
) -> Restored:
    """Open the stores of a lane and bring them up to the end of their changelogs.

    Args:
        backend: where local state lives.
        log: where the changelogs live.
        flow: name of the flow.
        lane: the lane, which is also the partition of all its changelogs.
        changelogs: store → changelog topic. A lane without stores gets empty ones that touch no disk.
        incarnation: the lane's history, from its lane record, or a new one if it has none.
        recorded: changelog topic → end, from the lane record; None if the lane has none.
        now: the time, in epoch milliseconds.
        progress: called after each step.
        stall_timeout: seconds without any progress after which it gives up.
        max_age_ms: half of `delete.retention.ms` of the changelogs.
        gentle: leave at least half of the time to others, as nobody waits for it.

    Raises:
        DataLoss: a changelog ends below what the lane record says was written to it.
        LogError: a changelog cannot be read, or nothing arrives for `stall_timeout`.
        StateError: the local disk is full or broken.
    """
    if not changelogs:
        stores = MemoryBackend().open(flow, lane, ())
        return Restored(stores, StoreMark(incarnation, {}, now()), {}, {}, None)
    restoring = _Restore(
        backend,
        log,
        flow,
        lane,
        changelogs,
        incarnation,
        recorded,
        now,
        progress,
        stall_timeout,
        max_age_ms,
        gentle,
    )
    try:
        return await restoring.run()
    except OffsetOutOfRange as error:
        # The log's start has moved past what was being read: what is here is full of holes.
        backend.set_aside(flow, lane, f"its changelogs were cut while they were read: {error}")
        return await restoring.run()


@dataclass(slots=True)
class _Changelog:
    """The changelog of one store, and how far it was read."""

    store: str
    partition: TopicPartition
    start: int
    end: int
    recorded: int | None
    at: int

    @property
    def position(self) -> int:
        """What the mark and the lane record say.

        Above the recorded end there is nothing but the log's own markers: a position there would look like
        one of another history to the next who compares it with the record.
        """
        return self.at if self.recorded is None else min(self.at, max(self.recorded, self.start))

    def __str__(self) -> str:
        return f"{self.partition.topic}[{self.partition.partition}]"


@dataclass(slots=True)
class _Restore:
    backend: StateBackend
    log: Log
    flow: str
    lane: int
    topics: Mapping[str, str]
    incarnation: str
    recorded: Mapping[str, int] | None
    now: Callable[[], int]
    progress: Callable[[RestoreProgress], None] | None
    stall_timeout: float
    max_age_ms: int
    gentle: bool

    async def run(self) -> Restored:
        began = self.now()
        changelogs = await self._look()
        stores, reason = self._open(changelogs, began)
        try:
            mark = stores.mark()
            # Half a full restore is as old as its start: what was read then had not been deleted before.
            caught_up = mark.caught_up if mark is not None else began
            records = await self._read(stores, changelogs, caught_up, reason)
            mark = self._mark(changelogs, began)
            stores.write({}, mark)
        except BaseException:
            stores.close()
            raise
        logger.info(
            "%s lane %d: %d records restored, %s",
            self.flow, self.lane, sum(records.values()), f"in full: {reason}" if reason else "caught up",
        )  # fmt: skip
        ends = {log.partition.topic: log.at for log in changelogs}
        return Restored(stores, mark, ends, records, reason)

    async def _look(self) -> list[_Changelog]:
        """Where the changelogs start and end."""
        partitions = {store: TopicPartition(topic, self.lane) for store, topic in self.topics.items()}
        try:
            async with asyncio.timeout(self.stall_timeout):
                starts = await self.log.start_offsets(partitions.values())
                ends = await self.log.end_offsets(partitions.values(), committed=True)
        except TimeoutError:
            raise LogError(
                f"{self.flow} lane {self.lane}: nobody told within {self.stall_timeout:g} s where the "
                f"changelogs {', '.join(self.topics.values())} end: the broker does not answer"
            ) from None
        recorded = self.recorded or {}
        return [
            _Changelog(store, tp, starts[tp], ends[tp], recorded.get(tp.topic), starts[tp])
            for store, tp in partitions.items()
        ]

    def _open(self, changelogs: list[_Changelog], began: int) -> tuple[LaneStores, str | None]:
        """Open local state that can be used, and set where each changelog is to be read from.

        Returns:
            The stores, and why they have to be restored in full, if they have to.
        """
        known = {log.store: log.recorded for log in changelogs if log.recorded is not None}
        recorded = None if self.recorded is None else known
        starts = {log.store: log.start for log in changelogs}
        ends = {log.store: log.end for log in changelogs}
        if self.recorded is None and (written := [str(log) for log in changelogs if log.end > log.start]):
            logger.warning(
                "%s lane %d has no lane record, but its changelogs are not empty (%s): was %s.progress lost? "
                "State is restored as they have it",
                self.flow, self.lane, ", ".join(written), self.flow,
            )  # fmt: skip
        reason: str | None = None
        while True:
            stores = self.backend.open(self.flow, self.lane, self.topics)
            mark = stores.mark()
            verdict = judge(mark, self.incarnation, recorded, starts, ends, began, self.max_age_ms)
            if isinstance(verdict, Tail):
                for log in changelogs:
                    log.at = verdict.positions[log.store]
                return stores, None
            if isinstance(verdict, Full) and mark is None:
                return stores, reason or verdict.reason
            stores.close()
            if isinstance(verdict, Lost):
                lost = next(log for log in changelogs if log.store == verdict.store)
                raise DataLoss(
                    f"changelog {lost} ends at offset {verdict.found}, but lane {self.lane} of {self.flow} "
                    f"has written it up to offset {verdict.wanted}: state is lost. Bring the topic's "
                    f"records back, or reset the flow to let it start anew"
                )
            reason = verdict.reason
            self.backend.set_aside(self.flow, self.lane, reason)  # perhaps an older copy can be used

    async def _read(
        self, stores: LaneStores, changelogs: list[_Changelog], caught_up: int, reason: str | None
    ) -> dict[str, int]:
        """Apply all records up to the ends; returns how many per store."""
        records = {log.store: 0 for log in changelogs}
        behind = {log.partition: log for log in changelogs if log.at < log.end}
        if not behind:
            return records
        total = sum(log.end - log.at for log in behind.values())
        reader = self.log.reader(committed=True)
        try:
            reader.assign({partition: log.at for partition, log in behind.items()})
            last = time.monotonic()
            while behind:
                fetched = await self._fetch(reader, behind)
                began = time.monotonic()
                changes = {
                    behind[partition].store: [(r.key, r.value) for r in found if r.key is not None]
                    for partition, found in fetched.items()
                }
                if _advance(reader, behind):
                    last = time.monotonic()
                elif time.monotonic() - last >= self.stall_timeout:
                    raise LogError(self._stalled(next(iter(behind.values()))))
                if changes:
                    stores.write(changes, self._mark(changelogs, caught_up))
                    reached("restore.written")
                    for store, pairs in changes.items():
                        records[store] += len(pairs)
                behind = {partition: log for partition, log in behind.items() if log.at < log.end}
                if self.progress is not None:
                    done = total - sum(log.end - log.at for log in behind.values())
                    applied = sum(records.values())
                    self.progress(RestoreProgress(self.flow, self.lane, reason, applied, done, total))
                # Lanes that run get their turn.
                await asyncio.sleep(time.monotonic() - began if self.gentle else 0)
        finally:
            await reader.close()
        return records

    async def _fetch(
        self, reader: Reader, behind: Mapping[TopicPartition, _Changelog]
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """What comes next, or nothing if even that takes too long."""
        try:
            async with asyncio.timeout(self.stall_timeout):
                wait = min(_WAIT, self.stall_timeout / 4)
                return await reader.fetch(list(behind), max_records=_BATCH, timeout=wait)
        except TimeoutError:
            return {}

    def _mark(self, changelogs: list[_Changelog], caught_up: int) -> StoreMark:
        return StoreMark(self.incarnation, {log.store: log.position for log in changelogs}, caught_up)

    def _stalled(self, log: _Changelog) -> str:
        return (
            f"restore of {self.flow} lane {self.lane} stalled: {log} stands at offset {log.at} of {log.end} "
            f"and nothing came for {self.stall_timeout:g} s: the partition's leader does not answer, or the "
            f"records below {log.end} cannot be read"
        )


def _advance(reader: Reader, behind: Mapping[TopicPartition, _Changelog]) -> bool:
    """Take over the reader's positions; whether any has moved."""
    moved = False
    for partition, log in behind.items():
        at = reader.position(partition)
        moved = moved or at > log.at
        log.at = at
    return moved

"""Writing for one lane of a local log."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from reflow_kafka.errors import LaneLost, LogDoubt, LogError, RecordRefused
from reflow_kafka.log.api import BatchBuilder, Commit, CommittedPosition, TopicPartition
from reflow_kafka.log.local.records import RECORD_OVERHEAD, LocalBatch, LocalBuilder, place, record_size
from reflow_kafka.log.local.storage import Change

if TYPE_CHECKING:
    from reflow_kafka.log.local.log import LocalLog

Batches = Mapping[TopicPartition, Sequence[BatchBuilder]]
Placed = list[tuple[TopicPartition, LocalBatch]]


class LocalWriter:
    """A `LaneWriter` of a local log: one transaction after the other."""

    marker = 0

    def __init__(self, log: LocalLog, flow: str, lane: int) -> None:
        self._log = log
        self._flow = flow
        self._lane = lane
        self._open: Placed = []  # sent before their commit
        self._unusable: LogError | None = None

    def __repr__(self) -> str:
        return f"<writer of lane {self._lane} of {self._flow}>"

    def batch(self, *, early: bool = False) -> BatchBuilder:
        """A new, empty builder; whether it is early makes no difference here."""
        return LocalBuilder(self._log.max_batch_bytes)

    async def committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, CommittedPosition | None]:
        """The flow's committed positions; None = none committed."""
        self._check_usable()
        held = self._log.positions.get(self._flow, {})
        return {tp: held.get(TopicPartition(*tp)) for tp in partitions}

    async def send(self, batches: Batches) -> None:
        """Show batches to uncommitted readers before the commit to which they belong."""
        self._check_usable()
        try:
            self._fault("before-send")
            await asyncio.sleep(0)
            self._check_usable()
            self._check_sizes(batches)
            for tp, batch in self._place(batches):
                partition = self._log.partition(tp)
                partition.open.append(batch)
                self._open.append((tp, batch))
                partition.wake()
        except BaseException as error:  # cancelled is unusable, too
            self._fail(error)
            raise

    async def commit(self, commit: Commit) -> dict[TopicPartition, int]:
        """Make everything visible at once; see `LaneWriter.commit`."""
        self._check_usable()
        try:
            self._fault("before-commit")
            # Let others run first: what follows is one step without a pause.
            await asyncio.sleep(0)
            self._check_usable()
            self._check_sizes(commit.batches)
            first = self._write(commit)
            self._answer()
        except BaseException as error:  # cancelled is unusable, too
            self._fail(error)
            raise
        return first

    def _write(self, commit: Commit) -> dict[TopicPartition, int]:
        for tp in commit.positions:
            self._log.partition(tp)
        placed = self._open + self._place(commit.batches)
        positions = {TopicPartition(*tp): position for tp, position in commit.positions.items()}
        touched = dict.fromkeys([tp for tp, _ in placed] + list(positions))
        ends = {tp: self._log.partition(tp).end for tp in touched}
        self._log.write(Change(batches=placed, ends=ends, flow=self._flow, positions=positions))
        self._settle()
        first: dict[TopicPartition, int] = {}
        for tp, batch in placed:
            first.setdefault(tp, batch.base)
            self._log.partition(tp).wake()
        return first

    def _place(self, batches: Batches) -> Placed:
        """Give the records of builders their offsets."""
        placed: Placed = []
        for tp, builders in batches.items():
            partition = self._log.partition(tp)
            for builder in builders:
                assert isinstance(builder, LocalBuilder), "builders come from batch() of the same log"
                batch = place(builder, partition.end)
                if builder.record_count():
                    partition.end = batch.end
                    placed.append((partition.name, batch))
        return placed

    def _check_sizes(self, batches: Batches) -> None:
        limit = self._log.max_record_bytes
        refused = [
            tp
            for tp, builders in batches.items()
            for builder in builders
            # Only a builder about as large as the limit can hold a record that is larger.
            if builder.size() + RECORD_OVERHEAD > limit and _largest(builder) > limit
        ]
        if refused:
            raise RecordRefused(f"a record is larger than the {limit:,} bytes that this log takes", refused)

    def _answer(self) -> None:
        """The moment in which the answer to a commit that is done may get lost."""
        try:
            self._fault("after-commit")
        except Exception as error:
            raise LogDoubt(f"the answer to a commit of lane {self._lane} of {self._flow} was lost") from error

    def _settle(self) -> None:
        """The open batches are no longer open: committed or aborted, they are in the storage now."""
        for tp, batch in self._open:
            self._log.partition(tp).open.remove(batch)
        self._open = []

    def abort(self, reason: LogError) -> None:
        """Settle the open transaction: its records will never be visible to committed readers."""
        self._unusable = reason
        aborted = self._open
        if not aborted:
            return
        for _, batch in aborted:
            batch.aborted = True
        try:
            ends = {tp: self._log.partition(tp).end for tp, _ in aborted}
            self._log.write(Change(batches=aborted, ends=ends))
        finally:  # a log that takes no more writes shows them to nobody
            self._settle()
            for tp, _ in aborted:
                self._log.partition(tp).wake()

    def _fault(self, point: str) -> None:
        self._log.fault(point, self._flow, self._lane)

    def _fail(self, error: BaseException) -> None:
        if self._unusable is None:
            self._unusable = LogError(f"{self!r} failed before: {error!r}")

    def _check_usable(self) -> None:
        self._log.check_open()
        if self._unusable is not None:
            raise self._unusable

    async def close(self) -> None:
        """Give up the writer and abort what is open."""
        self._log.give_up(self._flow, self._lane, self)


def lost(flow: str, lane: int) -> LaneLost:
    """What a writer is told whose lane was taken over."""
    return LaneLost(f"lane {lane} of {flow} was taken over")


def _largest(builder: BatchBuilder) -> int:
    assert isinstance(builder, LocalBuilder)
    return max(map(record_size, builder.records()))

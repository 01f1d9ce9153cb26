"""Topics, partitions and transactions in one process; where they are kept is the storage's affair.

Everything runs on one event loop, and whatever changes something does so without a pause: that is what
makes take-overs and commits atomic towards everybody else in the process; `Storage.write` makes them so
towards a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from reflow_kafka.errors import LogError, RecordRefused, TopologyMismatch
from reflow_kafka.log.api import (
    LaneWriter,
    MemberOptions,
    Membership,
    OutRecord,
    Reader,
    TopicKind,
    TopicPartition,
    TopicSpec,
)
from reflow_kafka.log.local.membership import LocalGroup, LocalMembership
from reflow_kafka.log.local.partition import Partition
from reflow_kafka.log.local.reader import LocalReader
from reflow_kafka.log.local.records import (
    MAX_BATCH_BYTES,
    MAX_RECORD_BYTES,
    LocalBatch,
    LocalBuilder,
    place,
    record_size,
)
from reflow_kafka.log.local.retention import Retention
from reflow_kafka.log.local.storage import COMPACTED, Change, Positions, Storage
from reflow_kafka.log.local.writer import LocalWriter, lost

Faults = Callable[[str, str, int], None]
"""Called with a point, a flow and a lane ("" and -1 where there is none); what it raises happens there.

Points: ``take-over``, ``before-send``, ``before-commit``, ``after-commit`` (the commit is done, its answer
gets lost: whatever is raised becomes `LogDoubt`), ``fetch``.
"""


class LocalLog:
    """A `Log` in one process, over a storage."""

    name = "local"

    def __init__(
        self,
        storage: Storage,
        *,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_record_bytes: int = MAX_RECORD_BYTES,
        faults: Faults | None = None,
    ) -> None:
        self.max_batch_bytes = max_batch_bytes
        self.max_record_bytes = max_record_bytes
        self.positions: dict[str, Positions] = {}
        self._storage = storage
        self._faults = faults
        self._topics: dict[str, TopicSpec] = {}
        self._partitions: dict[TopicPartition, Partition] = {}
        self._writers: dict[tuple[str, int], LocalWriter] = {}
        self._groups: dict[str, LocalGroup] = {}
        self._users = 0
        self._retention = Retention()

    # --- life

    async def start(self) -> None:
        """Open the storage; engines of one process may share a log, and the last to stop closes it."""
        if self._users == 0:
            self._load()
        self._users += 1

    def _load(self) -> None:
        contents = self._storage.open()
        self._topics = contents.topics
        self.positions = contents.positions
        self._partitions = {}
        for spec in contents.topics.values():
            for tp in partitions_of(spec):
                start, end = contents.starts.get(tp, 0), contents.ends.get(tp, 0)
                self._partitions[tp] = Partition(tp, self._storage, start, end)

    async def stop(self) -> None:
        """Abort what is open and close the storage, if nobody else uses the log."""
        if self._users != 1:
            self._users = max(0, self._users - 1)
            return
        for flow, lane in list(self._writers):
            self.give_up(flow, lane)
        self._users = 0
        for partition in self._partitions.values():
            partition.wake()  # whoever waits for records learns that the log is closed
        self._storage.close()

    def check_open(self) -> None:
        """Raise if the log is not open."""
        if self._users == 0:
            raise LogError(f"the {self.name} log is closed")

    # --- topics

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int | None]:
        """How many partitions each topic has; None if it does not exist."""
        self.check_open()
        return {name: spec.partitions if (spec := self._topics.get(name)) else None for name in topics}

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create what is missing, then verify what is there; see `Log.ensure_topics`."""
        self.check_open()
        for spec in topics:
            if found := self._topics.get(spec.name):
                _verify(spec, found)
        if missing := {spec.name: spec for spec in topics if spec.name not in self._topics}:
            self._storage.write(Change(topics=list(missing.values())))
        for spec in missing.values():
            self._topics[spec.name] = spec
            for tp in partitions_of(spec):
                self._partitions[tp] = Partition(tp, self._storage, 0, 0)
        return []

    async def grow_topic(self, topic: str, partitions: int) -> None:
        """Give an existing topic as many partitions."""
        self.check_open()
        found = self._topics.get(topic)
        if found is None:
            raise LogError(f"there is no topic {topic!r} in the {self.name} log")
        if found.partitions >= partitions:
            return
        spec = replace(found, partitions=partitions)
        self._storage.write(Change(topics=[spec]))
        self._topics[topic] = spec
        for tp in partitions_of(spec):
            self._partitions.setdefault(tp, Partition(tp, self._storage, 0, 0))

    def partition(self, name: TopicPartition) -> Partition:
        """What is known about a partition.

        Raises:
            LogError: there is no such partition.
        """
        found = self._partitions.get(name)
        if found is None:
            self.check_open()
            raise LogError(f"there is no topic {name[0]!r} with a partition {name[1]} in the {self.name} log")
        return found

    # --- offsets

    async def start_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset of the first record still kept."""
        self.check_open()
        return {tp: self.partition(tp).start for tp in partitions}

    async def end_offsets(
        self, partitions: Collection[TopicPartition], *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        """Offset after the last record; with `committed`, of the last one a committed reader can see."""
        self.check_open()
        found = {tp: self.partition(tp) for tp in partitions}
        return {tp: partition.stable if committed else partition.end for tp, partition in found.items()}

    async def trim(self, positions: Mapping[TopicPartition, int]) -> None:
        """Forget the records below these offsets, none of an open transaction; and old replies."""
        self.check_open()
        replies = self._partitions_of(TopicKind.REPLIES)
        expired = self._retention.expired({tp: p.end for tp, p in replies.items()}, _now())
        starts = {}
        for tp, offset in {**positions, **expired}.items():
            partition = self.partition(tp)
            start = min(offset, partition.stable)
            if start > partition.start:
                starts[partition.name] = start
        if starts:
            self.write(Change(starts=starts, ends={tp: self.partition(tp).end for tp in starts}))
            for tp, start in starts.items():
                self.partition(tp).start = start
        compacted = self._partitions_of(*COMPACTED)
        await self._storage.maintain({tp: partition.stable for tp, partition in compacted.items()})

    def _partitions_of(self, *kinds: TopicKind) -> dict[TopicPartition, Partition]:
        """The partitions of all topics of these kinds."""
        specs = [spec for spec in self._topics.values() if spec.kind in kinds]
        return {tp: self.partition(tp) for spec in specs for tp in partitions_of(spec)}

    # --- records

    async def publish(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        """Append records outside any lane; a crash of the process does not undo it once it returned."""
        self.check_open()
        target = self.partition(TopicPartition(topic, partition))
        limit = self.max_record_bytes
        if any(record_size(record) > limit for record in records):
            raise RecordRefused(f"a record is larger than the {limit:,} bytes allowed", [target.name])
        end = target.end
        batches = []
        for builder in self._filled(records):
            batch = place(builder, end)
            end = batch.end
            batches.append((target.name, batch))
        self._append(target, batches, end)

    def _filled(self, records: Sequence[OutRecord]) -> list[LocalBuilder]:
        builders: list[LocalBuilder] = []
        for key, value, timestamp, headers in records:
            if not builders or not builders[-1].append(
                timestamp=timestamp, key=key, value=value, headers=headers
            ):
                builders.append(LocalBuilder(self.max_batch_bytes))
                builders[-1].append(timestamp=timestamp, key=key, value=value, headers=headers)
        return builders

    def _append(self, target: Partition, batches: list[tuple[TopicPartition, LocalBatch]], end: int) -> None:
        if batches:
            self.write(Change(batches=batches, ends={target.name: end}))
            target.end = end
            target.wake()

    def write(self, change: Change) -> None:
        """Keep a change, and remember the positions in it."""
        self.check_open()
        self._storage.write(change)
        if change.positions:
            self.positions.setdefault(change.flow, {}).update(change.positions)

    def reader(self, *, committed: bool = True) -> Reader:
        """A new reader; with `committed` False it also sees records of open and aborted transactions."""
        return LocalReader(self, committed=committed)

    # --- lanes

    def membership(self, options: MemberOptions) -> Membership:
        """A membership in the group of a flow; all members of a group share this log object."""
        return LocalMembership(self._groups.setdefault(options.flow, LocalGroup()), options)

    async def take_over(self, flow: str, lane: int) -> LaneWriter:
        """Fence the lane's former writer, settle its open transaction, and become its writer."""
        self.check_open()
        self.fault("take-over", flow, lane)
        if former := self._writers.pop((flow, lane), None):
            former.abort(lost(flow, lane))
        writer = self._writers[flow, lane] = LocalWriter(self, flow, lane)
        return writer

    def give_up(self, flow: str, lane: int, writer: LocalWriter | None = None) -> None:
        """End the lane's writer if it is (still) this one; never raises."""
        current = self._writers.get((flow, lane))
        if current is None or (writer is not None and current is not writer):
            return
        del self._writers[flow, lane]
        with contextlib.suppress(LogError):
            current.abort(LogError(f"{current!r} was closed"))

    def fault(self, point: str, flow: str = "", lane: int = -1) -> None:
        """Let a test make something go wrong here."""
        if self._faults is not None:
            self._faults(point, flow, lane)


def _now() -> float:
    return asyncio.get_running_loop().time()


def partitions_of(spec: TopicSpec) -> list[TopicPartition]:
    """All partitions of a topic."""
    return [TopicPartition(spec.name, partition) for partition in range(spec.partitions)]


def _verify(wanted: TopicSpec, found: TopicSpec) -> None:
    if wanted.kind is TopicKind.EXTERNAL:
        return
    if wanted.partitions != found.partitions:
        raise TopologyMismatch(
            f"topic {wanted.name!r} has {found.partitions} partitions, the flow needs {wanted.partitions}: "
            f"give the flow {found.partitions} partitions, or a new name"
        )
    if (wanted.kind in COMPACTED) != (found.kind in COMPACTED):
        policy = "compacted" if found.kind in COMPACTED else "not compacted"
        raise TopologyMismatch(
            f"topic {wanted.name!r} is {policy}, which a topic for {wanted.kind.value} must not be: "
            f"it was made for {found.kind.value}; give the flow a new name"
        )

"""The seam between the engine and where the topics live.

A log keeps partitioned, ordered, durable records. Three implementations stand behind this seam: Kafka,
the embedded log (RocksDB, one process) and the memory log (tests). The engine does not know which one it
is on; `tests/log/contract.py` holds what all of them must do.

Rules that every implementation keeps:

* A *lane writer* is the only one that writes for its lane. Taking a lane over fences the predecessor and
  settles its open transaction; whatever the predecessor does afterwards raises `LaneLost`.
* A commit is atomic: outputs, changelog records, lane record and positions become visible together to
  readers that read committed records, or never.
* After any error a lane writer is unusable: throw it away and take the lane over again.
* Offsets only grow within a partition but may have gaps (transaction markers, compaction): "caught up"
  is judged by `Reader.position`, never by the last record seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from reflow_kafka.topology.topics import TopicKind as TopicKind  # noqa: PLC0414 - part of the seam
from reflow_kafka.topology.topics import TopicSpec as TopicSpec  # noqa: PLC0414


class TopicPartition(NamedTuple):
    """A partition of a topic. Equal to, and hashed like, any client's (topic, partition) tuple."""

    topic: str
    partition: int


class Record(Protocol):
    """A record as read. Client records are used as they come: no copy on the hot path."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


Headers = list[tuple[str, bytes | None]]


class BatchBuilder(Protocol):
    """Collects records for one partition; bounded in bytes."""

    def append(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ...
    ) -> object | None:
        """Add a record; None if it no longer fits (a first record always fits)."""

    def size(self) -> int:
        """Bytes collected so far."""

    def record_count(self) -> int:
        """Records collected so far."""


@dataclass(frozen=True, slots=True)
class CommittedPosition:
    """A position the group committed, with its metadata."""

    offset: int
    metadata: str = ""


@dataclass(slots=True)
class Commit:
    """The content of one commit of one lane."""

    batches: dict[TopicPartition, list[BatchBuilder]] = field(default_factory=dict)
    positions: dict[TopicPartition, CommittedPosition] = field(default_factory=dict)


class LaneWriter(Protocol):
    """What the owner of a lane writes through. One user, one commit at a time; unusable after any error."""

    marker: int
    """Offsets that a commit takes, beyond its records, in each partition it wrote to (Kafka: 1)."""

    def batch(self, *, early: bool = False) -> BatchBuilder:
        """A new, empty builder for one partition of any topic.

        Args:
            early: it is going to be handed to `send`, not to `commit`.
        """

    async def committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, CommittedPosition | None]:
        """The group's settled positions (never one with a transaction pending); None = none committed."""

    async def send(self, batches: Mapping[TopicPartition, Sequence[BatchBuilder]]) -> None:
        """Hand early batches over before the commit (at-least-once).

        Readers of uncommitted records see them now, others at the latest when the next `commit` is done;
        whether anybody sees them if it fails is open. Returns when they are handed over, not acknowledged.
        """

    async def commit(self, commit: Commit) -> dict[TopicPartition, int]:
        """Make everything visible at once; returns the offset of the first record written per partition.

        Raises:
            LaneLost: another owner took over; nothing of this commit is, or will be, visible.
            LogDoubt: the outcome is unknown: take over and read the committed positions.
            RecordRefused: the log refuses some of the records for what they are.
            NotPermitted: authorisation or policy.
        """

    async def close(self) -> None:
        """Give up the writer; never raises, never waits for longer than a few seconds."""


class Reader(Protocol):
    """Reads chosen partitions from chosen positions; no group, no commit, untouched by rebalances."""

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions from now on, starting at these offsets."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue one assigned partition at `offset`."""

    async def fetch(
        self,
        partitions: Collection[TopicPartition] | None = None,
        *,
        max_records: int = 2000,
        timeout: float = 0.5,
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """The next records, in offset order per partition; empty when there is nothing within `timeout` s.

        Cancelling it loses nothing: what it would have returned is returned by the next call.

        Args:
            partitions: only these (None: all that are assigned); others keep what is buffered for them.
            max_records: at most this many in all.

        Raises:
            OffsetOutOfRange: the position of a partition is below the log's start or above its end.
            LogError: anything else that does not heal by itself.
        """

    def position(self, partition: TopicPartition) -> int:
        """Offset of the next record to be returned; moves past transaction markers and gaps."""

    def behind(self, partition: TopicPartition) -> bool:
        """Whether there may be more than was returned: it is known, or nothing is known of the end yet."""

    async def close(self) -> None:
        """Release connections; never raises."""


class Membership(Protocol):
    """This engine's part in the division of a flow's lanes. Level-triggered: look, then wait for a change.

    `wanted()` is what this member should run. To follow it, open what is wanted and not running, stop what
    runs and is not wanted, and report each stop with `released`. A lane never stands in two members'
    `wanted()` for longer than it takes the older claim to notice.
    """

    @property
    def run(self) -> str:
        """Identity of this run of the flow: shared by all members, new when the group starts afresh."""

    async def start(self) -> None:
        """Join; returns once the first assignment (perhaps an empty one) is known."""

    def wanted(self) -> frozenset[int]:
        """The lanes this member should run now."""

    def standbys(self) -> frozenset[int]:
        """The lanes of others to keep a copy of here, so that they can come here without delay."""

    def lags(self, lags: Mapping[int, int | None]) -> None:
        """Told by the engine, again and again: how many records its copies are behind (None: unknown)."""

    async def changed(self) -> None:
        """Returns after the next change of `wanted()`, of `standbys()`, or of `proof()`'s validity.

        Raises:
            ReflowError: membership is lost for good (plan refused, main loop stalled, not permitted).
        """

    def released(self, lane: int) -> None:
        """The lane's work has stopped here; it may be given to another member."""

    def proof(self) -> float:
        """`clock.monotonic()` when the coordinator last confirmed this membership; -inf if not at present."""

    def alive(self) -> None:
        """Told by the engine's main loop, again and again, that it makes progress."""

    def end_run(self) -> None:
        """Announce that this run of the flow has ended: from now on no lane is assigned to anybody in it.

        It takes effect with the next division of lanes, which this call brings about. A member that joins
        only now waits, with no lanes, until all members of the ended run have left; then a new run begins.
        """

    async def stop(self) -> None:
        """Leave the group; never raises."""


MAX_STANDBYS: Final = 100
"""Copies of a lane's state that can be asked for."""


@dataclass(frozen=True, slots=True)
class MemberOptions:
    """How a member presents itself to its group."""

    flow: str
    lanes: int
    plan: str  # hash of the flow's plan; lanes go only to members with the newest
    started: int  # epoch ms at which this plan was started here: decides which plan is newest
    instance: str | None = None  # static identity of a supervised engine
    standbys: int = 0  # copies wanted of each lane's state: the largest wish counts
    kept: frozenset[int] = frozenset()  # lanes that there is local state of


class Log(Protocol):
    """Where the topics live."""

    name: str
    """``kafka``, ``embedded`` or ``memory``: for messages, never for decisions."""

    async def start(self) -> None:
        """Connect or open.

        Raises:
            BrokerUnavailable: nobody answered within the time limit.
        """

    async def stop(self) -> None:
        """Close; never raises."""

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int | None]:
        """How many partitions each topic has; None if it does not exist."""

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create what is missing, then verify what is there; returns warnings.

        Raises:
            TopologyMismatch: an internal topic has the wrong partition count or clean-up policy.
        """

    async def grow_topic(self, topic: str, partitions: int) -> None:
        """Give an existing topic as many partitions; their number never shrinks."""

    async def start_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset of the first record still kept."""

    async def end_offsets(
        self, partitions: Collection[TopicPartition], *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        """Offset after the last record; with `committed`, of the last one a committed reader can see."""

    async def trim(self, positions: Mapping[TopicPartition, int]) -> None:
        """Forget the records below these offsets."""

    async def publish(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        """Append records outside any lane (command line, marks); durable when it returns."""

    def reader(self, *, committed: bool = True) -> Reader:
        """A new reader; with `committed` False it also sees records of open and aborted transactions."""

    def membership(self, options: MemberOptions) -> Membership:
        """This process's membership in the group of a flow."""

    async def take_over(self, flow: str, lane: int) -> LaneWriter:
        """Fence the lane's former writer, settle its open transaction, and become its writer.

        Raises:
            LogDoubt: it did not finish within its deadline.
            NotPermitted: authorisation or policy.
        """


class OutRecord(NamedTuple):
    """A record to be published."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers = []  # noqa: RUF012 - never changed: appended from, not to

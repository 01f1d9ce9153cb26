"""A broker like Kafka's over the memory log: a commit is many requests, and its markers come one by one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import zlib
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from reflow_kafka.errors import LaneLost, LogDoubt, LogError
from reflow_kafka.log.api import (
    Commit,
    CommittedPosition,
    LaneWriter,
    MemberOptions,
    Membership,
    OutRecord,
    Reader,
    TopicPartition,
    TopicSpec,
)
from reflow_kafka.log.kafka.membership import KafkaMembership
from reflow_kafka.log.local import Change, LocalLog, LocalReader, LocalWriter
from reflow_kafka.log.local.reader import Fetched
from reflow_kafka.log.local.writer import Batches, Placed
from reflow_kafka.log.memory import MemoryLog
from tests.simulation.coordinator import Coordinator
from tests.simulation.loop import SimulatedLoop, check_alive, this_machine
from tests.simulation.network import Later, Network, after

T = TypeVar("T")

TRANSACTION_TIMEOUT = 10.0


class SimulatedReader(LocalReader):
    """A reader over the network, whose place in a set does not depend on where it lies in memory."""

    number: int
    network: Network

    async def fetch(self, *arguments: Any, **options: Any) -> Fetched:
        if this_machine() is not None:
            await self.network.pause("the fetch", loss=0.1, reader=self.number)
        return await super().fetch(*arguments, **options)

    def __hash__(self) -> int:
        return self.number


class SimulatedLog(MemoryLog):
    """What machines see through the network, and the world at once."""

    def __init__(self, network: Network, group_network: Network, *, record_limit: int, marker: int) -> None:
        super().__init__(max_record_bytes=record_limit)
        self.network = network
        self._group_network = group_network
        self.marker = marker
        self.coordinators: dict[str, Coordinator] = {}
        self.commits = 0
        self.refusals = 0
        """Requests of writers that had lost their lane."""
        self._numbers = itertools.count(1)

    async def _ask(self, what: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if this_machine() is None:
            return await work()
        return await self.network.call(what, lambda: _at_once(work()))

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int | None]:
        return await self._ask("partition counts", lambda: LocalLog.partition_counts(self, topics))

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> list[str]:
        return await self._ask("topics", lambda: LocalLog.ensure_topics(self, topics))

    async def start_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._ask("starts", lambda: LocalLog.start_offsets(self, partitions))

    async def end_offsets(
        self, partitions: Collection[TopicPartition], *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        return await self._ask("ends", lambda: LocalLog.end_offsets(self, partitions, committed=committed))

    async def trim(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._ask("trimming", lambda: LocalLog.trim(self, positions))

    async def publish(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        await self._ask("publishing", lambda: LocalLog.publish(self, topic, partition, records))

    def reader(self, *, committed: bool = True) -> Reader:
        reader = SimulatedReader(self, committed=committed)
        reader.number, reader.network = next(self._numbers), self.network
        return reader

    def membership(self, options: MemberOptions) -> Membership:
        coordinator = self.coordinators.setdefault(options.flow, Coordinator(options.lanes))
        link = {"coordinator": coordinator, "network": self._group_network}
        return KafkaMembership("simulated:9092", options, client_options=link)

    async def take_over(self, flow: str, lane: int) -> LaneWriter:
        def arrive() -> SimulatedWriter:
            former = self._writers.get((flow, lane))
            if isinstance(former, SimulatedWriter):
                former.fence()
                if former.unmarked:
                    raise Later
            writer = self._writers[flow, lane] = SimulatedWriter(self, flow, lane)
            return writer

        return await self.network.call("the take-over", arrive)

    def left_open(self) -> list[TopicPartition]:
        """Partitions with a transaction that is not settled."""
        return [tp for tp, partition in self._partitions.items() if partition.open]

    def note(self, lane: int, what: object) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        loop.note(lane, zlib.crc32(repr(what).encode()))


class SimulatedWriter(LocalWriter):
    """A transactional producer: what it knows, and what the broker knows of it."""

    def __init__(self, log: SimulatedLog, flow: str, lane: int) -> None:
        super().__init__(log, flow, lane)
        self.log = log
        self.marker = log.marker
        self.unmarked = 0
        """Partitions that still wait for the marker of a transaction that is decided (the broker's)."""
        self._fenced: LogError | None = None  # the broker's
        self._broken = ""  # the client's
        self._expiry: asyncio.Handle | None = None
        self._touched: set[TopicPartition] = set()

    # ---- the client

    async def committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, CommittedPosition | None]:
        held = self.log.positions.get(self._flow, {})
        return await self._call("positions", lambda: {tp: held.get(TopicPartition(*tp)) for tp in partitions})

    async def send(self, batches: Batches) -> None:
        with self._one_failure():
            await self._produce(batches)

    async def commit(self, commit: Commit) -> dict[TopicPartition, int]:
        with self._one_failure():
            first = await self._produce(commit.batches)
            await self._call("the positions", lambda: self._arrive(self._check_size_of, commit))
            await self._call("the end", lambda: self._arrive(self._decide, commit))
            return first

    async def _produce(self, batches: Batches) -> dict[TopicPartition, int]:
        """A request for each partition, all of them at once: some may arrive and others not."""
        sending = [
            asyncio.ensure_future(
                self._call(
                    f"writing to {tp}",
                    lambda tp=tp, builders=builders: self._arrive(self._append, tp, builders),
                )
            )
            for tp, builders in batches.items()
            if any(builder.record_count() for builder in builders)
        ]
        try:
            answers = await asyncio.gather(*sending)
        except BaseException:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            raise
        return {placed[0][0]: placed[0][1].base for placed in answers}

    async def _call(self, what: str, effect: Callable[[], T]) -> T:
        if self._broken:
            raise LogDoubt(f"{self!r} can no longer be used: {self._broken}")
        return await self.log.network.call(what, effect)

    @contextlib.contextmanager
    def _one_failure(self) -> Any:
        try:
            yield
        except BaseException as error:
            self._broken = self._broken or repr(error)
            raise

    async def close(self) -> None:
        check_alive()
        if not self._broken and self._open:
            with contextlib.suppress(LogError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._call("the abort", lambda: self._arrive(self._abort))
        self._broken = self._broken or "closed"

    # ---- the broker

    def _arrive(self, effect: Callable[..., T], *arguments: Any) -> T:
        if self._fenced is not None:
            self.log.refusals += 1
            raise self._fenced
        if self.unmarked:
            raise Later
        return effect(*arguments)

    def _append(self, tp: TopicPartition, builders: Any) -> Placed:
        self._check_sizes({tp: builders})
        if self._expiry is None:
            self._expiry = after(TRANSACTION_TIMEOUT, self._expire)
        partition = self.log.partition(tp)
        placed = self._place({tp: builders})
        for _, batch in placed:
            partition.open.append(batch)
            self._open.append((partition.name, batch))
        self._touched.add(partition.name)
        partition.wake()
        return placed

    def _check_size_of(self, commit: Commit) -> None:
        for tp in commit.positions:
            self.log.partition(tp)

    def _decide(self, commit: Commit) -> None:
        """The transaction is committed. Its records become visible partition by partition."""
        positions = {TopicPartition(*tp): position for tp, position in commit.positions.items()}
        before = self.log.positions.get(self._flow, {})
        for tp, position in positions.items():
            assert tp not in before or before[tp].offset <= position.offset, f"{tp} went back to {position}"
        ends = {tp: self.log.partition(tp).end for tp in self._touched}
        self.log.write(Change(batches=self._open, ends=ends, flow=self._flow, positions=positions))
        self.log.commits += 1
        self.log.note(self._lane, [(tp, batch.base, batch.end) for tp, batch in self._open])
        self.log.note(self._lane, sorted(positions.items()))
        self._finish()

    def _abort(self) -> None:
        for _, batch in self._open:
            batch.aborted = True
        ends = {tp: self.log.partition(tp).end for tp in self._touched}
        self.log.write(Change(batches=self._open, ends=ends))
        self._finish()

    def _finish(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        batches, self._open = self._open, []
        touched, self._touched = sorted(self._touched), set()
        self.unmarked = len(touched)
        for tp in touched:
            mine = [batch for name, batch in batches if name == tp]
            after(self.log.network._delay(), lambda tp=tp, mine=mine: self._mark(tp, mine))

    def _mark(self, tp: TopicPartition, batches: Sequence[Any]) -> None:
        partition = self.log.partition(tp)
        for batch in batches:
            partition.open.remove(batch)
        partition.end += self.marker
        self.unmarked -= 1
        partition.wake()

    def _expire(self) -> None:
        self._expiry = None
        self.fence()

    def fence(self) -> None:
        """Nothing that this writer sends will have any effect any more."""
        if self._fenced is None:
            self._fenced = LaneLost(f"lane {self._lane} of {self._flow} was taken over")
            if self._touched:
                self._abort()


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    work.close()
    raise AssertionError(f"{work} waits")

"""A lane's writer on Kafka: a transactional producer, a transaction per commit, one failure per writer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any

from aiokafka import OffsetAndMetadata
from aiokafka import TopicPartition as ClientPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError, NoError, for_code

from reflow_kafka.errors import LogDoubt, LogError
from reflow_kafka.killpoint import reached
from reflow_kafka.log.api import BatchBuilder, Commit, CommittedPosition, TopicPartition
from reflow_kafka.log.kafka import library
from reflow_kafka.log.kafka.ahead import Ahead
from reflow_kafka.log.kafka.deliveries import Batches, Deliveries, filled
from reflow_kafka.log.kafka.discard import discard_producer, forget_positions
from reflow_kafka.log.kafka.errors import UnstableOffsetCommit, classify, worst
from reflow_kafka.log.kafka.fast import shorten_writing
from reflow_kafka.log.kafka.requests import StableOffsetFetch

TRANSACTION_TIMEOUT_MS = 10_000
METADATA_LIMIT = 4096  # bytes per position that a broker accepts: its `offset.metadata.max.bytes`

_DEFAULTS: dict[str, Any] = {
    "max_batch_size": 512 * 1024,
    "linger_ms": 0,
    "enable_idempotence": True,
    "request_timeout_ms": TRANSACTION_TIMEOUT_MS,
}
_RETRY_BACKOFF = 0.02


class KafkaLaneWriter:
    """Writes for one lane as the producer `<flow>-lane-<p>`; made by `open`, unusable after any error."""

    marker = 1
    """The marker that ends a transaction takes an offset in each of its partitions."""

    def __init__(
        self, producer: Any, flow: str, name: str, options: Mapping[str, Any], deadline: float
    ) -> None:
        self._producer = producer
        self._flow = flow
        self._name = name
        self._deadline = deadline
        self._lock = asyncio.Lock()
        self._broken: str | None = None
        self._last: BaseException | None = None  # of the errors that were worth another try
        self._timer: asyncio.Timeout | None = None  # of the call that is running
        self.closed = False
        self._open = False  # a transaction is
        self._sent = Deliveries(producer, name)  # in the open transaction
        self._partitions: set[TopicPartition] = set()  # that it writes to
        self._ahead = Ahead({**options, "client_id": f"{name}-ahead"}, f"{name} ahead")

    @classmethod
    async def open(
        cls, flow: str, lane: int, options: Mapping[str, Any], *, deadline: float = 15.0
    ) -> KafkaLaneWriter:
        """Fence the lane's former producer and settle its transaction.

        Args:
            flow: name of the flow: also of the group that its positions belong to.
            lane: number of the lane.
            options: arguments for the producer over the defaults, the address among them.
            deadline: seconds for this call, and for each later one.
        """
        name = f"{flow}-lane-{lane}"
        options = {**_DEFAULTS, "client_id": name, **options}
        producer = library.new_producer(
            {**options, "transactional_id": name, "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS}
        )
        writer = cls(producer, flow, name, options, deadline)
        try:
            async with writer._call("the take-over"):
                await producer.start()
        except BaseException:
            await writer.close()
            raise
        return writer

    def batch(self, *, early: bool = False) -> BatchBuilder:
        """A new, empty builder, bounded by the producer's `max_batch_size`."""
        if early:
            return self._ahead.batch()
        builder: BatchBuilder = shorten_writing(self._producer.create_batch())
        return builder

    async def committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, CommittedPosition | None]:
        """The group's settled positions, in one request."""
        if not partitions:
            return {}
        request = StableOffsetFetch(self._flow, partitions)
        async with self._call("reading the committed positions"):
            while True:
                try:
                    return await self._fetch_positions(request)
                except KafkaError as error:
                    if not isinstance(classify(error), LogDoubt):
                        raise
                    # Coordinators move, and a pending transaction is settled soon; the deadline bounds both.
                    self._last = error
                    await asyncio.sleep(_RETRY_BACKOFF if isinstance(error, UnstableOffsetCommit) else 0.1)

    async def send(self, batches: Batches) -> None:
        """Hand batches over; per partition at most two wait for the broker, further ones make this wait.

        Early ones are visible to everybody as soon as the broker has them, others belong to the transaction.
        """
        async with self._call("sending"):
            early = {tp: [b for b in builders if self._ahead.made(b)] for tp, builders in batches.items()}
            await self._ahead.send(filled(early))
            await self._hand_over(
                {tp: [b for b in builders if not self._ahead.made(b)] for tp, builders in batches.items()}
            )
            self._sent.check()

    async def commit(self, commit: Commit) -> dict[TopicPartition, int]:
        """Write, send the positions, end the transaction.

        What is written is decided when this returns, and visible to committed readers when the markers are
        written, a few milliseconds later; the next commit, or take-over, of this lane waits for that.
        """
        async with self._call("the commit"):
            await self._ahead.settled()
            await self._sent.acknowledged()
            self._sent.check()
            if not self._open:
                if not (commit.positions or filled(commit.batches)):
                    return {}
                await self._begin()
            reached("commit.begun")
            await self._write(commit)
            reached("commit.sent")
            await self._producer.commit_transaction()
            self._open = False
            return self._sent.first

    async def close(self) -> None:
        """Discard the producer, aborting first a transaction that is open and in good order.

        Left open, it would hold up committed readers of its partitions until the next owner or its time-out
        ends it.
        """
        if self.closed:
            return
        self.closed = True
        if self._open and self._broken is None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1):
                    await self._producer.abort_transaction()
        self._broken = self._broken or "it was closed"
        if self._timer is not None:
            with contextlib.suppress(RuntimeError):  # it has just expired by itself
                self._timer.reschedule(0)
        try:
            await asyncio.gather(discard_producer(self._producer), self._ahead.close())
        except Exception as error:  # closing never raises, and what is left is the collector's
            library.logger.warning("%s did not close in good order: %r", self._name, error)

    @contextlib.asynccontextmanager
    async def _call(self, what: str) -> AsyncIterator[None]:
        """One call at a time, within the deadline; whatever goes wrong in it makes the writer unusable."""
        async with self._lock:
            if self._broken is not None:
                raise LogDoubt(f"{self._name} can no longer be used: {self._broken}")
            self._broken = f"{what} was interrupted"
            self._timer = timer = asyncio.timeout(self._deadline)
            try:
                async with timer:
                    yield
            except Exception as error:
                if self.closed:
                    known: LogError = LogDoubt(f"{self._name}: closed during {what}")
                elif timer.expired():
                    last = f" (last: {self._last})" if self._last else ""
                    known = LogDoubt(f"{self._name}: {what} did not finish within {self._deadline:g} s{last}")
                else:
                    known = self._known(error, what)
                self._broken = str(known)
                raise known from error
            finally:
                self._timer = None
            self._broken = None

    def _known(self, error: Exception, what: str) -> LogError:
        known = classify(error, what=f"{self._name}: {what}")
        if type(known) is LogDoubt and (earlier := library.transaction_error(self._producer)):
            # Once a transaction has failed, the library only complains about its state.
            return classify(earlier, what=f"{self._name}: {what}")
        return known

    async def _begin(self) -> None:
        await self._producer.begin_transaction()
        self._open = True
        self._sent, self._partitions = Deliveries(self._producer, self._name), set()

    async def _hand_over(self, batches: Batches) -> None:
        batches = filled(batches)
        if not batches:
            return
        if not self._open:
            await self._begin()
        if new := batches.keys() - self._partitions:
            # A broker verifies the first batch of each partition with the coordinator, which refuses that
            # while the transaction is being extended: the batch would be sent again 100 ms later. So it is
            # extended only when nothing is on its way, by partitions here, by the positions in `commit`.
            await self._sent.acknowledged()
            self._partitions |= new
        await self._sent.queue(batches)

    async def _write(self, commit: Commit) -> None:
        """Batches and positions; the positions begin, so that both extend the transaction at once."""
        positions = asyncio.ensure_future(self._send_positions(commit.positions))
        try:
            await asyncio.sleep(0)
            await self._hand_over(commit.batches)
            await self._sent.acknowledged()
            await asyncio.wait([positions])
        finally:
            positions.cancel()
        found: list[LogError] = []
        try:
            self._sent.check()
        except LogError as refused:
            found.append(refused)
        error = positions.exception()
        if isinstance(error, LogError):
            found.append(error)
        if found:
            raise worst(found)
        if error is not None:
            raise error

    async def _send_positions(self, positions: Mapping[TopicPartition, CommittedPosition]) -> None:
        if not positions:
            return
        offsets = {
            ClientPartition(*tp): OffsetAndMetadata(at.offset, at.metadata) for tp, at in positions.items()
        }
        try:
            await self._producer.send_offsets_to_transaction(offsets, self._flow)
        except asyncio.CancelledError:
            forget_positions(self._producer)
            raise
        except KafkaError as error:
            # All that a broker refuses about a position is the length of its metadata; it does not say whose.
            sizes = {tp: len(at.metadata.encode()) for tp, at in positions.items()}
            limit = min(METADATA_LIMIT + 1, max(sizes.values()))
            suspects = [tp for tp, size in sizes.items() if size >= limit]
            raise classify(error, suspects, f"{self._name}: sending the positions") from error

    async def _fetch_positions(
        self, request: StableOffsetFetch
    ) -> dict[TopicPartition, CommittedPosition | None]:
        client = self._producer.client
        node = await client.coordinator_lookup(CoordinationType.GROUP, self._flow)
        response = await client.send(node, request, group=library.COORDINATION)
        _raise_for(response.error_code)
        found: dict[TopicPartition, CommittedPosition | None] = dict.fromkeys(request.partitions)
        for topic, partitions, _ in response.topics:
            for partition, offset, _epoch, metadata, code, _ in partitions:
                _raise_for(code)
                at = None if offset < 0 else CommittedPosition(offset, metadata or "")
                found[TopicPartition(topic, partition)] = at
        return found


def _raise_for(code: int) -> None:
    if code != NoError.errno:
        raise for_code(code)()

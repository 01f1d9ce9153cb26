"""A drain: a sink that is no topic of this log, written through a connector.

An event counts as finished once `Writer.flush` has returned, so the lane's position never passes what is
durable in the sink. A writer that keeps a position with its data has the last word on where to start.
Errors are retried for ever unless the sink's `retry` says otherwise: an outage is not a bad event. If the
tries are used up, the events of the write that failed are written one by one, so that only those that fail
again are given up.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from reflow_kafka.clock import monotonic
from reflow_kafka.connector import ConnectorContext, Sink, Writer
from reflow_kafka.errors import FlowStopped, LogError, ReflowError, Reject
from reflow_kafka.event import Event
from reflow_kafka.lane.calls import call, quietly
from reflow_kafka.lane.emitter import Emitter
from reflow_kafka.lane.env import place_logger
from reflow_kafka.lane.failures import Failures
from reflow_kafka.lane.gate import MAX_BYTES, Gate
from reflow_kafka.lane.given import given
from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.lane.outbox import Channel, Outbox
from reflow_kafka.lane.work import Queue, Share, Tally
from reflow_kafka.log.api import BatchBuilder, Record, TopicPartition
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.topology.plan import Node

log = logging.getLogger(__name__)

BATCH: Final = 1000


class Drain:
    """Writes one lane's events into a connector sink."""

    def __init__(
        self,
        node: Node,
        lane: int,
        *,
        flow: str,
        sink: Sink,
        outbox: Outbox,
        dead_letters: Channel,
        gate: Gate,
        marks: Mapping[TopicPartition, Mark],
        seek: Callable[[TopicPartition, int], None],
        incarnation: str,
    ) -> None:
        inputs = [i for i in node.inputs if lane < i.partitions]
        self.node = node
        self.tally = Tally()
        self.clock = None
        self.inputs = tuple(TopicPartition(i.topic, lane) for i in inputs)
        self.inbox = Inbox({tp: marks[tp] for tp in self.inputs})
        self._inputs = dict(zip(self.inputs, inputs, strict=True))
        self._lane = lane
        self._flow = flow
        self._log = place_logger(log, flow=flow, stage=node.name, lane=lane)
        self._sink = sink
        self._outbox = outbox
        self._dead_letters = dead_letters
        self._gate = gate
        self._seek = seek
        self._incarnation = incarnation
        self._decoders = {tp: edge_codec(i.type, i.format).decode for tp, i in self._inputs.items()}
        self._context = ConnectorContext(flow, node.name, lane, self._log)
        self._writer: Writer | None = None
        self._letters = self._letters_taken = self._letters_safe = 0  # dead letters: written, committed
        self._settled = asyncio.Event()
        emitter = Emitter((), ("error",))
        self._failures = Failures(node, flow, emitter, dead_letters, self.tally, self._log)
        self._tries = 0
        """Failures since something was written."""
        self._piece: tuple[TopicPartition, Sequence[Record]] | None = None
        """What is being written."""
        self._suspects = 0
        """Events that are to be written one by one."""

    # ---- what the lane asks

    async def open(self) -> None:
        """The sink is opened while running, so that one that is away does not hold the lane up."""

    async def close(self) -> None:
        if self._writer is not None:
            await quietly(self._writer.close)

    def keep_time(self) -> None:
        """Nobody follows whom it would concern."""

    def in_hand(self) -> bool:
        return False  # a sink may be slow: commits of other stages do not wait for it

    def queue(self) -> Queue:
        return Queue()

    def tallies(self) -> Mapping[str, Tally]:
        return {self.node.name: self.tally}

    def ended(self) -> bool:
        return True

    def nothing_more(self) -> None:
        return

    def flushed(self) -> bool:
        return True

    def results(self) -> dict[TopicPartition, list[BatchBuilder]]:
        return self._outbox.take()

    def counted(self) -> Share:
        return Share(marks=self.inbox.marks())

    def take(self) -> Share:
        self._letters_taken = self._letters
        return Share(batches=self._outbox.take(), marks=self.inbox.share())

    def settled(self) -> None:
        self._letters_safe = self._letters_taken
        self._settled.set()

    async def committed(self) -> None:
        """Nothing to acknowledge."""

    # ---- working

    async def run(self) -> None:
        """Write until stopped; after a failure open the sink anew and go on where it ends."""
        while not self.inbox.stopped:
            try:
                if self._writer is None:
                    self._piece = None
                    self._writer = await self._open()
                for partition, records, batches in await self._gather():
                    await self._write_batch(self._writer, partition, records, batches)
            except LogError:
                raise  # a lane lost to another owner, say: taken over anew
            except ReflowError as error:
                raise FlowStopped(f"sink {self.node.name!r} stopped the flow: {error}") from error
            except Exception as error:
                await self._failed(error)

    async def _failed(self, error: Exception) -> None:
        """Try again later; or, if it was tried often enough, event by event, and give the bad ones up."""
        self._tries += 1
        await self._give_up()
        retry = self.node.stage.retry
        if self._piece is not None and not retry.again(error, self._tries):
            partition, records = self._piece
            if len(records) > 1:
                self._suspects = len(records)
            else:
                self._reject(partition, records[0], error, self._tries)
                self._tries = 0
            return
        delay = retry.delay(self._tries, random.random())
        self.tally.retries += 1
        self._log.warning("sink failed (%s: %s); again in %.1f s", type(error).__name__, error, delay)
        await self.inbox.pause(delay)

    async def _gather(self) -> list[tuple[TopicPartition, Sequence[Record], int]]:
        """What is to be written next: by input, with how many batches in hand it was."""
        first = await self.inbox.next()
        if first is None:
            return []
        partition, records = first
        batch = self.node.stage.batch
        if batch is None:
            return [(partition, records, 1)]
        found = {partition: (list(records), 1)}
        until = monotonic() + batch.within
        while sum(len(records) for records, _ in found.values()) < batch.max_events:
            try:
                async with asyncio.timeout(max(until - monotonic(), 0)):
                    more = await self.inbox.next()
            except TimeoutError:
                break
            if more is None:
                return []
            partition, records = more
            before, batches = found.get(partition, ([], 0))
            found[partition] = ([*before, *records], batches + 1)
        return [(partition, records, batches) for partition, (records, batches) in found.items()]

    async def _open(self) -> Writer:
        writer: Writer = await call(self._sink.open, self._context)
        stored = await call(writer.position) if hasattr(writer, "position") else None
        # The sink knows best what it has; what another history of this lane wrote does not count.
        if stored is not None and stored.get("incarnation") == self._incarnation:
            for tp in self.inputs:
                at = stored["positions"].get(tp.topic, 0)
                self.inbox.reach(tp, at)
            self._go_back()
        return writer

    async def _give_up(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await quietly(writer.close)
        self._go_back()

    def _go_back(self) -> None:
        """What was flushed stays done; what was given after it comes again, for which there is room now."""
        self.inbox.go_back(self._seek, to=self.inbox.marks())
        self._gate.worked()

    def _pieces(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """Records by what is written at once."""
        batch = self.node.stage.batch
        events, size = (BATCH, None) if batch is None else (batch.max_events, batch.max_bytes)
        at = 0
        while at < len(records):
            end, bytes_ = at + 1, len(records[at].value or b"")
            while end < len(records) and end - at < events and not self._suspects:
                bytes_ += len(records[end].value or b"")
                if size is not None and bytes_ > size:
                    break
                end += 1
            yield records[at:end]
            at = end

    async def _write_batch(
        self, writer: Writer, partition: TopicPartition, records: Sequence[Record], batches: int
    ) -> None:
        for piece in self._pieces(records):
            admitted = await self._gate.admit(
                len(piece), lambda: self._outbox.size() > MAX_BYTES, counted=False
            )
            if not admitted:
                return
            self._piece = (partition, piece)
            await self._write(writer, partition, piece)
            self._piece, self._tries = None, 0
            self._suspects = max(self._suspects - 1, 0)
        for _ in range(batches):
            self.inbox.finished(partition)
        self._gate.worked()

    async def _write(self, writer: Writer, partition: TopicPartition, records: Sequence[Record]) -> None:
        good: list[tuple[Record, Event[Any]]] = []
        for record in records:
            try:
                good.append((record, self._event(partition, record)))
            except ValueError as error:
                await self._write_good(writer, partition, good)
                good = []
                self._reject(partition, record, error)
        await self._write_good(writer, partition, good)

    async def _write_good(
        self, writer: Writer, partition: TopicPartition, good: Sequence[tuple[Record, Event[Any]]]
    ) -> None:
        """Write events that could be decoded; of those the sink finds one bad, only that is rejected."""
        if not good:
            return
        written = 0
        try:
            await call(writer.write, [event for _, event in good])
            written = len(good)
        except Reject:  # none of them was taken: which one is it?
            for record, event in good:
                try:
                    await call(writer.write, [event])
                    written += 1
                except Reject as error:
                    if written:
                        await self._flush(writer, partition, record.offset, written)
                        written = 0
                    self._reject(partition, record, error)
        if written:
            await self._flush(writer, partition, good[-1][0].offset + 1, written)

    async def _flush(self, writer: Writer, partition: TopicPartition, at: int, events: int) -> None:
        """Make what was written durable: everything below `at` is done then."""
        if hasattr(writer, "position"):
            # After a crash the sink's position wins. It must not pass a dead letter that may still be lost.
            await self._letters_committed()
            done = {tp.topic: self.inbox.position(tp) for tp in self.inputs}
            position = {"incarnation": self._incarnation, "positions": {**done, partition.topic: at}}
            await call(writer.flush, position)
        else:
            await call(writer.flush)
        self.inbox.reach(partition, at)
        self.tally.events += events
        self._gate.worked()

    def _reject(self, partition: TopicPartition, record: Record, error: Exception, tries: int = 1) -> None:
        """Everything before is flushed. No await in here: what becomes of it and position belong together.

        Raises:
            FlowStopped: the sink says that a failure stops the flow.
        """
        Emitter.deliver(self._failures.outcome(record, partition, error, tries))
        self._letters += self._failures.take_letters()
        self.inbox.reach(partition, record.offset + 1)
        self.tally.events += 1
        self._gate.worked()

    async def _letters_committed(self) -> None:
        while self._letters_safe < self._letters:
            self._settled.clear()
            self._gate.full = True  # this writer waits for the commit
            self._gate.worked()
            await self._settled.wait()

    def _event(self, partition: TopicPartition, record: Record) -> Event[Any]:
        entry = self._inputs[partition]
        value = None if record.value is None else self._decoders[partition](record.value)
        return given(record, value, timestamp=record.timestamp, origin=partition, upstream=entry.upstream)

    def __str__(self) -> str:
        return f"{self._flow}.{self.node.name}[{self._lane}]"

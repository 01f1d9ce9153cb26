"""A worker: one stage in one lane, running the user's handler over what the lane reads.

The worker is the unit of going back: if an event fails and the state before it is not at hand, the worker
(alone) returns to its last share in a commit and works careful for a while. Going back has no await in it,
so no commit can see half of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from reflow_kafka.definition.spec import Shape, StateBy
from reflow_kafka.errors import ReflowError
from reflow_kafka.lane.calm import LONG, Calm
from reflow_kafka.lane.careful import CarefulPeriod
from reflow_kafka.lane.compile import Compilation, compile_stage
from reflow_kafka.lane.emitter import Emitter, Lead, UnknownTopic
from reflow_kafka.lane.env import place_logger
from reflow_kafka.lane.failures import Failures
from reflow_kafka.lane.gate import MAX_BYTES, MAX_DIRTY, Gate
from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.lifecycle import Lifecycle
from reflow_kafka.lane.outbox import Channel, Outbox
from reflow_kafka.lane.refusals import Refusals
from reflow_kafka.lane.work import Share, Tally
from reflow_kafka.log.api import BatchBuilder, Record, TopicPartition
from reflow_kafka.serde.keys import timestamp_getter
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.state.cache import StateCache
from reflow_kafka.topology.plan import Input, Node

log = logging.getLogger(__name__)

SLICE: Final = 0.005
"""Seconds after which a worker lets others have the loop."""

Run = Callable[[Sequence[Record]], Any]


class RefusedByLog(ReflowError):
    """The log refused what this event led to; the message is the log's."""


class _GoBack(Exception):
    """The state before a failed event is not known: return to the last commit."""


class Worker:
    """Runs a handler (or nothing, for a source that forwards) over records."""

    def __init__(
        self,
        node: Node,
        lane: int,
        *,
        flow: str,
        leads: Sequence[Lead],
        outbox: Outbox,
        dead_letters: Channel,
        gate: Gate,
        calm: Calm,
        refusals: Refusals,
        positions: Mapping[TopicPartition, int],
        seek: Callable[[TopicPartition, int], None],
        learn: Callable[[str], Awaitable[None]],
        handler: Callable[..., Any] | None = None,
        by_name: Mapping[str, Any] | None = None,
        cache: StateCache | None = None,
        lifecycle: Lifecycle | None = None,
    ) -> None:
        self.node = node
        self.tally = Tally()
        self.inputs = tuple(TopicPartition(i.topic, lane) for i in node.inputs if lane < i.partitions)
        self._lane = lane
        self._flow = flow
        self._log = place_logger(log, flow=flow, stage=node.name, lane=lane)
        self._gate = gate
        self._calm = calm
        self._blocks = False
        self._refusals = refusals
        self._seek = seek
        self._learn = learn
        self._outbox = outbox
        self._cache = cache
        self._lifecycle = lifecycle
        self._emitter = Emitter(leads, (*node.stage.outputs, "error"))
        self._failures = Failures(node, flow, self._emitter, dead_letters, self.tally, self._log)
        spec = node.stage.handler
        self._suspends = spec is not None and spec.shape.suspends
        self._inputs = dict(zip(self.inputs, _present(node, lane), strict=True))
        self.inbox = Inbox({tp: positions[tp] for tp in self.inputs})
        self._suspended = False
        self._unknown: str | None = None
        self._events = 0
        self._failed_before = (0, 0)
        self._last: tuple[TopicPartition, int] | None = None
        self._current = self.inputs[0]
        self._size = 1  # grows while events are fast
        self._careful = CarefulPeriod()
        self._is_careful = self._suspends
        self._leads = leads
        self._handler = handler
        self._by_name = by_name or {}
        self._runs: dict[tuple[TopicPartition, bool], Run] = {}

    def _compile(self, tp: TopicPartition, careful: bool) -> Run:
        spec = self.node.stage.handler
        entry = self._inputs[tp]
        return compile_stage(
            Compilation(
                name=self.node.name,
                topic=tp.topic,
                upstream=entry.upstream,
                lane=self._lane,
                decode=edge_codec(entry.type, entry.format).decode,
                emitter=self._emitter,
                leads=self._leads,
                failed=self._failed,
                handler=self._handler,
                shape=spec.shape if spec else Shape.PLAIN,
                takes_event=spec.takes_event if spec else False,
                state_by=spec.state_by if spec else StateBy.NONE,
                cache=self._cache,
                careful=careful,
                by_name=self._by_name,
                timestamp=timestamp_getter(entry.timestamp) if entry.timestamp else None,
                finished=self._finished,
            )
        )

    # ---- what the lane asks

    async def open(self) -> None:
        if self._lifecycle is not None:
            await self._lifecycle.open()

    async def close(self) -> None:
        if self._lifecycle is not None:
            await self._lifecycle.close()

    def in_hand(self) -> bool:
        return bool(self.inbox) and not self._suspended

    def ended(self) -> bool:
        return True

    def results(self) -> dict[TopicPartition, list[BatchBuilder]]:
        return self._outbox.take()

    def take(self) -> Share:
        changes: dict[bytes, bytes | None] = {}
        if self._cache is not None:
            try:
                changes = self._cache.snapshot()
            except Exception as error:  # some state cannot be encoded: find out which event did it
                self._log.warning("state cannot be encoded (%s); going back to find the event", error)
                self._go_back()
                return Share(positions=self.inbox.share())
        share = Share(self._outbox.take(), changes, self.inbox.share(), self._events, self._last)
        self._events = 0
        self._failed_before = (self.tally.dead_letters, self.tally.skipped)
        return share

    def settled(self) -> None:
        if self._cache is not None:
            self._cache.settled()

    async def committed(self) -> None:
        """Nothing to acknowledge: the positions are the acknowledgement."""

    def _is_full(self) -> bool:
        return self._outbox.size() > MAX_BYTES or (self._cache is not None and len(self._cache) > MAX_DIRTY)

    # ---- working

    async def run(self) -> None:
        """Work through the inbox in slices until it is stopped."""
        while batch := await self.inbox.next():
            await self._batch(*batch)

    async def _batch(self, partition: TopicPartition, records: Sequence[Record]) -> None:
        at = 0
        generation = self.inbox.generation
        while at < len(records):
            admitted = await self._gate.admit(min(self._size, len(records) - at), self._is_full)
            if not admitted:
                return  # stopping
            async with self._calm.blocking() if self._blocks else contextlib.nullcontext():
                if self.inbox.generation == generation:  # else a commit has sent it back while it waited
                    await self._slice(partition, records[at : at + admitted])
            if self.inbox.generation != generation:
                self._gate.worked()  # a commit makes room again for what was counted as begun
                await self._learn_topic()
                return
            at += admitted
            if at == len(records):
                self.inbox.finished(partition)
            self._gate.worked()
            await asyncio.sleep(0)

    async def _learn_topic(self) -> None:
        topic, self._unknown = self._unknown, None
        if topic is not None:
            await self._learn(topic)

    async def _slice(self, partition: TopicPartition, records: Sequence[Record]) -> None:
        self._current = partition
        if self._is_careful and not self._suspends and self._careful.over(time.monotonic()):
            self._is_careful = False
        run = self._runs.get((partition, self._is_careful))
        if run is None:
            run = self._compile(partition, self._is_careful)
            self._runs[(partition, self._is_careful)] = run
        began = time.perf_counter()
        try:
            if self._suspends:
                self._suspended = True
                await self._run_suspending(run, partition, records)
            else:
                run(self._without_culprits(partition, records))
                self._count(partition, len(records), records[-1].offset)
        except _GoBack:
            self._go_back()
        finally:
            self._suspended = False
        took = time.perf_counter() - began
        self._blocks = not self._suspends and took > LONG * len(records)
        self._size = max(1, min(2000, int(self._size * min(2.0, SLICE / max(took, 1e-6)))))

    def _count(self, partition: TopicPartition, events: int, last: int) -> None:
        self.inbox.done[partition] = last + 1
        self._events += events
        self._last = (partition, last)
        self.tally.events += events

    def _finished(self, offset: int) -> None:
        """An event of a handler that suspends is finished: it may be committed from now on."""
        self._count(self._current, 1, offset)
        self._gate.worked()

    def _without_culprits(self, partition: TopicPartition, records: Sequence[Record]) -> Sequence[Record]:
        """Records without those known to be refused by the log, which become dead letters instead."""
        if self._refusals.limit is None:
            return records
        good: list[Record] = []
        for record in records:
            reason = self._refusals.reason(partition, record.offset)
            if reason is None:
                good.append(record)
            else:
                self._failures.dead_letter(record, partition, RefusedByLog(reason))
        return good

    async def _run_suspending(self, run: Run, partition: TopicPartition, records: Sequence[Record]) -> None:
        """A commit may come between any two events, so a dead letter waits for its turn."""
        if self._refusals.limit is None:
            await run(records)
            return
        for record in records:
            if good := self._without_culprits(partition, (record,)):
                await run(good)
            else:
                self._finished(record.offset)

    def _go_back(self) -> None:
        """Return to the last share, as if nothing had been done since; no await in here."""
        self._outbox.discard()
        if self._cache is not None:
            self._cache.rewind()
        self.tally.events -= self._events  # they will be processed again
        self.tally.dead_letters, self.tally.skipped = self._failed_before
        self._events = 0
        self.tally.rewinds += 1
        self._careful.went_back(time.monotonic())
        self._is_careful = True
        self.inbox.go_back(self._seek)
        self._gate.moved.set()  # there is room now, and if nothing is in hand nobody else will say so

    def _failed(self, record: Record, error: Exception) -> None:
        """An event has failed: undo its state, then what the stage says is done with such events.

        Raises:
            _GoBack: its state cannot be undone here.
            FlowStopped: the stage says that a failure stops the flow.
        """
        if self._cache is not None and record.key is not None and not self._cache.undo(record.key):
            raise _GoBack from error
        self._careful.failed(time.monotonic())
        if isinstance(error, UnknownTopic):
            self._unknown = error.topic
            raise _GoBack from error
        self._failures.handle(record, self._current, error)

    def __str__(self) -> str:
        return f"{self._flow}.{self.node.name}[{self._lane}]"


def _present(node: Node, lane: int) -> list[Input]:
    return [i for i in node.inputs if lane < i.partitions]

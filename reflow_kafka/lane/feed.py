"""A feed: a source that is no topic of this log, read through a connector.

Each part of the source has a position, kept as state of the stage under the part's name: it commits
together with the events it stands after, so a restart continues exactly where the outputs end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from reflow_kafka.connector import ConnectorContext, Reader, Source
from reflow_kafka.errors import DataLoss, FlowStopped, LogDoubt, LogError, ReflowError
from reflow_kafka.event import INHERITED, Event
from reflow_kafka.lane.calls import call, quietly
from reflow_kafka.lane.clock import FeedClock
from reflow_kafka.lane.dead_letter import error_headers, fitting
from reflow_kafka.lane.emitter import Emitter, Prepared, UnknownTopic, headers_of
from reflow_kafka.lane.env import place_logger
from reflow_kafka.lane.gate import MAX_BYTES, Gate
from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.outbox import Channel, Outbox
from reflow_kafka.lane.work import Queue, Share, Tally
from reflow_kafka.log.api import BatchBuilder, TopicPartition
from reflow_kafka.serde.keys import murmur2
from reflow_kafka.topology.plan import Node
from reflow_kafka.units import LONG_AGO

log = logging.getLogger(__name__)

MAX_EVENTS: Final = 500
IDLE: Final = 0.02
"""Seconds before a source that had nothing is asked again (it may itself wait for longer)."""
RESCAN: Final = 10.0
"""Seconds after which a source is asked for new parts."""
BACKOFF: Final = (0.1, 30.0)
ACKNOWLEDGE: Final = 30.0
"""Seconds that a source may take to acknowledge: commits of the lane wait for it."""


class _Origin(NamedTuple):
    """Stands in for the record from which results inherit."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class Feed:
    """Reads the parts of a connector source that belong to one lane."""

    def __init__(
        self,
        node: Node,
        lane: int,
        *,
        flow: str,
        source: Source,
        emitter: Emitter,
        outbox: Outbox,
        dead_letters: Channel,
        gate: Gate,
        stored: Callable[[bytes], bytes | None],
        timestamp: Callable[[Any], int] | None,
        clock: FeedClock | None,
        learn: Callable[[str], Awaitable[None]],
        now: Callable[[], int],
    ) -> None:
        self.node = node
        self.inputs: tuple[TopicPartition, ...] = ()
        self.inbox = Inbox({})
        self.tally = Tally()
        self.clock = clock
        self._lane = lane
        self._flow = flow
        self._log = place_logger(log, flow=flow, stage=node.name, lane=lane)
        self._source = source
        self._endless = getattr(source, "endless", False)
        self._emitter = emitter
        self._outbox = outbox
        self._dead_letters = dead_letters
        self._gate = gate
        self._stored = stored
        self._timestamp = timestamp
        self._learn = learn
        self._now = now
        self._context = ConnectorContext(flow, node.name, lane, self._log)
        self._readers: dict[str, Reader] = {}
        self._positions: dict[str, Any] = {}
        self._changed: dict[str, Any] = {}
        self._shared: dict[str, Any] = {}
        self._ended: set[str] = set()
        self._parts: set[str] | None = None

    # ---- what the lane asks

    async def open(self) -> None:
        """Parts are opened while running, so that a source that is away does not hold the lane up."""

    async def close(self) -> None:
        for part, reader in self._readers.items():
            try:
                await call(reader.close)
            except Exception:
                self._log.exception("closing part %r failed", part)

    def keep_time(self) -> None:
        if self.clock is not None:
            self.clock.update(self.inbox)

    def in_hand(self) -> bool:
        return False

    def queue(self) -> Queue:
        return Queue()

    def tallies(self) -> Mapping[str, Tally]:
        return {self.node.name: self.tally}

    def ended(self) -> bool:
        return self._parts is not None and self._parts <= self._ended and not self._changed

    def nothing_more(self) -> None:
        return

    def flushed(self) -> bool:
        return True

    def results(self) -> dict[TopicPartition, list[BatchBuilder]]:
        return self._outbox.take()

    def counted(self) -> Share:
        return Share()

    def take(self) -> Share:
        changes: dict[bytes, bytes | None] = {}
        if self.node.changelog is not None:
            changes = {part.encode(): orjson.dumps(position) for part, position in self._changed.items()}
        self._shared, self._changed = self._changed, {}
        share = Share(batches=self._outbox.take(), changes={self.node.name: changes})
        if self.clock is not None:
            self.keep_time()
            share.times = {self.node.name: self.clock.told()}
        return share

    def settled(self) -> None:
        if self.clock is not None:  # positions are handed to the readers in `committed`
            self.clock.settled()

    async def committed(self) -> None:
        for part, position in self._shared.items():
            reader = self._readers.get(part)
            if reader is not None:
                try:
                    async with asyncio.timeout(ACKNOWLEDGE):
                        await call(reader.committed, position)
                except TimeoutError:
                    raise LogDoubt(
                        f"{self}: part {part!r} did not acknowledge its position within {ACKNOWLEDGE:g} s"
                    ) from None
        self._shared = {}

    # ---- working

    async def run(self) -> None:
        """Read all parts of this lane until stopped, looking for new ones now and then."""
        async with asyncio.TaskGroup() as tasks:
            stopped = tasks.create_task(self.inbox.next())
            running: dict[str, asyncio.Task[None]] = {}
            delay = BACKOFF[0]
            while not self.inbox.stopped:
                wait = RESCAN
                try:
                    parts = {p for p in await call(self._source.parts) if self._owns(p)}
                    delay = BACKOFF[0]
                except Exception as error:
                    self._log.warning("source not available (%s); again in %.1f s", error, delay)
                    wait, delay = delay, min(delay * 2, BACKOFF[1])
                else:
                    for part in sorted(parts - running.keys()):
                        running[part] = tasks.create_task(self._read_part(part))
                    self._parts = parts
                    if self.clock is not None:
                        self.clock.scanned(parts)
                    self._gate.worked()
                await asyncio.wait([stopped], timeout=wait)
            for task in running.values():
                task.cancel()

    def _owns(self, part: str) -> bool:
        return (
            (murmur2(part.encode()) & 0x7FFFFFFF) % self.node.lanes == self._lane if part else self._lane == 0
        )

    async def _read_part(self, part: str) -> None:
        delay = BACKOFF[0]
        while not self._gate.stopping:
            try:
                reader = self._readers[part] = await self._open(part)
                while not self._gate.stopping:
                    if not await self._read(part, reader):
                        return
                    delay = BACKOFF[0]
            except LogError:
                raise  # a part lost to another owner, say: the lane is taken over anew
            except ReflowError as error:
                raise FlowStopped(f"source {self.node.name!r} stopped the flow: {error}") from error
            except Exception as error:
                if self.clock is not None:
                    self.clock.part(part).disturbed()
                self._log.warning("part %r failed (%s: %s); again in %.1f s",
                                  part, type(error).__name__, error, delay)  # fmt: skip
                failed = self._readers.pop(part, None)
                if failed is not None:
                    await quietly(failed.close)
                await self.inbox.pause(delay)
                delay = min(delay * 2, BACKOFF[1])

    async def _open(self, part: str) -> Reader:
        if part not in self._positions:
            raw = self._stored(part.encode())
            try:
                self._positions[part] = None if raw is None else orjson.loads(raw)
            except ValueError as error:
                raise DataLoss(
                    f"the position of part {part!r} in {self.node.changelog}[{self._lane}] cannot be read "
                    f"({error}): bring the record back, or reset the flow to let the source start anew"
                ) from error
        reader: Reader = await call(self._source.open, part, self._positions[part], self._context)
        return reader

    async def _read(self, part: str, reader: Reader) -> bool:
        """Read and emit once; False at the end of the part."""
        admitted = await self._gate.admit(MAX_EVENTS, lambda: self._outbox.size() > MAX_BYTES, counted=False)
        if not admitted:
            return False
        events = await call(reader.read, admitted)
        clock = None if self.clock is None else self.clock.part(part)
        if events is None:
            self._ended.add(part)
            if clock is not None:
                clock.end(self._now())
            self._gate.worked()
            return False
        if not events:
            if clock is not None:
                clock.silent(self._now())
            if self._endless:  # it has given what was due, and no end of a run waits for what is to come
                self._ended.add(part)
            if (position := reader.position()) != self._positions[part]:  # it moves without events, too
                self._positions[part] = self._changed[part] = position
                self._gate.worked()
            await asyncio.sleep(IDLE)
            return True
        prepared = [await self._prepare(event) for event in events]
        for _, results in prepared:  # no await from here on: results and position belong together
            self._emitter.deliver(results)
        if clock is not None:
            clock.emitted(max(at for at, _ in prepared))
        self._positions[part] = self._changed[part] = reader.position()
        self.tally.events += len(events)
        self._gate.worked()
        await asyncio.sleep(0)
        return True

    async def _prepare(self, event: Event[Any]) -> tuple[int, Prepared]:
        """The time of an event, and what becomes of it: its results, or its dead letter."""
        try:
            now = self._now()
            timestamp = now if self._timestamp is None else self._timestamp(event.value)
            origin = _Origin(-1, timestamp, None, None)
            at = timestamp if event._timestamp is INHERITED else event._timestamp
            try:
                return at, self._emitter.prepare((event,), origin, timestamp)
            except UnknownTopic as unknown:
                await self._learn(unknown.topic)
                return at, self._emitter.prepare((event,), origin, timestamp)
        except Exception as error:
            return LONG_AGO, self._failed(event, error)

    def _failed(self, event: Event[Any], error: Exception) -> Prepared:
        policy = self.node.stage.on_error
        if policy == "stop":
            raise FlowStopped(f"an event failed: {error}") from error
        if policy == "skip":
            self.tally.skipped += 1
            return []
        self.tally.dead_letters += 1
        try:
            value = orjson.dumps(event.value, default=repr, option=orjson.OPT_NON_STR_KEYS)
        except Exception:  # a huge number, half a surrogate pair: it must not hold up the events behind it
            value = ascii(event.value).encode()
        timestamp = event.timestamp if event.timestamp >= 0 else self._now()
        try:
            kept = headers_of(event.headers)
        except Exception:  # they may be what was wrong with it
            kept = []
        record = _Origin(-1, timestamp, event.key_bytes, value, kept)
        origin = TopicPartition(f"source {self.node.name}", self._lane)
        headers = error_headers(record, origin, self._flow, self.node.name, error)
        return [(self._dead_letters, timestamp, *fitting(record.key, value, headers))]

    def __str__(self) -> str:
        return f"{self._flow}.{self.node.name}[{self._lane}]"

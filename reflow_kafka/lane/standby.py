"""A copy of another engine's lane: its state, kept up to date from the changelogs.

It is the lane's local state as its owner would have it, so that a take-over here finds it and reads only the
tail. A copy never stops the flow: whatever goes wrong with it is told, and it begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Final

from reflow_kafka.clock import monotonic
from reflow_kafka.errors import LogDoubt, OffsetOutOfRange, ReflowError
from reflow_kafka.lane.env import LaneEnv, place_logger
from reflow_kafka.lane.tail import last_record
from reflow_kafka.log.api import Reader, TopicPartition
from reflow_kafka.state.changelog import Restored, RestoreProgress, restore
from reflow_kafka.state.judge import MAX_AGE_MS
from reflow_kafka.state.store import LaneStores, StoreMark

log = logging.getLogger(__name__)

BACKOFF: Final = (0.5, 30.0)
_MAX_RECORDS: Final = 2_000  # per turn: few milliseconds, because writing holds the GIL
_TURN: Final = 0.1  # seconds between two turns of a copy that lacks little: several commits at once
_LATELY: Final = 5  # looks
_STALL: Final = 60.0
_MARK_EVERY_MS: Final = 60_000


class Standby:
    """The copy of one lane of one flow, for as long as this engine is to keep it."""

    def __init__(self, env: LaneEnv, number: int, turn: asyncio.Semaphore) -> None:
        self.number = number
        self.lag: int | None = None
        """Records by which it is behind; None: not known yet."""
        self._lately: deque[int] = deque(maxlen=_LATELY)
        self._env = env
        self._turn = turn
        self._partitions = {
            store: TopicPartition(topic, number) for store, topic in env.changelogs(number).items()
        }
        self._log = place_logger(log, flow=env.plan.flow.name, lane=number)
        self._copy: _Copy | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def distance(self) -> int | None:
        """The lag without what the owner has just committed: the least of the last looks."""
        return min(self._lately, default=self.lag)

    @property
    def partitions(self) -> list[TopicPartition]:
        """The changelogs whose ends it has to be told."""
        return list(self._partitions.values()) if self._copy is not None else []

    def seen(self, ends: Mapping[TopicPartition, int], asked: int) -> None:
        """Told where the changelogs ended, some time after `asked` (epoch ms)."""
        # Those who asked before there was a copy did not ask about its changelogs.
        if self._copy is not None and ends.keys() >= set(self._partitions.values()):
            self._copy.ends = ends
            self.lag = self._copy.lag
            self._lately.append(self.lag)
            if self.lag == 0:
                self._copy.caught_up = asked

    def start(self) -> asyncio.Task[None]:
        """Keep the copy, in a task that ends when nothing of it is open any more after `stop`."""
        name = f"{self._env.plan.flow.name}-standby-{self.number}"
        self._task = asyncio.create_task(self._run(), name=name)
        return self._task

    def stop(self) -> None:
        """Keep it no longer."""
        if self._stopping or self._task is None:
            return
        self._stopping = True
        # This makes it quick. Alone it would not do: before Python 3.12 `wait_for`, which the client uses,
        # swallows a cancellation that comes together with the answer.
        self._task.cancel()

    async def _run(self) -> None:
        if not self._partitions:
            self.lag = 0
            await asyncio.Event().wait()
        failures = 0
        while not self._stopping:
            began = monotonic()
            try:
                await self._keep()
                failures = 0
            except Exception as error:
                known = isinstance(error, ReflowError)
                text = "copy of its state: %s: %s; beginning anew"
                self._log.warning(text, type(error).__name__, error, exc_info=not known)
                self.lag = None
                failures = failures + 1 if monotonic() - began < BACKOFF[1] else 1
            await asyncio.sleep(min(BACKOFF[0] * 2 ** min(failures, 10), BACKOFF[1]))

    async def _keep(self) -> None:
        env, flow = self._env, self._env.plan.flow.name
        record = await last_record(env.log, TopicPartition(env.plan.progress_topic, self.number))
        if record is None:
            self.lag = 0  # the lane has not begun: there is nothing to be behind of
            return
        self.lag = None
        began = monotonic()
        async with self._turn:
            restored = await restore(
                env.backend,
                env.log,
                flow,
                self.number,
                env.changelogs(self.number),
                record.incarnation,
                record.changelogs,
                now=env.now,
                progress=self._restoring,
                gentle=True,
            )
        self._log.info(
            "standing by (copied in %.2f s, %d changelog records read%s)",
            monotonic() - began,
            sum(restored.records.values()),
            f", in full: {restored.reason}" if restored.reason else "",
        )
        await self._stand_by(restored)

    async def _stand_by(self, restored: Restored) -> None:
        """Follow the changelogs until something is wrong, or stopped; then nothing is open any more."""
        held: _Copy | LaneStores = restored.stores
        reader, cut = None, ""
        try:
            reader = self._env.log.reader(committed=True)
            held = copy = self._copy = _Copy(restored, reader, self._partitions)
            await self._follow(copy)
        except OffsetOutOfRange as error:
            cut = f"its changelogs were cut while they were read: {error}"
        finally:
            self._copy = self.lag = None
            self._lately.clear()
            # Who cancels opens the lane next, and must not find its store in use.
            await _to_the_end(self._put_down(held, reader, cut))

    async def _put_down(self, held: _Copy | LaneStores, reader: Reader | None, cut: str) -> None:
        try:
            # It flushes, which takes as long as the disk takes; lanes that run here are not to wait for that.
            await asyncio.to_thread(held.close)
            if cut:
                self._env.backend.set_aside(self._env.plan.flow.name, self.number, cut)
        finally:
            if reader is not None:
                await reader.close()

    def _restoring(self, progress: RestoreProgress) -> None:
        self.lag = progress.total - progress.done

    async def _follow(self, copy: _Copy) -> None:
        """Apply what comes, in turns that leave most of the time to lanes that run here."""
        while self._env.now() - copy.caught_up < MAX_AGE_MS:
            if self._stopping:
                return
            try:
                async with asyncio.timeout(_STALL):
                    records, spent = await copy.turn(self._env.now())
            except TimeoutError:
                raise LogDoubt(f"nothing was answered for {_STALL:g} s about its changelogs") from None
            if records:
                # A fetch brings few records if they are large, however many more there are.
                more = records >= _MAX_RECORDS or copy.lag > 0
                await asyncio.sleep(spent if more else _TURN)
        self._log.warning("its copy was not complete for too long: deletions may have been missed")


@dataclass(slots=True)
class _Copy:
    """Stores that are open, and how far they have come."""

    stores: LaneStores
    mark: StoreMark
    reader: Reader
    caught_up: int
    """Epoch ms at which it was known to lack nothing."""
    ends: Mapping[TopicPartition, int]
    """Where the changelogs ended when somebody last looked."""
    _stores_of: dict[TopicPartition, str]

    def __init__(self, restored: Restored, reader: Reader, partitions: Mapping[str, TopicPartition]) -> None:
        self.stores, self.mark, self.reader = restored.stores, restored.mark, reader
        self.caught_up = restored.mark.caught_up
        self._stores_of = {partition: store for store, partition in partitions.items()}
        self.ends = {partition: restored.ends[partition.topic] for partition in self._stores_of}
        reader.assign(self.ends)

    async def turn(self, now: int) -> tuple[int, float]:
        """Read and apply once; how many records, and the seconds that applying them took."""
        fetched = await self.reader.fetch(max_records=_MAX_RECORDS)
        began = monotonic()
        positions = dict(self.mark.positions)
        changes: dict[str, list[tuple[bytes, bytes | None]]] = {}
        for partition, records in fetched.items():
            store = self._stores_of[partition]
            changes[store] = [(r.key, r.value) for r in records if r.key is not None]
            # A lane record knows of one marker behind the records of a commit. Further ones, of transactions
            # that were aborted, lie beyond what it knows, where local state must not stand.
            positions[store] = min(self.reader.position(partition), records[-1].offset + 2)
        if changes or (self.caught_up > self.mark.caught_up and now - self.mark.caught_up > _MARK_EVERY_MS):
            self._write(changes, positions)
        return sum(map(len, fetched.values())), monotonic() - began

    @property
    def lag(self) -> int:
        """Records by which it is behind these ends."""
        return sum(max(0, self.ends[tp] - self.reader.position(tp)) for tp in self._stores_of)

    def close(self) -> None:
        """Close; the content stays, with what is known about it."""
        with contextlib.suppress(ReflowError):  # a full disk: the older mark holds, too
            self._write({}, self.mark.positions)
        self.stores.close()

    def _write(
        self, changes: Mapping[str, list[tuple[bytes, bytes | None]]], positions: Mapping[str, int]
    ) -> None:
        mark = StoreMark(self.mark.incarnation, positions, self.caught_up)
        self.stores.write(changes, mark)
        self.mark = mark


async def _to_the_end(work: Coroutine[None, None, None]) -> None:
    """Await what must not be left half done: a cancellation is raised when it is over."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # of no interest any more
        raise cancelled
    task.result()

"""One flow in one engine: follows the membership, opening and releasing lanes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from reflow_kafka.clock import monotonic
from reflow_kafka.engine.standbys import Standbys
from reflow_kafka.engine.statistics import FlowStatistics, RestoreStatistics, StageStatistics
from reflow_kafka.engine.times import Times
from reflow_kafka.errors import LogError, NotPermitted
from reflow_kafka.lane.env import LaneEnv
from reflow_kafka.lane.lane import Lane, Phase
from reflow_kafka.lane.peek import AsOf
from reflow_kafka.lane.record import RECORD_KEY, RUN_KEY, decode
from reflow_kafka.lane.tail import FIRST_LOOK
from reflow_kafka.lane.work import Queue, Tally
from reflow_kafka.log.api import OutRecord, Reader, TopicPartition
from reflow_kafka.state.changelog import RestoreProgress
from reflow_kafka.topology.plan import Node

logger = logging.getLogger(__name__)

WATCH_AGAIN = 0.5
"""Seconds after which lane records that could not be read are tried again."""


@dataclass(slots=True)
class _Place:
    """A lane and the task it runs in."""

    lane: Lane
    task: asyncio.Task[None]
    stopping: asyncio.TimerHandle | None = None


class Runner:
    """Runs the lanes of one flow that are this engine's."""

    def __init__(self, env: LaneEnv) -> None:
        self.env = env
        self.name = env.plan.flow.name
        self._places: dict[int, _Place] = {}
        self._past: dict[str, Tally] = {}
        self._past_commits = 0
        self._stop = asyncio.Event()
        self._progress = [TopicPartition(env.plan.progress_topic, lane) for lane in range(env.plan.lanes)]
        self._records: Reader | None = None
        """Follows the lane records."""
        self._marked = False
        """Whether somebody has said that this run has ended."""
        self._changed = asyncio.Event()
        self._restores: dict[int, RestoreProgress] = {}
        self._standbys = Standbys(env, self._changed.set)
        self._times = Times(env, lambda: [place.lane for place in self._places.values()])
        env.restoring = self._restoring

    @property
    def lanes(self) -> int:
        """How many lanes run here."""
        return len(self._places)

    @property
    def running(self) -> int:
        """How many of them are at work."""
        return sum(place.lane.phase is Phase.RUNNING for place in self._places.values())

    def stop(self) -> None:
        """Release all lanes; `run` returns then."""
        self._stop.set()

    async def run(self) -> None:
        """Open what is wanted, release what is not, until stopped; raises what ended a lane for good."""
        watching = [asyncio.create_task(self._watch_records())]
        if self.env.plan.timed:
            watching.append(asyncio.create_task(self._times.run()))
        try:
            await self._follow(watching)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, self._standbys.close(), return_exceptions=True)
            for place in self._places.values():
                place.task.cancel()
            await asyncio.gather(*(p.task for p in self._places.values()), return_exceptions=True)

    async def _follow(self, watching: Iterable[asyncio.Task[None]]) -> None:
        stopped = asyncio.create_task(self._stop.wait())
        following = asyncio.create_task(self._follow_membership())
        changed = asyncio.create_task(self._changed.wait())
        try:
            while True:
                stop, membership = self._stop.is_set(), self.env.membership
                wanted = frozenset() if stop else membership.wanted()
                self._open(wanted)
                self._release(wanted)
                # State is open once: a lane and its copy come when the other has been closed.
                self._standbys.follow(
                    frozenset() if stop else membership.standbys() - wanted - self._places.keys()
                )
                if stop and not self._places:
                    return
                waits: set[asyncio.Task[Any]] = {p.task for p in self._places.values()}
                waits |= {changed, following}
                waits |= {task for task in watching if not task.done()}
                waits |= {stopped} if not self._stop.is_set() else set()
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for ended in watching:
                    if ended.done() and not ended.cancelled():
                        ended.result()
                self._collect()
                if following.done():
                    following.result()
                if changed.done():
                    self._changed.clear()
                    changed = asyncio.create_task(self._changed.wait())
        finally:
            for task in (stopped, following, changed):
                task.cancel()
            await asyncio.gather(stopped, following, changed, return_exceptions=True)

    async def _follow_membership(self) -> None:
        """Note its changes. In one task for good: to every new one, all there ever was would be news."""
        while True:
            await self.env.membership.changed()
            self._changed.set()

    def _open(self, wanted: frozenset[int]) -> None:
        for number in sorted(wanted - self._places.keys() - self._standbys.lanes):
            lane = Lane(self.env, number)
            task = asyncio.create_task(lane.run(), name=f"{self.name}-lane-{number}")
            self._places[number] = _Place(lane, task)

    def _release(self, wanted: frozenset[int]) -> None:
        for number in self._places.keys() - wanted:
            place = self._places[number]
            if place.stopping is None:
                place.lane.stop()
                # Past the deadline the work in progress is dropped: the next owner does it again.
                loop = asyncio.get_running_loop()
                place.stopping = loop.call_later(self.env.release_timeout, place.task.cancel)

    def _collect(self) -> None:
        for number, place in list(self._places.items()):
            if not place.task.done():
                continue
            del self._places[number]
            if place.stopping is not None:
                place.stopping.cancel()
            self._restores.pop(number, None)
            for name, tally in place.lane.tallies().items():
                self._past.setdefault(name, Tally()).add(tally)
            self._past_commits += place.lane.commits
            self.env.membership.released(number)
            if not place.task.cancelled():
                place.task.result()

    # ---- queries

    def look(
        self, node: Node, lane: int, key: bytes, store: str | None, incarnation: str = ""
    ) -> tuple[bytes | None, AsOf] | None:
        """What is committed of a key in a stage of a lane; None while that does not run here."""
        place = self._places.get(lane)
        return None if place is None else place.lane.look(node, key, store, incarnation)

    # ---- what all lanes tell

    async def _watch_records(self) -> None:
        """Follow all lane records, if they tell of time or once the run is to end, until it has."""
        finite = self.env.finite
        if not self._times.listens:
            await finite.wanted.wait()
        while not finite.ended.is_set():
            try:
                await self._follow_records()
            except NotPermitted:
                raise
            except LogError as error:
                logger.warning("flow %r: lane records cannot be read (%s); again soon", self.name, error)
                await asyncio.sleep(WATCH_AGAIN)
        self.env.membership.end_run()
        self.stop()

    async def _follow_records(self) -> None:
        finite, log, progress = self.env.finite, self.env.log, self._progress
        starts, ends = await log.start_offsets(progress), await log.end_offsets(progress)
        reader = log.reader(committed=True)
        try:
            reader.assign({tp: max(starts[tp], ends[tp] - 2 * FIRST_LOOK) for tp in progress})
            self._records = reader
            while not finite.ended.is_set():
                for tp, records in (await reader.fetch(timeout=0.5)).items():
                    for record in records:
                        self._learn(tp.partition, record.key, record.value)
                if finite.wanted.is_set() and not self._marked and finite.all_done():
                    await self._end_run()
                if finite.wanted.is_set() and self._marked:
                    finite.ended.set()
        finally:
            self._records = None
            await reader.close()

    def _learn(self, lane: int, key: bytes | None, value: bytes | None) -> None:
        if key == RUN_KEY and value == self.env.membership.run.encode():
            self._marked = True
        elif key == RECORD_KEY and value is not None:
            with contextlib.suppress(ValueError):
                record = decode(value)
                self.env.finite.learned(lane, record)
                self._times.learned(lane, record)

    async def _end_run(self) -> None:
        """Tell all engines of the run that it has ended."""
        mark = OutRecord(RUN_KEY, self.env.membership.run.encode(), self.env.now())
        await self.env.log.publish(self.env.plan.progress_topic, 0, [mark])
        self._marked = True

    # ---- telling

    def caught_up(self, end: Callable[[TopicPartition], int], before: float) -> bool:
        """Whether its lanes are here, and have done everything below the ends of their inputs."""
        lanes = [place.lane for place in self._places.values()]
        if self.env.membership.wanted() != self._places.keys():
            return False
        return all(lane.caught_up(end, before) for lane in lanes) and self._time_settled(end)

    def expect(self, timestamp: int) -> None:
        """No older events come any more from the sources of its lanes."""
        for place in self._places.values():
            place.lane.expect(timestamp)

    def _time_settled(self, end: Callable[[TopicPartition], int]) -> bool:
        """Whether all that lanes have told of time was heard, and has come as far as it can."""
        if not self.env.plan.timed:
            return True
        if self._times.listens:
            reader = self._records
            if reader is None or any(reader.position(tp) < end(tp) for tp in self._progress):
                return False
        return self._times.settled()

    def _restoring(self, progress: RestoreProgress) -> None:
        self._restores[progress.lane] = progress
        if progress.done >= progress.total:
            self._restores.pop(progress.lane, None)

    def statistics(self) -> FlowStatistics:
        """What there is to tell about the flow here."""
        total: dict[str, Tally] = {node.name: Tally() for node in self.env.plan.all_nodes}
        lanes = [place.lane for place in self._places.values()]
        for tallies in (self._past, *(lane.tallies() for lane in lanes)):
            for name, tally in tallies.items():
                total[name].add(tally)
        queues: dict[str, Queue] = {name: Queue() for name in total}
        for lane in lanes:
            for name, queue in lane.queues().items():
                queues[name].add(queue)
        return FlowStatistics(
            name=self.name,
            assigned=len(lanes),
            running=self.running,
            stuck=sum(lane.stuck for lane in lanes),
            commits=self._past_commits + sum(lane.commits for lane in lanes),
            take_overs=sum(lane.take_overs for lane in lanes),
            restored=sum(lane.restored for lane in lanes),
            stages={name: _stage(tally, queues[name]) for name, tally in total.items()},
            restores=tuple(RestoreStatistics(r.lane, r.done, r.total) for r in self._restores.values()),
            standbys=self._standbys.statistics(),
            remaining=self._remaining(lanes),
        )

    def _remaining(self, lanes: list[Lane]) -> int | None:
        return sum(lane.remaining for lane in lanes) if self.env.finite.wanted.is_set() else None


def _stage(tally: Tally, queue: Queue) -> StageStatistics:
    wait = None if queue.next_try is None else max(queue.next_try - monotonic(), 0.0)
    return StageStatistics(
        **asdict(tally),
        in_progress=queue.in_progress,
        retrying=queue.retrying,
        next_try=wait,
        parked=queue.parked,
    )

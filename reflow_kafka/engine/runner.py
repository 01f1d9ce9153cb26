"""One flow in one engine: follows the membership, opening and releasing lanes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from reflow_kafka.clock import monotonic
from reflow_kafka.engine.standbys import Standbys
from reflow_kafka.engine.statistics import FlowStatistics, RestoreStatistics, StageStatistics
from reflow_kafka.errors import LogError, NotPermitted
from reflow_kafka.lane.env import LaneEnv
from reflow_kafka.lane.lane import Lane, Phase
from reflow_kafka.lane.record import RECORD_KEY, RUN_KEY, decode
from reflow_kafka.lane.tail import FIRST_LOOK
from reflow_kafka.lane.work import Queue, Tally
from reflow_kafka.log.api import OutRecord, TopicPartition
from reflow_kafka.state.changelog import RestoreProgress

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
        self._changed = asyncio.Event()
        self._restores: dict[int, RestoreProgress] = {}
        self._standbys = Standbys(env, self._changed.set)
        env.restoring = self._restoring

    @property
    def lanes(self) -> int:
        """How many lanes run here."""
        return len(self._places)

    def stop(self) -> None:
        """Release all lanes; `run` returns then."""
        self._stop.set()

    async def run(self) -> None:
        """Open what is wanted, release what is not, until stopped; raises what ended a lane for good."""
        watching = asyncio.create_task(self._watch_records())
        try:
            await self._follow(watching)
        finally:
            watching.cancel()
            await asyncio.gather(watching, self._standbys.close(), return_exceptions=True)
            for place in self._places.values():
                place.task.cancel()
            await asyncio.gather(*(p.task for p in self._places.values()), return_exceptions=True)

    async def _follow(self, watching: asyncio.Task[None]) -> None:
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
                waits |= {watching} if not watching.done() else set()
                waits |= {stopped} if not self._stop.is_set() else set()
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if watching.done() and not watching.cancelled():
                    watching.result()
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

    # ---- the end of a finite run

    async def _watch_records(self) -> None:
        """Follow all lane records, once the run is to end, until it has."""
        finite = self.env.finite
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
        finite, plan, log = self.env.finite, self.env.plan, self.env.log
        partitions = [TopicPartition(plan.progress_topic, lane) for lane in range(plan.lanes)]
        starts, ends = await log.start_offsets(partitions), await log.end_offsets(partitions)
        reader = log.reader(committed=True)
        try:
            reader.assign({tp: max(starts[tp], ends[tp] - 2 * FIRST_LOOK) for tp in partitions})
            while not finite.ended.is_set():
                for tp, records in (await reader.fetch(timeout=0.5)).items():
                    for record in records:
                        self._learn(tp.partition, record.key, record.value)
                if finite.all_done():
                    await self._end_run()
        finally:
            await reader.close()

    def _learn(self, lane: int, key: bytes | None, value: bytes | None) -> None:
        if key == RUN_KEY and value == self.env.membership.run.encode():
            self.env.finite.ended.set()
        elif key == RECORD_KEY and value is not None:
            with contextlib.suppress(ValueError):
                self.env.finite.learned(lane, decode(value))

    async def _end_run(self) -> None:
        """Tell all engines of the run that it has ended."""
        mark = OutRecord(RUN_KEY, self.env.membership.run.encode(), self.env.now())
        await self.env.log.publish(self.env.plan.progress_topic, 0, [mark])
        self.env.finite.ended.set()

    # ---- telling

    def caught_up(self, end: Callable[[TopicPartition], int], before: float) -> bool:
        """Whether its lanes are here, and have done everything below the ends of their inputs."""
        lanes = [place.lane for place in self._places.values()]
        return self.env.membership.wanted() == self._places.keys() and all(
            lane.caught_up(end, before) for lane in lanes
        )

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
            running=sum(lane.phase is Phase.RUNNING for lane in lanes),
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

"""One ownership of a lane, from its take-over to its end: reading, working, committing.

Whatever goes wrong ends the session, and nothing of it is used again; the lane then takes over anew. All
that happens between two awaits is atomic towards commits, which is what the workers rely on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from reflow_kafka.clock import monotonic
from reflow_kafka.lane.build import Builder
from reflow_kafka.lane.calls import uncancelled
from reflow_kafka.lane.clock import WorkClock
from reflow_kafka.lane.clocks import Clocks
from reflow_kafka.lane.commits import Committer
from reflow_kafka.lane.env import LaneEnv
from reflow_kafka.lane.gate import Gate
from reflow_kafka.lane.pace import Pace
from reflow_kafka.lane.peek import AsOf, look
from reflow_kafka.lane.refusals import Refusals
from reflow_kafka.lane.takeover import Ownership
from reflow_kafka.lane.work import Work
from reflow_kafka.log.api import Reader, TopicPartition
from reflow_kafka.topology.plan import Node

log = logging.getLogger(__name__)

MAX_RECORDS = 2000
"""Records per fetch of a lane."""
FETCH_WAIT = 0.5
"""Seconds a fetch waits for records when nothing else is to be done."""
CROWDED_WAIT = 0.05
"""The same while some worker has no room: it may have by then."""
TRIM_INTERVAL = 30.0


class Session:
    """The lane at work."""

    def __init__(
        self,
        env: LaneEnv,
        lane: int,
        own: Ownership,
        refusals: Refusals,
        resources: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.env = env
        self.lane = lane
        self.own = own
        self.gate = Gate(lambda: refusals.limit)
        self.began = monotonic()
        self._stop = asyncio.Event()
        self._working = False
        self._internal = {i.topic for node in env.plan.nodes for i in node.inputs if i.internal}
        self._readers: list[tuple[Reader, list[TopicPartition]]] = []
        self.works = Builder(
            plan=env.plan,
            lane=lane,
            new_batch=partial(own.writer.batch, early=env.guarantee == "at-least-once"),
            stores=own.restored.stores,
            gate=self.gate,
            calm=env.calm,
            processes=env.processes,
            throttles=env.throttles,
            shares=env.shares,
            refusals=refusals,
            marks=own.marks,
            incarnation=own.record.incarnation,
            seek=self._seek,
            resources=resources,
            users=env.users,
            counts=env.counts,
            learn=env.learn,
            now=env.now,
            clocks=Clocks(env.plan, lane, own.record.times, env.now, env.habits),
        ).works()
        self._reads = {tp: work for work in self.works for tp in work.inputs}
        pace = Pace(interval=env.commit_interval)
        self.committer = Committer(env, lane, own, self.works, self.gate, pace, refusals)

    # ---- life

    async def run(self) -> None:
        """Work until `stop`; raises what ended the work otherwise (in an ExceptionGroup)."""
        await self.committer.begin()
        for work in self.works:
            await work.open()
        self._open_readers()
        self._working = True
        async with asyncio.TaskGroup() as tasks:

            def start(work: Callable[..., Awaitable[None]], *arguments: Any) -> asyncio.Task[None]:
                return tasks.create_task(uncancelled(work, *arguments))

            background = [start(self._intake, r, tps) for r, tps in self._readers]
            background += [start(self._trim), start(self._watch_end)]
            committing = start(self.committer.run)
            working = [start(work.run) for work in self.works]
            await self._stop.wait()
            self.gate.stop()
            for work in self.works:
                work.inbox.stop()
            for task in background:
                task.cancel()
            _, late = await asyncio.wait(working, timeout=self.env.release_timeout * 0.6)
            for task in late:
                task.cancel()  # what is unfinished is done again by the next owner
            await asyncio.wait(working)
            self.committer.finish()
            await committing

    def stop(self) -> None:
        """Finish what is in progress, commit, end."""
        self._stop.set()

    async def close(self) -> None:
        """Release everything, even what comes after something that is cancelled; raises nothing else."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._close_stores)
            stack.push_async_callback(self.own.writer.close)
            for work in reversed(self.works):
                stack.push_async_callback(self._close_work, work)
            for reader, _ in self._readers:
                stack.push_async_callback(reader.close)

    async def _close_work(self, work: Work) -> None:
        try:
            async with asyncio.timeout(self.env.release_timeout):
                await work.close()
        except TimeoutError:
            limit = self.env.release_timeout
            log.error(
                "%s: stage %r did not close within %g s; it is left as it is", self, work.node.name, limit
            )

    def _close_stores(self) -> None:
        with contextlib.suppress(Exception):
            self.own.restored.stores.close()

    # ---- reading

    def _open_readers(self) -> None:
        """One reader; at-least-once a second one, so that edges are read before they are committed."""
        groups: dict[bool, list[TopicPartition]] = {}
        for tp in self._reads:
            early = self.env.guarantee == "at-least-once" and tp.topic in self._internal
            groups.setdefault(not early, []).append(tp)
        for committed, tps in groups.items():
            reader = self.env.log.reader(committed=committed)
            reader.assign({tp: self.own.marks[tp].position for tp in tps})
            self._readers.append((reader, tps))
        self._reader_of = {tp: reader for reader, tps in self._readers for tp in tps}

    def _seek(self, partition: TopicPartition, offset: int) -> None:
        self._reader_of[partition].seek(partition, offset)

    async def _intake(self, reader: Reader, partitions: Sequence[TopicPartition]) -> None:
        """Keep the workers supplied, never with more than they have room for."""
        inboxes = {tp: self._reads[tp].inbox for tp in partitions}
        while True:
            wanted = [tp for tp in partitions if inboxes[tp].room(tp)]
            if not wanted:
                self.gate.moved.clear()
                await self.gate.moved.wait()
                continue
            generations = [inboxes[tp].generation for tp in wanted]
            everything = len(wanted) == len(partitions)
            batches = await reader.fetch(
                None if everything else wanted,
                max_records=MAX_RECORDS,
                timeout=FETCH_WAIT if everything else CROWDED_WAIT,
            )
            for tp, generation in zip(wanted, generations, strict=True):
                inbox = inboxes[tp]
                if inbox.generation == generation:
                    inbox.give(tp, batches.get(tp, ()), reader.position(tp), more=reader.behind(tp))
                else:  # the worker went back meanwhile: what was fetched is void
                    reader.seek(tp, inbox.position(tp))
            if not everything:
                await asyncio.sleep(0)

    async def _trim(self) -> None:
        """Forget consumed events of the edges now and then."""
        while True:
            await asyncio.sleep(TRIM_INTERVAL)
            positions = {
                tp: mark.position for tp, mark in self.committer.marks.items() if tp.topic in self._internal
            }
            try:
                await self.env.log.trim(positions)  # of nothing, too: a log may have other things to tidy up
            except Exception as error:  # only disk space depends on it; it is tried again
                log.warning("%s: trimming failed: %s", self, error)

    def caught_up(self, end: Callable[[TopicPartition], int], before: float) -> bool:
        """Whether everything below the ends of the inputs is finished and committed.

        A stage whose events wait for a try that is not made `before` is left out, and so is an input that
        nothing is taken from before others have more.
        """
        if self.gate.pending:
            return False
        marks = self.committer.marks
        for work in self.works:
            queue = work.queue()
            if queue.in_progress or (queue.next_try is not None and queue.next_try <= before):
                return False
            inputs = (tp for tp in work.inputs if tp not in queue.left)
            behind = queue.parked or any(marks[tp].position < end(tp) for tp in inputs)
            if behind and queue.next_try is None:
                return False
        return True

    # ---- time

    @property
    def clocks(self) -> list[WorkClock]:
        """The clocks of the stages that have one."""
        return [work.clock for work in self.works if work.clock is not None]

    def expect(self, timestamp: int) -> None:
        """No older events come any more from the sources of this lane."""
        for clock in self.clocks:
            clock.expect(timestamp)
        self.keep_time()
        self.committer.demand()

    def keep_time(self) -> bool:
        """Note how far time has come in each stage, and tell; False if the work has not begun yet."""
        for work in self.works if self._working else ():
            work.keep_time()
            if work.clock is not None and work.clock.news():
                self.committer.tell()
        return self._working

    # ---- the end of a finite run

    async def _watch_end(self) -> None:
        """Note in the lane record which stages are done, once the run is to end."""
        finite = self.env.finite
        await finite.wanted.wait()
        ends = dict(self.own.ends)
        left = list(self.works)
        while left:
            for work in list(left):
                if await self._is_done(work, ends):
                    left.remove(work)
                    self.committer.mark_done(work.node.name)
            await finite.news(0.2)

    async def _is_done(self, work: Work, ends: dict[TopicPartition, int]) -> bool:
        upstreams = {i.topic: i.upstream for i in work.node.inputs if i.internal}
        for tp in work.inputs:
            if tp not in ends:
                upstream = self.env.plan.host(upstreams[tp.topic])
                if not self.env.finite.done(upstream.name, upstream.lanes):
                    return False
                # Uncommitted: a lane record can be visible a moment before the outputs of its commit are.
                ends.update(await self.env.log.end_offsets([tp], committed=False))
        work.nothing_more()
        for tp in work.inputs:
            if work.inbox.position(tp) < ends[tp]:
                return False
            if self.committer.marks[tp].position < ends[tp]:
                self.committer.demand()  # until it is committed, the worker may have to go back
                return False
        # Asked last: no await may stand between this and the positions.
        return work.ended() and work.flushed()

    # ---- queries

    def look(self, node: Node, key: bytes, store: str | None) -> tuple[bytes | None, AsOf]:
        """What is committed of a key in a stage of this lane, and up to where. No await stands between."""
        stores = self.own.restored.stores
        found = look(node, stores, key, store)
        mark = stores.mark()
        offset = 0 if mark is None else mark.positions.get(node.name, 0)
        topics = {entry.topic for entry in self.env.plan.host(node.name).inputs}
        marks = self.committer.marks.items()
        return found, AsOf(self.lane, offset, {tp.topic: m.position for tp, m in marks if tp.topic in topics})

    def remaining(self) -> int:
        """Offsets of external inputs still before the end of a finite run."""
        return sum(max(end - self._reads[tp].inbox.position(tp), 0) for tp, end in self.own.ends.items())

    def __str__(self) -> str:
        return f"{self.env.plan.flow.name}[{self.lane}]"

"""Commits of one lane: what is in them, in which order, and what follows.

    take the shares (no await) ──► begin · send · positions · end ──► one write to the store ──► acknowledge

While a commit is under way the workers go on into fresh builders. A crash before the end of the transaction
leaves nothing; between it and the write, the store is one transaction behind its changelog and catches up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Final

from reflow_kafka.clock import monotonic
from reflow_kafka.errors import FlowStopped, LogDoubt, RecordRefused
from reflow_kafka.killpoint import reached
from reflow_kafka.lane.cpu import Metered, cpu_used_and_missed
from reflow_kafka.lane.env import LaneEnv
from reflow_kafka.lane.gate import Gate
from reflow_kafka.lane.inflight import ELSEWHERE, MAX_METADATA, Mark
from reflow_kafka.lane.inflight import encode as encode_runs
from reflow_kafka.lane.outbox import MAX_RECORD
from reflow_kafka.lane.pace import BUSY, Pace
from reflow_kafka.lane.parking import largest
from reflow_kafka.lane.record import RECORD_KEY, LaneRecord, encode
from reflow_kafka.lane.refusals import Refusals
from reflow_kafka.lane.takeover import Ownership
from reflow_kafka.lane.work import Share, Work
from reflow_kafka.log.api import BatchBuilder, Commit, CommittedPosition, TopicPartition
from reflow_kafka.state.store import StoreMark
from reflow_kafka.timed.watermark import LaneTime
from reflow_kafka.topology.topics import PARKED

IDLE: Final = 60.0
TELL_CPU: Final = 0.0015
"""Seconds of CPU that a commit of nothing but how far time has come takes."""
EARLY: Final = 0.02
"""Seconds between batches written ahead of their commit while the process is busy."""


class Committer:
    """Decides when to commit, and does."""

    def __init__(
        self,
        env: LaneEnv,
        lane: int,
        own: Ownership,
        works: Sequence[Work],
        gate: Gate,
        pace: Pace,
        refusals: Refusals,
    ) -> None:
        self.marks = dict(own.marks)
        """How far the inputs are finished, as it is committed."""
        self.commits = 0
        self.moved = False
        """Whether anything but lane records has been committed since the take-over."""
        self._env = env
        self._lane = lane
        self._writer = own.writer
        self._stores = own.restored.stores
        self._mark = own.restored.mark
        self._ends = dict(own.restored.ends)
        self._record = own.record
        self._changelogs = env.changelogs(lane)
        self._works = works
        self._gate = gate
        self._pace = pace
        self._refusals = refusals
        self._done: tuple[str, ...] = ()
        self._forced = own.fresh or own.record.http != env.http
        self._finishing = False
        self._early = env.guarantee == "at-least-once"
        self._handed = 0.0
        self._news = False
        """Whether there is something to tell of time, even if nothing else is to be committed."""
        self._told = 0.0
        self._progress = TopicPartition(env.plan.progress_topic, lane)

    async def begin(self) -> None:
        """The first act of a lane that is new: where it starts, and who it is, are decided once.

        What a sink stores with its data names the lane's incarnation: it must be known before. Where queries
        are answered is told at once, too.
        """
        if self._forced:
            await self._commit()

    def mark_done(self, stage: str) -> None:
        """A stage of this lane has finished the run: to be said in the lane record."""
        self._done = (*self._done, stage)
        self.demand()

    def demand(self) -> None:
        """Commit now, whatever there is."""
        self._forced = True
        self._gate.changed.set()

    def tell(self) -> None:
        """There is news of time: commit soon, if nothing else is to be committed anyway.

        Commits of nothing but time take a tenth of the CPU at most, all those of this process together.
        """
        every = self._env.habits.every
        apart = every and max(every, TELL_CPU * self._env.lanes() / 0.1)
        if not self._news and monotonic() - self._told >= apart:
            self._news = True
            self._gate.worked()

    def finish(self) -> None:
        """Commit what there is, then end."""
        self._finishing = True
        self._gate.changed.set()

    async def run(self) -> None:
        """Commit whenever it is due, until `finish`."""
        while True:
            self._gate.changed.clear()
            wait, last = self._wait(), self._finishing
            if last or wait == 0:
                await self._commit()
                if last:  # if it was said only now, more may have been done during this commit
                    self._stores_are_current()
                    return
            elif self._early and await self._hand_over():
                continue  # which took its time
            else:
                with contextlib.suppress(TimeoutError):
                    # Not wait_for: before Python 3.12 it may swallow a cancellation.
                    async with asyncio.timeout(wait):
                        await self._gate.changed.wait()

    def _wait(self) -> float:
        """Seconds until the next commit."""
        if self._forced:
            return 0.0
        now = monotonic()
        if self._gate.pending:
            self._pace.worked(now)
        if self._env.load.stale(now):
            self._env.load.sample(now, *cpu_used_and_missed())
        due = self._pace.due(
            # What is handed over early gains nothing by an early commit.
            quiet=not self._early and not any(work.in_hand() for work in self._works),
            full=self._gate.full,
            busy=self._env.load.busy,
            lanes=self._env.lanes(),
            granted=self._env.load.granted,
        )
        return IDLE if due is None else max(due - now, 0.0)

    async def _hand_over(self) -> bool:
        """Write what there is ahead of the commit; whether there was anything."""
        if self._env.load.busy > BUSY and monotonic() - self._handed < EARLY:
            return False
        self._handed = monotonic()
        sent = False
        try:
            for work in self._works:
                batches = work.results()
                if batches:
                    await self._writer.send(batches)
                    sent = True
        except RecordRefused as error:  # it belongs to the events since the last commit
            shares = [(work, work.counted()) for work in self._works]
            self._refused(error, shares, _marks(shares))
            raise
        return sent

    async def _commit(self) -> None:
        """Commit when its turn comes; what is done until then is in it."""
        async with self._env.calm.commit():
            committed = await self._commit_now()
        for work in committed:
            await work.committed()
        if committed:
            reached("commit.done")

    async def _commit_now(self) -> Sequence[Work]:
        """Returns whose shares are in the commit; nobody's, if there was nothing to commit."""
        began = time.thread_time()
        shares = [(work, work.take()) for work in self._works]
        marks = _marks(shares)
        changes = _changes(shares)
        commit, ends = self._content(shares, changes)
        ahead = _outputs(shares) if self._early else {}
        self._gate.taken()
        began_at = monotonic()
        waited = self._pace.committing(began_at)
        cpu = time.thread_time() - began
        moved = bool(commit.batches) or marks != self.marks
        if not (moved or self._forced or self._news or self._early):
            return ()
        self._forced = self._news = False
        self._told = monotonic()
        self._add_positions(commit, marks, ends, _times(shares))
        reached("commit.taken")
        try:
            if ahead:
                await self._writer.send(ahead)
            writing = Metered(self._writer.commit(commit))
            bases = await writing
        except RecordRefused as error:
            self._refused(error, shares, marks)
            raise
        reached("commit.ended")
        self._verify(bases, ends)
        began = time.thread_time()
        self._write(changes, ends)
        reached("commit.written")
        self._pace.committed(cpu + writing.cpu + time.thread_time() - began)
        took = monotonic() - began_at
        self._env.lateness.note(began_at + took, waited + took, took)
        self.marks = marks
        self._ends = ends
        self.commits += 1
        self.moved = self.moved or moved
        self._refusals.accepted({tp: mark.position for tp, mark in marks.items()})
        for work in self._works:
            work.settled()
        return self._works

    def _content(
        self, shares: Sequence[tuple[Work, Share]], changes: Mapping[str, dict[bytes, bytes | None]]
    ) -> tuple[Commit, dict[str, int]]:
        """Outputs and changelog records; and where the changelogs will end."""
        commit = Commit({} if self._early else _outputs(shares))
        ends = dict(self._ends)
        for store, changed in changes.items():
            topic = self._changelogs[store]
            commit.batches[TopicPartition(topic, self._lane)] = self._changelog(changed)
            ends[topic] = ends.get(topic, 0) + len(changed) + self._writer.marker
        return commit, ends

    def _changelog(self, changes: dict[bytes, bytes | None]) -> list[BatchBuilder]:
        now = self._env.now()
        builders = [self._writer.batch()]
        append = builders[0].append
        for key, value in changes.items():
            if append(now, key, value) is None:
                builders.append(self._writer.batch())
                append = builders[-1].append
                append(now, key, value)
        return builders

    def _add_positions(
        self,
        commit: Commit,
        marks: dict[TopicPartition, Mark],
        ends: dict[str, int],
        times: Mapping[str, LaneTime],
    ) -> None:
        """Positions and lane record; both say what is finished above a position."""
        runs: dict[str, str] = {}
        for tp, mark in marks.items():
            metadata = encode_runs(mark)
            if metadata:
                runs[tp.topic] = metadata
            if len(metadata) > MAX_METADATA:
                metadata = ELSEWHERE
            commit.positions[tp] = CommittedPosition(mark.position, metadata)
        self._record = LaneRecord(
            incarnation=self._record.incarnation,
            plan=self._env.plan.hash,
            changelogs=ends,
            positions={tp.topic: mark.position for tp, mark in marks.items()},
            runs=runs,
            inputs={**self._env.direct_inputs(), **self._record.inputs},
            layouts={**self._record.layouts, **self._env.layouts(self._lane)},
            run=self._env.membership.run,
            done=self._done,
            times=times,
            http=self._env.http,
        )
        builder = self._writer.batch()
        builder.append(timestamp=self._env.now(), key=RECORD_KEY, value=encode(self._record))
        commit.batches[self._progress] = [builder]

    def _verify(self, bases: dict[TopicPartition, int], ends: dict[str, int]) -> None:
        """This lane alone writes its changelogs, so it knows the offsets; anything else is doubt."""
        for topic, end in ends.items():
            before = self._ends.get(topic, 0)
            found = bases.get(TopicPartition(topic, self._lane))
            if end != before and found != before:
                raise LogDoubt(f"changelog {topic}[{self._lane}]: wrote at {found}, expected {before}")

    def _write(self, changes: Mapping[str, dict[bytes, bytes | None]], ends: dict[str, int]) -> None:
        if changes:
            self._mark = self._mark_at(ends)
            self._stores.write({store: changed.items() for store, changed in changes.items()}, self._mark)

    def _mark_at(self, ends: dict[str, int]) -> StoreMark:
        positions = {store: ends[topic] for store, topic in self._changelogs.items()}
        return StoreMark(self._record.incarnation, positions, self._env.now())

    def _stores_are_current(self) -> None:
        """Say so in the store, so that the next owner on this machine need not restore."""
        if self._ends and self.commits:  # without a commit, the lane record does not know these ends
            self._stores.write({}, self._mark_at(self._ends))

    def _refused(
        self, error: RecordRefused, shares: Sequence[tuple[Work, Share]], marks: dict[TopicPartition, Mark]
    ) -> None:
        """Suspect the events of those stages whose records were refused; a source's cannot be told apart."""
        parked = self._changelogs.get(PARKED)
        if any(tp.topic == parked for tp in error.partitions):  # no event that has finished is to blame
            raise FlowStopped(
                f"flow {self._env.plan.flow.name!r}, lane {self._lane}: {parked} refuses events that wait "
                f"long, the largest of them {largest(_changes(shares)[PARKED])}: {error}. "
                f"Records of {MAX_RECORD:,} bytes must fit: raise its max.message.bytes to 1048588"
            ) from error
        guilty = [
            share
            for work, share in shares
            if any(tp in share.batches or tp.topic in _changelogs(work) for tp in error.partitions)
        ] or [share for _, share in shares]
        events = sum(share.events for share in guilty)
        last = next((share.last for share in guilty if share.events), None)
        reached = {tp: mark.runs[-1][1] if mark.runs else mark.position for tp, mark in marks.items()}
        if not self._refusals.refused(events, last, reached, str(error)):
            raise FlowStopped(
                f"flow {self._env.plan.flow.name!r}, lane {self._lane}: the log refuses a record that cannot "
                f"be dead-lettered either: {error}"
            ) from error


def _changes(shares: Sequence[tuple[Work, Share]]) -> dict[str, dict[bytes, bytes | None]]:
    """What changes in each store; all stages of a lane park their events in the same."""
    changes: dict[str, dict[bytes, bytes | None]] = {}
    for _, share in shares:
        for store, changed in share.changes.items():
            if changed:
                changes[store] = {**changes[store], **changed} if store in changes else changed
    return changes


def _changelogs(work: Work) -> set[str | None]:
    return {node.changelog for node in work.node.chain}


def _marks(shares: Sequence[tuple[Work, Share]]) -> dict[TopicPartition, Mark]:
    return {tp: mark for _, share in shares for tp, mark in share.marks.items()}


def _times(shares: Sequence[tuple[Work, Share]]) -> dict[str, LaneTime]:
    return {stage: time for _, share in shares for stage, time in share.times.items()}


def _outputs(shares: Sequence[tuple[Work, Share]]) -> dict[TopicPartition, list[BatchBuilder]]:
    batches: dict[TopicPartition, list[BatchBuilder]] = {}
    for _, share in shares:
        for tp, builders in share.batches.items():
            batches.setdefault(tp, []).extend(builders)
    return batches

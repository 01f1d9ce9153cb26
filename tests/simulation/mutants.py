"""Mistakes made on purpose, each of which the simulation has to notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reflow_kafka.errors import LogDoubt
from reflow_kafka.lane import commits, standby, takeover
from reflow_kafka.lane.clock import WorkClock
from reflow_kafka.lane.clocks import Clocks
from reflow_kafka.lane.commits import Committer
from reflow_kafka.lane.inflight import InFlight, Mark
from reflow_kafka.lane.lane import Lane
from reflow_kafka.lane.lines import Lines
from reflow_kafka.lane.parking import Parking
from reflow_kafka.lane.worker import Worker
from reflow_kafka.log.api import Commit
from reflow_kafka.log.local import LocalReader
from reflow_kafka.state import changelog
from reflow_kafka.state.cache import StateCache
from reflow_kafka.state.judge import Tail
from reflow_kafka.timed import clocks
from reflow_kafka.timed.clocks import EdgeClock, SourceClock, gone_on
from reflow_kafka.timed.watermark import LaneTime, Snapshot
from reflow_kafka.units import LONG_AGO, NEVER
from tests.simulation.broker import SimulatedWriter

Patch = pytest.MonkeyPatch


def positions_before_outputs(patch: Patch) -> None:
    """The positions are committed in a transaction of their own, before the outputs are."""
    commit = SimulatedWriter.commit

    async def in_two(self: SimulatedWriter, content: Commit) -> Any:
        await commit(self, Commit({}, content.positions))
        return await commit(self, Commit(content.batches, {}))

    patch.setattr(SimulatedWriter, "commit", in_two)


def outputs_before_positions(patch: Patch) -> None:
    """The same the other way round."""
    commit = SimulatedWriter.commit

    async def in_two(self: SimulatedWriter, content: Commit) -> Any:
        first = await commit(self, Commit(content.batches, {}))
        await commit(self, Commit({}, content.positions))
        return first

    patch.setattr(SimulatedWriter, "commit", in_two)


def no_fencing(patch: Patch) -> None:
    """A writer whose lane was taken over can still commit."""
    arrive = SimulatedWriter._arrive

    def unfenced(self: SimulatedWriter, effect: Callable[..., Any], *arguments: Any) -> Any:
        self._fenced = None
        return arrive(self, effect, *arguments)

    patch.setattr(SimulatedWriter, "_arrive", unfenced)


def doubt_is_success(patch: Patch) -> None:
    """A commit without an answer counts as done."""
    commit = SimulatedWriter.commit

    async def trusting(self: SimulatedWriter, content: Commit) -> Any:
        try:
            return await commit(self, content)
        except LogDoubt:
            self._broken = ""
            return dict.fromkeys(content.batches, 0)

    patch.setattr(SimulatedWriter, "commit", trusting)
    patch.setattr(Committer, "_verify", lambda self, bases, ends: None)


def state_before_the_end(patch: Patch) -> None:
    """Local state is written before the transaction is known to be committed."""
    content = Committer._content

    def early(self: Committer, shares: Any) -> Any:
        commit, ends = content(self, shares)
        self._write(shares, ends)
        return commit, ends

    patch.setattr(Committer, "_content", early)


def state_is_not_restored(patch: Patch) -> None:
    """Local state counts as complete whatever it says about itself."""
    patch.setattr(changelog, "judge", lambda mark, of, recorded, starts, ends, *more: Tail(ends))


def runs_are_forgotten(patch: Patch) -> None:
    """What is finished above a position is not remembered."""
    patch.setattr(commits, "encode_runs", lambda mark: "")


def parked_events_are_lost(patch: Patch) -> None:
    """What is parked does not enter the commits."""
    snapshot = Parking.snapshot

    def forgetful(self: Parking) -> Any:
        return {id: entry for id, entry in snapshot(self).items() if entry is None}

    patch.setattr(Parking, "snapshot", forgetful)


def an_event_is_skipped(patch: Patch) -> None:
    """After a take-over one event more counts as finished."""
    committed = takeover._committed

    def further(*arguments: Any) -> Mark:
        mark = committed(*arguments)
        return mark if mark.runs or not mark.position else Mark(mark.position + 1)

    patch.setattr(takeover, "_committed", further)


def state_is_not_in_the_commit(patch: Patch) -> None:
    """One key in several is left out of a commit, as long as the lane lives nobody notices."""
    snapshot = StateCache.snapshot
    patch.setattr(StateCache, "snapshot", lambda self: dict(list(snapshot(self).items())[1:]))


def a_lane_gives_up(patch: Patch) -> None:
    """A lane that has failed does not start again."""

    async def idle(self: Lane, error: BaseException) -> None:
        await asyncio.get_running_loop().create_future()

    patch.setattr(Lane, "_heal", idle)


def a_failure_leaves_a_trace(patch: Patch) -> None:
    """What a failing handler has done to the state stays."""
    patch.setattr(StateCache, "undo", lambda self, key: True)


def a_key_does_not_wait(patch: Patch) -> None:
    """While an event waits for its next try, others of its key overtake it."""
    patch.setattr(Lines, "keys", property(lambda self: ()))


def aborted_records_are_read(patch: Patch) -> None:
    """Edges are read before they are committed."""
    begin = LocalReader.__init__

    def hasty(self: LocalReader, log: Any, *, committed: bool) -> None:
        begin(self, log, committed=False)

    patch.setattr(LocalReader, "__init__", hasty)


def a_retry_is_forgotten(patch: Patch) -> None:
    """An event that waits for its next try counts as finished."""
    patch.setattr(InFlight, "open", lambda self, offset: self.reach(offset + 1))
    patch.setattr(InFlight, "close", lambda self, offset: None)


def barriers_are_no_obstacles(patch: Patch) -> None:
    """What lanes have told counts at once, whatever they have written before."""
    bar = EdgeClock.bar

    def at_once(self: EdgeClock, told: Snapshot, version: int, end: int) -> None:
        bar(self, told, version, 0)

    patch.setattr(EdgeClock, "bar", at_once)


def events_in_hand_tell_the_time(patch: Patch) -> None:
    """Time does not wait for the events before the newest one."""
    advance = SourceClock.advance

    def hasty(self: SourceClock, position: int, reached: int, resting: bool, now: int) -> None:
        advance(self, reached, reached, resting, now)

    patch.setattr(SourceClock, "advance", hasty)


def what_is_open_does_not_hold(patch: Patch) -> None:
    """A stage does not care what it is still going to emit."""
    told = WorkClock.told
    patch.setattr(WorkClock, "told", lambda self, holds=NEVER: told(self))


def parked_events_do_not_hold(patch: Patch) -> None:
    """Time goes on although events are parked."""
    patch.setattr(Worker, "_stands", lambda self: False)


def a_silent_source_counts_after_a_restart(patch: Patch) -> None:
    """A source that has had nothing since its lane was taken over is not idle, however long that lasts."""
    time = SourceClock.time

    def waiting(self: SourceClock, now: int) -> LaneTime:
        return LaneTime(self.watermark) if self.top == LONG_AGO else time(self, now)

    patch.setattr(SourceClock, "time", waiting)


def time_goes_back_when_a_lane_speaks_again(patch: Patch) -> None:
    """A stage goes by what the slowest lane tells, even if it has gone on while that was idle."""
    follow = WorkClock._follow

    def backwards(self: WorkClock, time: LaneTime, now: int) -> bool:
        self._clock = LONG_AGO
        return follow(self, time, now)

    patch.setattr(WorkClock, "_follow", backwards)


def what_is_not_read_is_not_there(patch: Patch) -> None:
    """A source is idle when nothing comes from it, and nobody asks whether there is something."""
    ends = SourceClock.ends
    patch.setattr(SourceClock, "ends", lambda self, end, now: ends(self, self._position, now))


def events_in_progress_are_no_traffic(patch: Patch) -> None:
    """A source is idle while its events are being worked on."""
    advance, ends = SourceClock.advance, SourceClock.ends

    def resting(self: SourceClock, position: int, reached: int, resting: bool, now: int) -> None:
        advance(self, position, reached, True, now)

    patch.setattr(SourceClock, "advance", resting)
    patch.setattr(SourceClock, "ends", lambda self, end, now: ends(self, min(end, self._position), now))


def time_is_forgotten_with_the_owner(patch: Patch) -> None:
    """A new owner begins with no time."""
    of = Clocks.of
    patch.setattr(Clocks, "of", lambda self, node: of(replace(self, told={}), node))


def quick_time(patch: Patch) -> None:
    """Time goes on faster than the wall clock."""
    patch.setattr(clocks, "gone_on", lambda watermark, since: gone_on(watermark, 2 * since))


def a_copy_is_not_written(patch: Patch) -> None:
    """A standby tells how far it has read, and keeps nothing of it."""
    write = standby._Copy._write

    def idle(self: standby._Copy, changes: Any, positions: Any) -> None:
        write(self, {}, positions)

    patch.setattr(standby._Copy, "_write", idle)


MEMBER_MUTANTS: list[Callable[[Patch], None]] = [a_copy_is_not_written]

SILENCE_MUTANTS: list[Callable[[Patch], None]] = [
    a_silent_source_counts_after_a_restart,
    time_goes_back_when_a_lane_speaks_again,
    what_is_not_read_is_not_there,
    events_in_progress_are_no_traffic,
    time_is_forgotten_with_the_owner,
    quick_time,
]

TIME_MUTANTS: list[Callable[[Patch], None]] = [
    barriers_are_no_obstacles,
    events_in_hand_tell_the_time,
    what_is_open_does_not_hold,
    parked_events_do_not_hold,
]

MUTANTS: list[Callable[[Patch], None]] = [
    positions_before_outputs,
    outputs_before_positions,
    no_fencing,
    doubt_is_success,
    state_before_the_end,
    state_is_not_restored,
    runs_are_forgotten,
    parked_events_are_lost,
    an_event_is_skipped,
    state_is_not_in_the_commit,
    a_lane_gives_up,
    a_failure_leaves_a_trace,
    a_key_does_not_wait,
    aborted_records_are_read,
    a_retry_is_forgotten,
]

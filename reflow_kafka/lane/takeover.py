"""Taking a lane over: the one path for start, failure, fencing and rebalance.

The order is fixed, and every step depends on it: a proven assignment, then a new writer (which fences the
predecessor and settles its transaction), then the assignment again, then positions and lane record (which
nobody can change any more), then state.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from reflow_kafka.errors import DataLoss, LaneLost
from reflow_kafka.killpoint import reached
from reflow_kafka.lane.env import LaneEnv
from reflow_kafka.lane.inflight import ELSEWHERE, Mark
from reflow_kafka.lane.inflight import decode as decode_runs
from reflow_kafka.lane.record import LaneRecord
from reflow_kafka.lane.tail import last_record
from reflow_kafka.log.api import CommittedPosition, LaneWriter, TopicPartition
from reflow_kafka.state.changelog import Restored, restore
from reflow_kafka.topology.plan import Input

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ownership:
    """A lane that is ours: where it stands, and what to write with."""

    writer: LaneWriter
    record: LaneRecord
    """The newest lane record, or a first one."""
    marks: dict[TopicPartition, Mark]
    """How far the inputs are finished: where to start reading, and what to leave out."""
    restored: Restored
    ends: dict[TopicPartition, int]
    """Ends of the external inputs, sampled now: where a finite run ends."""
    fresh: bool
    """Some position, or the record, is not committed yet."""


async def take_over(env: LaneEnv, lane: int) -> Ownership:
    """Become the owner of a lane.

    Raises:
        LaneLost: it is not assigned to this engine any more.
        LogDoubt: the log did not answer in time, or not clearly.
        DataLoss: what the flow needs is gone.
    """
    flow = env.plan.flow.name
    writer = await env.log.take_over(flow, lane)
    try:
        reached("takeover.fenced")
        if lane not in env.membership.wanted():
            raise LaneLost(f"lane {lane} of {flow!r} was assigned elsewhere during its take-over")
        inputs = env.inputs(lane)
        committed = await writer.committed(inputs)
        found = await last_record(env.log, TopicPartition(env.plan.progress_topic, lane))
        record = found or LaneRecord(incarnation=uuid.uuid4().hex, plan=env.plan.hash)
        external = [tp for tp, entry in inputs.items() if not entry.internal]
        ends = await env.log.end_offsets(external) if external else {}
        marks = await _marks(env, inputs, committed, found)
        reached("takeover.read")
        restored = await restore(
            env.backend,
            env.log,
            flow,
            lane,
            env.changelogs(lane),
            record.incarnation,
            found.changelogs if found is not None else None,
            now=env.now,
            progress=env.restoring,
        )
    except BaseException:
        await writer.close()
        raise
    reached("takeover.restored")
    fresh = found is None or any(committed[tp] is None for tp in inputs)
    return Ownership(writer, record, marks, restored, ends, fresh)


async def _marks(
    env: LaneEnv,
    inputs: Mapping[TopicPartition, Input],
    committed: Mapping[TopicPartition, CommittedPosition | None],
    record: LaneRecord | None,
) -> dict[TopicPartition, Mark]:
    """Where to start reading: the committed positions, else the lane record's, else as the source says."""
    starts = await env.log.start_offsets(inputs) if inputs else {}
    ends = await env.log.end_offsets(inputs, committed=False) if inputs else {}
    marks: dict[TopicPartition, Mark] = {}
    for tp, entry in inputs.items():
        position = committed[tp]
        if position is not None:
            mark = _committed(tp, position, record, ends[tp])
        elif record is not None and tp.topic in record.positions:
            mark = _recorded(tp, record, ends[tp])
        else:
            mark = Mark(_first(entry, starts[tp], ends[tp]))
        marks[tp] = _from(mark, _within(entry, tp, mark.position, starts[tp], ends[tp]))
    return marks


def _committed(tp: TopicPartition, found: CommittedPosition, record: LaneRecord | None, end: int) -> Mark:
    """What the group has committed. Somebody who moves a position with Kafka's tools has the last word."""
    recorded = record.positions.get(tp.topic, found.offset) if record is not None else found.offset
    if recorded != found.offset:
        log.warning(
            "%s[%d]: committed position %d differs from the lane record's %d: somebody moved it; "
            "it holds, but the state was not rewound with it",
            *tp, found.offset, recorded,
        )  # fmt: skip
        return Mark(found.offset)
    try:
        text = found.metadata
        if record is not None and tp.topic in record.positions:
            text = record.runs.get(tp.topic, "")  # written by the same commit
            if found.metadata not in (text, ELSEWHERE):
                raise ValueError("the lane record names others")
        return _decoded(found.offset, text, end)
    except ValueError as error:
        log.warning(
            "%s[%d]: the metadata %.60r of the committed position %d does not tell which events above it are "
            "finished (%s): somebody else committed it. All events from there on are processed, but the "
            "state was not rewound with it",
            *tp, found.metadata, found.offset, error,
        )  # fmt: skip
        return Mark(found.offset)


def _recorded(tp: TopicPartition, record: LaneRecord, end: int) -> Mark:
    """What the lane record knows, where the group's position has expired."""
    at = record.positions[tp.topic]
    try:
        return _decoded(at, record.runs.get(tp.topic, ""), end)
    except ValueError as error:
        log.warning(
            "%s[%d]: the lane record's %.60r does not tell which events above its position %d are finished "
            "(%s). All events from there on are processed, but the state was not rewound with it",
            *tp, record.runs[tp.topic], at, error,
        )  # fmt: skip
        return Mark(at)


def _decoded(position: int, text: str, end: int) -> Mark:
    """The mark that a text tells of a partition; a wrong one must not make events count as finished.

    Raises:
        ValueError: it tells none.
    """
    mark = decode_runs(position, text)
    if mark.runs and mark.runs[-1][1] > end:
        raise ValueError(f"it names offsets up to {mark.runs[-1][1]}, the log ends at {end}")
    return mark


def _from(mark: Mark, at: int) -> Mark:
    """A mark moved to another position. What was finished above it stays so, unless the log begins anew."""
    if at == mark.position:
        return mark
    return Mark(at, tuple((max(first, at), end) for first, end in mark.runs if end > at > mark.position))


def _first(entry: Input, start: int, end: int) -> int:
    if entry.internal or entry.auto_offset_reset == "earliest":
        return start
    if entry.auto_offset_reset == "latest":
        return end
    raise DataLoss(
        f"source {entry.upstream!r}: no position is committed for topic {entry.topic!r} and "
        'auto_offset_reset="none"; commit one with Kafka\'s tools, or choose "earliest" or "latest"'
    )


def _within(entry: Input, tp: TopicPartition, at: int, start: int, end: int) -> int:
    """A position that the log still has, or an error that names the gap."""
    if start <= at <= end:
        return at
    gap = f"position {at} of {tp.topic}[{tp.partition}] lies outside what the log holds ({start} to {end})"
    if entry.internal:
        raise DataLoss(
            f"{gap}: events between two stages are lost. Internal topics must not be truncated or "
            "re-created while the flow's positions exist; reset the flow, or restore the topic"
        )
    if entry.auto_offset_reset == "none":
        raise DataLoss(f'{gap}, and the source says auto_offset_reset="none"')
    moved = start if entry.auto_offset_reset == "earliest" else end
    log.warning("%s: going on at %d as auto_offset_reset=%r says", gap, moved, entry.auto_offset_reset)
    return moved

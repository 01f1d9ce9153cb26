"""Whether local state can be used (pure).

The changelogs are the truth; local state is a copy of them up to some offsets. Used wrongly, it brings back
keys that were deleted, or what another history of the lane has written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from reflow_kafka.state.store import StoreMark

MAX_AGE_MS: Final = 12 * 3600 * 1000
"""Half of Kafka's default `delete.retention.ms`: state older than this may have missed deletions."""

_CLOCK_SLACK_MS: Final = 60_000  # by how much clocks may be set back without state losing its age


@dataclass(frozen=True, slots=True)
class Tail:
    """The local state can be used: read on from these positions (by store)."""

    positions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Full:
    """The local state cannot be used: read the changelogs from their start."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The changelog of a store ends at `found`, below `wanted` to which it was once written."""

    store: str
    found: int
    wanted: int


Verdict = Tail | Full | Lost


def judge(
    mark: StoreMark | None,
    incarnation: str,
    recorded: Mapping[str, int] | None,
    starts: Mapping[str, int],
    ends: Mapping[str, int],
    now_ms: int,
    max_age_ms: int = MAX_AGE_MS,
) -> Verdict:
    """Whether, and from where, local state can be used (pure).

    Args:
        mark: what the local state says about itself.
        incarnation: the lane's history according to its lane record.
        recorded: store → changelog end in the lane record; a store may be missing in it (a new stage).
            None: there is no lane record.
        starts: store → first offset its changelog still has, for all stores wanted.
        ends: store → offset after the last committed record of its changelog.
        now_ms: the time, in epoch milliseconds.
        max_age_ms: half of the time for which changelogs keep deletions.
    """
    for store, wanted in (recorded or {}).items():
        if store in ends and ends[store] < wanted:
            return Lost(store, ends[store], wanted)
    if mark is None:
        return Full("there is no local state")
    if recorded is None:
        return Full("the lane has no record to compare it with")
    if mark.incarnation != incarnation:
        return Full(f"it belongs to history {mark.incarnation}, the lane to {incarnation}")
    positions: dict[str, int] = {}
    behind = False
    for store, start in starts.items():
        # A store without position is empty: reading it from the start misses nothing.
        at = positions[store] = mark.positions.get(store, start)
        end = recorded.get(store, ends[store])
        if at < start:
            return Full(f"{store} stands at {at}, its changelog starts at {start}")
        if at > end and store in mark.positions:
            return Full(f"{store} stands at {at}, beyond the recorded end {end} of its changelog")
        behind = behind or (at < end and store in mark.positions)
    age = now_ms - mark.caught_up
    # What stands at the recorded end has missed nothing, however old it is.
    if behind and not -_CLOCK_SLACK_MS <= age < max_age_ms:
        return Full(
            f"it was complete {age / 1000:.0f} s ago: after {max_age_ms / 1000:.0f} s deletions may be missed"
        )
    return Tail(positions)

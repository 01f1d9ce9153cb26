"""The lane record: what a lane writes about itself with every commit (pure).

It stands in `<flow>.progress`, partition = lane, under one key, so that compaction keeps the newest. The
group's committed offsets are authoritative for positions; the record carries what they cannot: the
history the local state belongs to, where its changelogs end, and how far a finite run has come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from reflow_kafka.timed.watermark import LaneTime

RECORD_KEY: Final = b"lane"
"""Key of lane records."""
RUN_KEY: Final = b"run"
"""Key of the mark that a finite run has ended (partition 0)."""


class LaneRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a lane says about itself at a commit."""

    incarnation: str
    """Identity of this lane's history; made once, when the lane starts for the first time."""
    plan: str
    """Hash of the plan that wrote it."""
    changelogs: Mapping[str, int] = {}
    """Changelog topic → its end offset after this commit."""
    positions: Mapping[str, int] = {}
    """Input topic → position committed with this record."""
    runs: Mapping[str, str] = {}
    """Input topic → which offsets above its position are finished. The offset's metadata says the same if it
    fits there; where both are at hand, that counts."""
    inputs: Mapping[str, int] = {}
    """External topic read directly → its partition count when the flow first started."""
    layouts: Mapping[str, str] = {}
    """Changelog topic → what it holds, if that is anything else than states by their keys."""
    run: str = ""
    """Run in which it was written."""
    done: tuple[str, ...] = ()
    """Stages of this lane that have finished the finite run `run`."""
    times: Mapping[str, LaneTime] = {}
    """Stage → how far its time has come; of those that are timed, or lead to one."""
    http: str = ""
    """Address at which its owner answers queries; empty if it does not."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(LaneRecord)


def encode(record: LaneRecord) -> bytes:
    """The record as JSON: readable with any Kafka client."""
    return _encoder.encode(record)


def decode(data: bytes) -> LaneRecord:
    """A lane record from its bytes.

    Raises:
        ValueError: the bytes are no lane record.
    """
    return _decoder.decode(data)

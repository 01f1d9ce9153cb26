"""How the sources of a flow are written to, exactly as the flow will read them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from reflow_kafka.definition.place import did_you_mean
from reflow_kafka.definition.spec import FlowSpec
from reflow_kafka.errors import UsageError
from reflow_kafka.event import INHERITED
from reflow_kafka.lane.outbox import MAX_RECORD
from reflow_kafka.log.api import Headers, OutRecord
from reflow_kafka.serde.keys import encode_key, key_getter, partition_of, timestamp_getter
from reflow_kafka.serde.typed import Codec, edge_codec
from reflow_kafka.topology.plan import Plan

MAX_HEADERS: Final = 10_000
"""Bytes that are left for headers in what a topic surely takes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A source, and what makes a record for it."""

    source: str
    topic: str
    partitions: int
    codec: Codec
    key: Callable[[Any], bytes | None] | None
    timestamp: Callable[[Any], int] | None

    def record(self, value: Any, key: object, headers: Headers, now: int) -> OutRecord:
        """The record of a value; None is a tombstone.

        Args:
            value: what the flow is to receive.
            key: its key (`INHERITED`: as the source finds it in the value).
            headers: given along.
            now: time in epoch milliseconds.

        Raises:
            UsageError: the flow could not read it: type, key or time are not what the source says.
        """
        try:
            data = None if value is None else self.codec.encode(value)
            placed = self._key(data) if key is INHERITED else encode_key(key)
        except Exception as error:  # also of a function that finds the key
            raise UsageError(f"source {self.source!r} does not take this value: {error}") from error
        size = len(data or b"") + len(placed or b"")
        if size > MAX_RECORD - MAX_HEADERS:
            raise UsageError(
                f"source {self.source!r}: found a value of {size:,} bytes, the limit is "
                f"{MAX_RECORD - MAX_HEADERS:,}: send a reference to it, or divide it"
            )
        return OutRecord(placed, data, now, headers)

    def partition(self, record: OutRecord, turn: int) -> int:
        """Where it goes: by its key as any Kafka client would place it, or in turns."""
        return turn % self.partitions if record.key is None else partition_of(record.key, self.partitions)

    def _key(self, data: bytes | None) -> bytes | None:
        """The key that the source finds in the value as it will be read; its time must be there, too."""
        if data is None or (self.key is None and self.timestamp is None):
            return None
        seen = self.codec.decode(data)
        if self.timestamp is not None:
            self.timestamp(seen)
        return None if self.key is None else self.key(seen)


def check_source(flow: FlowSpec, name: str) -> None:
    """Refuse what cannot be sent to.

    Raises:
        UsageError: it is no source, or none over a topic.
    """
    sources = {stage.name: stage for stage in flow.stages if stage.source is not None}
    topics = [n for n, stage in sources.items() if stage.source is not None and stage.source.topics]
    if name not in sources:
        what = (
            f"{name!r} is a {flow.stage(name).kind} of flow {flow.name!r}, not a source"
            if any(stage.name == name for stage in flow.stages)
            else f"flow {flow.name!r} has no source {name!r}"
        )
        raise UsageError(f"{what}{did_you_mean(name, topics)}")
    if name not in topics:
        source = sources[name].source
        assert source is not None
        reads = source.schedule or (
            "a generator" if source.connector is None else type(source.connector).__name__
        )
        raise UsageError(
            f"source {name!r} of flow {flow.name!r} reads {reads}: only a source with topic= can be sent to"
            f"{did_you_mean(name, topics)}"
        )


def entries(plan: Plan) -> dict[str, Entry]:
    """The sources and tables over topics, by name; of several topics the first is written."""
    found: dict[str, Entry] = {}
    for node in plan.nodes:
        for read in node.inputs:
            if not read.internal and read.upstream not in found:
                found[read.upstream] = Entry(
                    source=read.upstream,
                    topic=read.topic,
                    partitions=read.partitions,
                    codec=edge_codec(read.type, read.format),
                    key=key_getter(plan.flow.stage(read.upstream).key_of()),
                    timestamp=timestamp_getter(read.timestamp) if read.timestamp is not None else None,
                )
    for name, table in plan.flow.tables.items():
        found[name] = Entry(
            source=name,
            topic=table.topic,
            partitions=plan.tables[table.topic],
            codec=edge_codec(table.type, table.format),
            key=None,
            timestamp=None,
        )
    return found

"""A topic as a source, of any cluster: the position lives in the flow, not in a consumer group."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from reflow_connectors.events import BadRecords, KeyOf, OnBad, event_maker
from reflow_connectors.kafka.client import check_options, client_options, ended, partitions_of, start
from reflow_kafka.connector import ConnectorContext
from reflow_kafka.errors import DataLoss
from reflow_kafka.event import NO_HEADERS, Event, received
from reflow_kafka.secrets import describe, resolve
from reflow_kafka.security import Security
from reflow_kafka.serde.typed import Codec, edge_codec

_IDLE_WAIT_MS = 200


class KafkaSource:
    """Reads a topic, each partition in order, committed records only.

    Use it for a topic of *another* cluster, or when the flow runs on the embedded log; a topic of the flow's
    own Kafka is read directly with ``flow.source(name, topic=...)``.

    Args:
        topic: The topic.
        bootstrap: ``host:port`` of some brokers, with commas between them, or a list.
        security: How connections are encrypted and log in.
        group: A consumer group into which positions are committed, for tools that watch its lag; at the very
            first start reading begins where the group stands. The flow itself does not need one.
        type: What values are decoded as; plain JSON if it is not given.
        format: ``"json"``, ``"str"``, ``"bytes"``, or a `Format`.
        key: As in `JsonLinesSource`; None: the record's key.
        timestamp: As in `JsonLinesSource`; None: the record's timestamp.
        auto_offset_reset: Where the first start begins: at the ``"earliest"`` or the ``"latest"`` record.
        until_end: End when all records are read that were there when the source was opened.
        on_bad: As in `JsonLinesSource`, for values that cannot be decoded.
        **client: Options of `aiokafka.AIOKafkaConsumer`, such as ``fetch_max_wait_ms``.
    """

    def __init__(
        self,
        topic: str,
        *,
        bootstrap: str | Sequence[str],
        security: Security | None = None,
        group: str | None = None,
        type: Any = Any,
        format: Any = "json",
        key: KeyOf | None = None,
        timestamp: KeyOf | None = None,
        auto_offset_reset: Literal["earliest", "latest"] = "earliest",
        until_end: bool = False,
        on_bad: OnBad = "skip",
        **client: Any,
    ) -> None:
        self._topic = topic
        check_options(client)
        self._bootstrap = bootstrap
        self._security = security
        self._group = group
        self._codec = edge_codec(type, format)
        self._key = key
        self._timestamp = timestamp
        self._from_end = auto_offset_reset == "latest"
        self._until_end = until_end
        self._on_bad: OnBad = on_bad
        self._client = client

    def __repr__(self) -> str:
        return describe(
            self,
            self._topic,
            bootstrap=self._bootstrap,
            security=self._security,
            group=self._group,
            **self._client,
        )

    async def parts(self) -> Sequence[str]:
        """The numbers of the topic's partitions."""
        options = client_options(self._bootstrap, self._security, self._client)
        return [str(n) for n in await partitions_of(resolve(self._topic), options, self._security)]

    async def open(self, part: str, position: Any | None, ctx: ConnectorContext) -> _KafkaReader:
        """Read one partition from its start, or just after `position`."""
        partition = TopicPartition(resolve(self._topic), int(part))
        options = client_options(self._bootstrap, self._security, self._client)
        consumer = AIOKafkaConsumer(
            **{
                **options,
                "group_id": resolve(self._group),
                "enable_auto_commit": False,
                "isolation_level": "read_committed",
                # Jumping to another offset than the one asked for would lose records without a word.
                "auto_offset_reset": "none",
            }
        )
        consumer.assign([partition])
        await start(consumer, options, self._security)
        reader = _KafkaReader(
            consumer,
            partition,
            codec=self._codec,
            key=self._key,
            timestamp=self._timestamp,
            bad=BadRecords(f"{partition.topic}[{partition.partition}]", self._on_bad, ctx.log),
            group=self._group is not None,
        )
        try:
            await reader.seek(position, from_end=self._from_end, until_end=self._until_end)
        except BaseException:
            await reader.close()
            raise
        return reader


class _KafkaReader:
    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        partition: TopicPartition,
        *,
        codec: Codec,
        key: KeyOf | None,
        timestamp: KeyOf | None,
        bad: BadRecords,
        group: bool,
    ) -> None:
        self._consumer = consumer
        self._partition = partition
        self._decode = codec.decode
        self._make = None if key is None and timestamp is None else event_maker(key, timestamp)
        self._key = key
        self._bad = bad
        self._group = group
        self._offset = 0
        self._end: int | None = None
        self._closed = False

    async def seek(self, position: Any | None, *, from_end: bool, until_end: bool) -> None:
        """Go where reading begins."""
        at = self._partition
        if position is not None:
            self._offset = int(position["offset"])
        else:
            grouped = await self._consumer.committed(at) if self._group else None
            if grouped is not None:
                self._offset = grouped
            elif from_end:
                self._offset = (await self._consumer.end_offsets([at]))[at]
            else:
                self._offset = (await self._consumer.beginning_offsets([at]))[at]
        if until_end:
            self._end = (await self._consumer.end_offsets([at]))[at]
        self._consumer.seek(at, self._offset)

    async def read(self, max_events: int) -> Sequence[Event[Any]] | None:
        # Transaction markers take offsets, too: the end is reached by position, not by a last record.
        if self._end is not None and await self._consumer.position(self._partition) >= self._end:
            return None
        try:
            batches = await self._consumer.getmany(
                self._partition, timeout_ms=_IDLE_WAIT_MS, max_records=max_events
            )
        except OffsetOutOfRangeError as error:
            first = (await self._consumer.beginning_offsets([self._partition]))[self._partition]
            raise DataLoss(
                f"{self._partition.topic}[{self._partition.partition}] begins at offset {first}, but was read"
                f" up to offset {self._offset}: the topic kept its records too short, or was made anew"
            ) from error
        records = batches.get(self._partition, ())
        events = [event for record in records if (event := self._event(record)) is not None]
        if records:
            self._offset = records[-1].offset + 1
        return events

    def position(self) -> Any:
        """The offset of the next record."""
        return {"offset": self._offset}

    async def committed(self, position: Any) -> None:
        if self._group:
            await self._consumer.commit({self._partition: position["offset"]})

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not await ended(self._consumer.stop()):
            await ended(self._consumer._client.close())

    def _event(self, record: ConsumerRecord[bytes | None, bytes | None]) -> Event[Any] | None:
        raw = record.value
        headers = {name: value or b"" for name, value in record.headers} if record.headers else NO_HEADERS
        try:
            value = None if raw is None else self._decode(raw)
            made = None if self._make is None or value is None else self._make(value)
        except Exception as error:  # whatever a codec or a key function may raise
            value = self._bad.take(record.offset, raw or b"", error)
            if value is None:
                return None
            made = None
        key, timestamp = record.key, record.timestamp
        if made is not None:
            key = key if self._key is None else made.key_bytes
            timestamp = timestamp if made.timestamp < 0 else made.timestamp
        return received(value, key, timestamp, headers, "", "")

"""A topic as a sink, of any cluster: at least once, with what it takes to de-duplicate."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from reflow_connectors.events import KeyOf, getter
from reflow_connectors.kafka.client import (
    abandon,
    check_options,
    client_options,
    ended,
    forget,
    partitions_of,
    start,
)
from reflow_kafka.connector import ConnectorContext
from reflow_kafka.errors import Reject
from reflow_kafka.event import Event
from reflow_kafka.secrets import describe, resolve
from reflow_kafka.security import Security
from reflow_kafka.serde.json import EncodeError
from reflow_kafka.serde.keys import PartitionCache, encode_key
from reflow_kafka.serde.typed import Codec, edge_codec

ID_HEADER: Final = "reflow-id"
_BATCH_BYTES: Final = 256 * 1024
_RECORD_OVERHEAD: Final = 512

_Record = tuple[bytes | None, bytes | None, int | None, list[tuple[str, bytes | None]]]


class KafkaSink:
    """Writes to a topic, keyed and partitioned as every Kafka client does it (murmur2 of the key).

    Use it for a topic of *another* cluster, or when the flow runs on the embedded log; a topic of the flow's
    own Kafka is written, within the transaction, by ``flow.sink(name, topic=..., after=...)``.

    At least once: after a crash some records are written again. Each carries the event's id in the header
    ``reflow-id``, by which a reader can tell.

    Args:
        topic: The topic; it must exist.
        bootstrap: ``host:port`` of some brokers, with commas between them, or a list.
        security: How connections are encrypted and log in.
        key: The records' key: a field's name, or a function of the value. None: the events' key.
        type: What values are encoded as; anything that can be JSON if it is not given.
        format: ``"json"``, ``"str"``, ``"bytes"``, or a `Format`.
        timeout: Seconds that a flush may take before it fails.
        **client: Options of `aiokafka.AIOKafkaProducer`, such as ``compression_type``.
    """

    def __init__(
        self,
        topic: str,
        *,
        bootstrap: str | Sequence[str],
        security: Security | None = None,
        key: KeyOf | None = None,
        type: Any = Any,
        format: Any = "json",
        timeout: float = 60.0,
        **client: Any,
    ) -> None:
        self._topic = topic
        check_options(client)
        self._bootstrap = bootstrap
        self._security = security
        self._key = key
        self._codec = edge_codec(type, format)
        self._timeout = timeout
        self._client = client

    def __repr__(self) -> str:
        return describe(
            self,
            self._topic,
            bootstrap=self._bootstrap,
            security=self._security,
            key=self._key,
            **self._client,
        )

    async def open(self, ctx: ConnectorContext) -> _KafkaWriter:
        """A writer for one lane, with a producer of its own."""
        topic = resolve(self._topic)
        options = client_options(self._bootstrap, self._security, self._client)
        partitions = await partitions_of(topic, options, self._security)
        producer = AIOKafkaProducer(
            **{"max_batch_size": _BATCH_BYTES, **options, "enable_idempotence": True, "acks": "all"}
        )
        await start(producer, options, self._security)
        limit = int(options.get("max_request_size", 1 << 20)) - _RECORD_OVERHEAD
        return _KafkaWriter(
            producer,
            topic,
            len(partitions),
            codec=self._codec,
            key=self._key,
            timeout=self._timeout,
            max_bytes=limit,
        )


class _KafkaWriter:
    """Fills batches per partition; `send()` per event would cost ten times as much."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        partitions: int,
        *,
        codec: Codec,
        key: KeyOf | None,
        timeout: float,
        max_bytes: int,
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._partition_of = PartitionCache(partitions)
        self._encode = codec.encode
        self._key = None if key is None else getter(key)
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._batches: dict[int, BatchBuilder] = {}
        self._sent: list[asyncio.Future[Any]] = []
        self._broken: BaseException | None = None
        self._closed = False

    async def write(self, events: Sequence[Event[Any]]) -> None:
        self._check()
        # All are encoded before the first is taken: one that cannot be does not leave half a batch behind.
        records = [self._record(event) for event in events]
        # Events without key keep together: one batch costs less than one per partition.
        anywhere = random.randrange(self._partitions)
        try:
            async with asyncio.timeout(self._timeout):
                for key, value, timestamp, headers in records:
                    partition = anywhere if key is None else self._partition_of[key]
                    batch = self._batches.get(partition) or self._new(partition)
                    while batch.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
                        await self._send(partition)
                        batch = self._new(partition)
        except BaseException as error:
            self._broken = error
            raise

    async def flush(self) -> None:
        self._check()
        try:
            async with asyncio.timeout(self._timeout):
                for partition in list(self._batches):
                    await self._send(partition)
                # All of them, so that none fails unseen. A batch that failed spoils this producer for good.
                results = await asyncio.gather(*self._sent, return_exceptions=True)
                self._sent.clear()
                for result in results:
                    if isinstance(result, BaseException):
                        raise result
        except BaseException as error:
            self._broken = error
            raise

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._batches.clear()
        for future in self._sent:
            future.add_done_callback(forget)
        # Stopping in good order waits for batches that nobody wants, for ever if the broker is away.
        if self._sent or self._broken is not None or not await ended(self._producer.stop()):
            await abandon(self._producer)

    def _check(self) -> None:
        if self._broken is not None:
            raise ConnectionError(
                f"this writer to {self._topic} has failed: open a new one"
            ) from self._broken

    def _new(self, partition: int) -> BatchBuilder:
        batch: BatchBuilder = self._producer.create_batch()
        self._batches[partition] = batch
        return batch

    async def _send(self, partition: int) -> None:
        batch = self._batches.pop(partition)
        batch.close()  # else it would wait for more
        self._sent.append(await self._producer.send_batch(batch, self._topic, partition=partition))

    def _record(self, event: Event[Any]) -> _Record:
        try:
            value = None if event.value is None else self._encode(event.value)
            key = event.key_bytes if self._key is None else encode_key(self._key(event.value))
        except (EncodeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise Reject(f"found an event that cannot be written to {self._topic}: {error}") from error
        size = len(value or b"") + len(key or b"")
        if size > self._max_bytes:
            raise Reject(f"found an event of {size} bytes, but {self._topic} takes {self._max_bytes}")
        headers: list[tuple[str, bytes | None]] = [*event.headers.items()]
        if event.id:
            headers.append((ID_HEADER, event.id.encode()))
        return key, value, event.timestamp if event.timestamp >= 0 else None, headers

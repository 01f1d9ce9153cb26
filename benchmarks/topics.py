"""The topics of either log as seen by who measures: on Kafka through another client than the library's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from benchmarks.events import Event
from reflow_kafka.log.api import OutRecord, TopicKind, TopicSpec
from reflow_kafka.log.api import TopicPartition as EmbeddedPartition
from reflow_kafka.log.embedded import LogClient, open_client
from reflow_kafka.log.embedded.client import RemoteLog
from reflow_kafka.serde.keys import partition_of

KeyValue = tuple[bytes | None, bytes]

_DEADLINE = 30.0
_SETTLE = 0.5
_LONGEST_TRANSACTION = 900_000  # ms; what a broker allows by default
_CHUNK = 10_000


class Topics(Protocol):
    """What a run needs to look at."""

    async def end(self, topic: str, lanes: int) -> int:
        """How far a topic has been written, to a reader of committed records; 0 if it is not there."""

    def read(self, topic: str, lanes: int) -> AsyncIterator[KeyValue]:
        """All committed records, partition by partition."""


class KafkaTopics:
    """Topics on a broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._client = {"bootstrap.servers": bootstrap, "log_level": 2}
        self._admin = AdminClient(self._client)
        self._producing: dict[str, Any] = {
            **self._client,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 500_000,
            "message.max.bytes": 20_000_000,
            "enable.idempotence": True,
        }

    def create(self, *topics: str, lanes: int, max_bytes: int = 1_048_588) -> None:
        """Make topics whose records are kept whatever their age, and may be so large."""
        settings = {"retention.ms": "-1", "max.message.bytes": str(max_bytes)}
        new = [NewTopic(topic, lanes, 1, config=settings) for topic in topics]
        for future in self._admin.create_topics(new).values():
            future.result(_DEADLINE)
        time.sleep(_SETTLE)  # until the broker leads them

    def delete(self, name: str) -> None:
        """Delete all topics with `name` in theirs."""
        topics = [topic for topic in self._admin.list_topics(timeout=_DEADLINE).topics if name in topic]
        for future in (self._admin.delete_topics(topics) if topics else {}).values():
            future.exception(_DEADLINE)

    def publish(self, topic: str, events: Iterable[Event]) -> None:
        """Write events, placed as Java's client would."""
        _produce(Producer(self._producing), topic, events)

    @contextmanager
    def hold_back(self, topic: str, events: Iterable[Event]) -> Iterator[Gate]:
        """Write events that no reader of committed records sees until the gate is opened."""
        settings = {"transactional.id": f"{topic}-gate", "transaction.timeout.ms": _LONGEST_TRANSACTION}
        producer = Producer(self._producing | settings)
        producer.init_transactions(_DEADLINE)
        producer.begin_transaction()
        _produce(producer, topic, events)
        gate = Gate(producer)
        try:
            yield gate
        finally:
            gate.close()

    async def end(self, topic: str, lanes: int) -> int:
        """See `Topics`."""
        wanted = {TopicPartition(topic, lane): OffsetSpec.latest() for lane in range(lanes)}
        futures = self._admin.list_offsets(wanted, isolation_level=IsolationLevel.READ_COMMITTED)
        found = [await asyncio.wrap_future(future) for future in futures.values()]
        return sum(result.offset for result in found)

    async def read(self, topic: str, lanes: int) -> AsyncIterator[KeyValue]:
        """See `Topics`."""
        for record in self.records(topic, lanes):
            yield record

    def records(self, topic: str, lanes: int) -> Iterator[KeyValue]:
        """All committed records, partition by partition."""
        for lane in range(lanes):
            for message in self._partition(topic, lane):
                yield message.key(), message.value() or b""

    def times(self, topic: str, lanes: int) -> list[list[int]]:
        """Timestamps of the committed records of each partition, epoch ms."""
        return [[m.timestamp()[1] for m in self._partition(topic, lane)] for lane in range(lanes)]

    def exists(self, topic: str) -> bool:
        """Whether there is such a topic."""
        return topic in self._admin.list_topics(timeout=_DEADLINE).topics

    def _partition(self, topic: str, lane: int) -> Iterator[Any]:
        settings = {
            **self._client,
            "group.id": "benchmarks",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 1,
        }
        consumer = Consumer(settings)
        consumer.assign([TopicPartition(topic, lane, 0)])
        deadline = time.monotonic() + _DEADLINE
        try:
            while time.monotonic() < deadline:
                for message in consumer.consume(_CHUNK, timeout=0.1):
                    if (error := message.error()) is None:
                        yield message
                        deadline = time.monotonic() + _DEADLINE
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return
                    elif not error.retriable():
                        raise KafkaException(error)
            raise TimeoutError(f"partition {lane} of {topic}: nothing could be read for {_DEADLINE:.0f} s")
        finally:
            consumer.close()


class Gate:
    """Events held back in an open transaction."""

    def __init__(self, producer: Producer) -> None:
        self._producer: Producer | None = producer

    def open(self) -> None:
        """Let them be seen, all at once."""
        if self._producer is not None:
            self._producer.commit_transaction(_DEADLINE)
            self._producer = None

    def close(self) -> None:
        """Throw them away if they are still held back."""
        if self._producer is not None:
            self._producer.abort_transaction(_DEADLINE)
            self._producer = None


def _produce(producer: Producer, topic: str, events: Iterable[Event]) -> None:
    for event in events:
        while True:
            try:
                producer.produce(topic, event.value, event.key, timestamp=event.timestamp)
                break
            except BufferError:
                producer.poll(0.1)
    if left := producer.flush(_DEADLINE):
        raise TimeoutError(f"{left:,} events of {topic} were not acknowledged within {_DEADLINE:.0f} s")


class EmbeddedTopics:
    """Topics of the embedded log in a directory, which a worker has open, or nobody."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._worker: RemoteLog | None = None

    async def publish(self, topic: str, events: Iterable[Event], *, lanes: int) -> None:
        """Make a topic and write events."""
        batches: list[list[OutRecord]] = [[] for _ in range(lanes)]
        async with open_client(self.directory) as log:
            await log.ensure_topics([TopicSpec(topic, lanes, TopicKind.EXTERNAL)])
            for event in events:
                lane = partition_of(event.key, lanes)
                batches[lane].append(OutRecord(event.key, event.value, event.timestamp))
                if len(batches[lane]) == _CHUNK:
                    await log.publish(topic, lane, batches[lane])
                    batches[lane] = []
            for lane, batch in enumerate(batches):
                await log.publish(topic, lane, batch)

    async def end(self, topic: str, lanes: int) -> int:
        """See `Topics`; only while a worker runs or is about to, which must not find the log in use."""
        if self._worker is None:
            worker = RemoteLog(self.directory)
            if not await worker.connect():
                return 0
            self._worker = worker
        return await _end(self._worker, topic, lanes)

    async def settled_end(self, topic: str, lanes: int) -> int:
        """The same while no worker runs."""
        async with open_client(self.directory) as log:
            return await _end(log, topic, lanes)

    async def read(self, topic: str, lanes: int) -> AsyncIterator[KeyValue]:
        """See `Topics`."""
        async with open_client(self.directory) as log:
            for lane in range(lanes):
                async for record in _page_by_page(log, topic, lane):
                    yield record

    async def close(self) -> None:
        """Hang up."""
        if self._worker is not None:
            await self._worker.close()
            self._worker = None


async def _end(log: LogClient, topic: str, lanes: int) -> int:
    if (await log.partition_counts([topic]))[topic] is None:
        return 0
    return sum((await log.end_offsets([EmbeddedPartition(topic, lane) for lane in range(lanes)])).values())


async def _page_by_page(log: LogClient, topic: str, lane: int) -> AsyncIterator[KeyValue]:
    partition = EmbeddedPartition(topic, lane)
    end = (await log.end_offsets([partition]))[partition]
    offset = 0
    while offset < end:
        page = await log.read(topic, lane, offset, _CHUNK, 0)
        for record in page.records:
            yield record.key, record.value or b""
        offset = page.next_offset

"""Topics of a real Kafka through confluent-kafka: what any other program would see."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

DEADLINE = 30.0
FOREVER = {"retention.ms": "-1"}
ANY_TIME = {
    **FOREVER,
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": str(2**63 - 1),
}


Message = Any  # the client's own type says that everything may be None


class Input(NamedTuple):
    """An event to be produced."""

    key: str
    value: Any
    """Bytes, or what becomes JSON; None = a tombstone."""
    timestamp: int = 0
    """Epoch ms; 0 = now."""


class Output(NamedTuple):
    """An event that was found in a topic."""

    key: str
    value: Any
    headers: Mapping[str, str] = {}


def create_topics(
    bootstrap: str,
    topics: Iterable[str],
    partitions: int = 8,
    config: Mapping[str, str] = FOREVER,
    replicas: int = 1,
) -> None:
    """Create topics and see them there."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [NewTopic(topic, partitions, replicas, config=dict(config)) for topic in topics]
    for created in admin.create_topics(wanted, operation_timeout=DEADLINE).values():
        created.result(DEADLINE)


def topic_config(bootstrap: str, topic: str) -> dict[str, str]:
    """A topic's settings."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = admin.describe_configs([resource])[resource].result(DEADLINE)
    return {name: entry.value for name, entry in found.items()}


def topics_of(bootstrap: str, prefix: str) -> list[str]:
    """The topics whose name begins so."""
    listed = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=DEADLINE).topics
    return sorted(topic for topic in listed if topic.startswith(prefix))


def produce(bootstrap: str, topic: str, events: Iterable[Input], rate: float | None = None) -> dict[str, int]:
    """Write events in order; returns where librdkafka's own murmur2 has put each key."""
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "queue.buffering.max.messages": 500_000,
        "linger.ms": 5,
        "log_level": 2,
    })  # fmt: skip
    placed: dict[str, int] = {}
    failed: list[str] = []

    def delivered(error: object, message: Message) -> None:
        if error is not None:
            failed.append(str(error))
        else:
            placed[message.key().decode()] = message.partition()

    began = time.monotonic()
    for count, event in enumerate(events):
        as_it_is = event.value is None or isinstance(event.value, bytes)
        value = event.value if as_it_is else json.dumps(event.value).encode()
        while True:
            try:
                producer.produce(topic, value, event.key, timestamp=event.timestamp, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        if count % 100 == 0:
            producer.poll(0)
            if rate is not None and (ahead := began + count / rate - time.monotonic()) > 0:
                time.sleep(ahead)
    left = producer.flush(DEADLINE)
    assert (left, failed[:3]) == (0, []), f"{left} events not delivered to {topic}; errors: {failed[:3]}"
    return placed


class Feed(threading.Thread):
    """Produces events at a steady rate beside the test, all of them or until cancelled."""

    def __init__(self, bootstrap: str, topic: str, events: Iterable[Input], rate: float) -> None:
        super().__init__(name="feed", daemon=True)
        self.sent = 0
        """How many were produced so far."""
        self._arguments = (bootstrap, topic, self._until_cancelled(events), rate)
        self._error: BaseException | None = None
        self._cancelled = threading.Event()

    def run(self) -> None:
        """The thread's work."""
        bootstrap, topic, events, rate = self._arguments
        try:
            produce(bootstrap, topic, events, rate)
        except BaseException as error:
            self._error = error

    def _until_cancelled(self, events: Iterable[Input]) -> Iterator[Input]:
        for event in events:
            if self._cancelled.is_set():
                return
            self.sent += 1
            yield event

    def cancel(self) -> None:
        """Produce no more; what was sent is written when this returns."""
        self._cancelled.set()
        self.finish(DEADLINE)

    def finish(self, seconds: float) -> None:
        """Wait until everything is written."""
        self.join(seconds)
        assert not self.is_alive(), f"the feed is not finished after {seconds:g} s"
        if self._error is not None:
            raise self._error


class Topic:
    """A topic as a reader of committed records sees it; every look reads on where the last one ended."""

    def __init__(self, bootstrap: str, name: str, *, committed: bool = True) -> None:
        self.name = name
        self.messages: list[Message] = []
        self._consumer = Consumer({
            "bootstrap.servers": bootstrap,
            "group.id": f"reader-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
        "log_level": 2,
        })  # fmt: skip
        known = self._consumer.list_topics(name, timeout=DEADLINE).topics[name]
        assert known.error is None, f"{name}: {known.error}"
        self._next = dict.fromkeys(sorted(known.partitions), 0)
        self._behind: set[int] = set()

    def look(self) -> list[Message]:
        """Read to the end as it is now; returns everything read so far."""
        # An end that was seen is only told again after a new assignment.
        self._consumer.assign([TopicPartition(self.name, number, at) for number, at in self._next.items()])
        self._behind = set(self._next)
        deadline = time.monotonic() + DEADLINE
        while self._behind:
            assert time.monotonic() < deadline, f"the end of {self.name} was not reached in {DEADLINE:g} s"
            self._take(self._consumer.consume(5000, 0.2))
        return self.messages

    def _take(self, found: Sequence[Message]) -> None:
        for message in found:
            if message.error() is None:
                self.messages.append(message)
                self._next[message.partition()] = message.offset() + 1
            elif message.error().name() == "_PARTITION_EOF":
                self._behind.discard(message.partition())
            else:
                raise AssertionError(f"reading {self.name}: {message.error()}")

    def wait(self, count: int, seconds: float) -> list[Message]:
        """Read until there are `count` messages, and to the end then."""
        deadline = time.monotonic() + seconds
        while len(self.look()) < count:
            found = len(self.messages)
            assert time.monotonic() < deadline, f"{self.name} has {found} of {count} after {seconds:g} s"
            time.sleep(0.2)
        return self.messages

    def outputs(self) -> list[Output]:
        """Everything read so far, decoded."""
        return [Output(m.key().decode(), json.loads(m.value() or b"null"), headers(m)) for m in self.messages]

    def close(self) -> None:
        """Let go."""
        self._consumer.close()


def read_committed(bootstrap: str, topic: str, count: int = 0, seconds: float = DEADLINE) -> list[Message]:
    """Everything committed in a topic; with `count`, once it is that many."""
    reader = Topic(bootstrap, topic)
    try:
        return reader.wait(count, seconds)
    finally:
        reader.close()


class Topics:
    """The external topics of one flow: its name, and theirs."""

    def __init__(self, bootstrap: str, flow: str) -> None:
        self._bootstrap, self._flow = bootstrap, flow

    def create(self, *names: str) -> None:
        """Create them."""
        create_topics(self._bootstrap, [f"{self._flow}-{name}" for name in names])

    def fill(self, name: str, events: Iterable[Input]) -> None:
        """Write events to one of them."""
        produce(self._bootstrap, f"{self._flow}-{name}", events)

    def seen(self, name: str, count: int = 0) -> list[Message]:
        """Everything committed in one of them; with `count`, once it is that many."""
        return read_committed(self._bootstrap, f"{self._flow}-{name}", count, 60)


def end_of(bootstrap: str, topic: str) -> int:
    """Offsets used so far in all partitions of a topic: its records and the log's own markers."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "ends"})
    try:
        partitions = reader.list_topics(topic, timeout=DEADLINE).topics[topic].partitions
        places = [TopicPartition(topic, number) for number in partitions]
        return sum(reader.get_watermark_offsets(place, timeout=DEADLINE)[1] for place in places)
    finally:
        reader.close()


def by_key(messages: Iterable[Message]) -> dict[str, list[Any]]:
    """Values per key, in order."""
    return grouped(Output(message.key().decode(), json.loads(message.value())) for message in messages)


def grouped(outputs: Iterable[Output]) -> dict[str, list[Any]]:
    """Values per key, in order."""
    found: dict[str, list[Any]] = {}
    for output in outputs:
        found.setdefault(output.key, []).append(output.value)
    return found


def headers(message: Message) -> dict[str, str]:
    """Headers as text."""
    return {name: (value or b"").decode() for name, value in message.headers() or ()}

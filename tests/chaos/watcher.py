"""A reader of committed records beside all that happens: it must see what the last reader sees."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import Consumer, TopicPartition

from tests.support.kafka import DEADLINE, Message

Seen = Mapping[tuple[str, int], Sequence[tuple[int, bytes | None]]]
"""Offset and value of each event, by topic and partition."""


class Watcher(threading.Thread):
    """Reads topics from their start until `finish`."""

    def __init__(self, bootstrap: str, topics: Sequence[str]) -> None:
        super().__init__(name="watcher", daemon=True)
        self.error: BaseException | None = None
        """Why it has ended before it was told to."""
        self._topics = topics
        self._address = bootstrap
        self._seen: dict[tuple[str, int], list[tuple[int, bytes | None]]] = defaultdict(list)
        self._count = 0
        self._finished = threading.Event()

    def run(self) -> None:
        """The thread's work; faults are what it is there for, and nothing to be told."""
        try:
            self._read()
        except BaseException as error:
            self.error = error

    def _read(self) -> None:
        consumer = Consumer({
            "bootstrap.servers": self._address,
            "group.id": f"watcher-{self._topics[0]}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "log_level": 0,
        })  # fmt: skip
        try:
            known = consumer.list_topics(timeout=DEADLINE).topics
            consumer.assign(
                [TopicPartition(t, number, 0) for t in self._topics for number in known[t].partitions]
            )
            while not self._finished.is_set():
                for message in consumer.consume(1000, 0.2):
                    if message.error() is None:
                        self._seen[_place(message)].append((message.offset(), message.value()))
                        self._count += 1
        finally:
            consumer.close()

    def finish(self, count: int = 0) -> Seen:
        """End once it has seen so many events, or does not come to them; tells what was seen."""
        deadline = time.monotonic() + DEADLINE
        while self.is_alive() and self._count < count and time.monotonic() < deadline:
            time.sleep(0.05)
        self._finished.set()
        self.join(DEADLINE)
        return self._seen


def gathered(messages: Iterable[Message]) -> Seen:
    """What the last reader has seen."""
    found: dict[tuple[str, int], list[tuple[int, bytes | None]]] = defaultdict(list)
    for message in messages:
        found[_place(message)].append((message.offset(), message.value()))
    return found


def differs(seen: Seen, afterwards: Seen) -> list[str]:
    """Where the two have not seen the same events in the same places."""
    return [
        f"{topic}[{number}]: a reader beside the faults saw {len(seen.get(place, ()))} events, one after them"
        f" {len(afterwards.get(place, ()))}, not all of them the same"
        for place in sorted(seen.keys() | afterwards.keys())
        if list(seen.get(place, ())) != list(afterwards.get(place, ()))
        for topic, number in (place,)
    ]


def _place(message: Message) -> tuple[str, int]:
    return message.topic(), message.partition()

"""A reader of committed records beside all that happens: it must see what the last reader sees."""

from __future__ import annotations

import threading
from collections import defaultdict

from confluent_kafka import Consumer, TopicPartition

from tests.support.kafka import DEADLINE, Message

Seen = dict[int, list[tuple[int, bytes | None]]]
"""Offset and value of each event, by partition."""


class Watcher(threading.Thread):
    """Reads a topic from its start until `finish`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(name="watcher", daemon=True)
        self._topic = topic
        self._address = bootstrap
        self._seen: Seen = defaultdict(list)
        self._finished = threading.Event()

    def run(self) -> None:
        """The thread's work; faults are what it is there for, and nothing to be told."""
        consumer = Consumer({
            "bootstrap.servers": self._address,
            "group.id": f"watcher-{self._topic}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "log_level": 0,
        })  # fmt: skip
        partitions = consumer.list_topics(self._topic, timeout=DEADLINE).topics[self._topic].partitions
        consumer.assign([TopicPartition(self._topic, number, 0) for number in partitions])
        while not self._finished.is_set():
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    self._seen[message.partition()].append((message.offset(), message.value()))
        consumer.close()

    def finish(self) -> Seen:
        """End, and tell what was seen."""
        self._finished.set()
        self.join(DEADLINE)
        return self._seen


def differs(seen: Seen, messages: list[Message]) -> list[str]:
    """What the watcher has seen differently; it need not have come to the end."""
    found: Seen = defaultdict(list)
    for message in messages:
        found[message.partition()].append((message.offset(), message.value()))
    return [
        f"a reader beside the faults saw other events of partition {number} than one after them"
        for number, events in seen.items()
        if events != found[number][: len(events)]
    ]

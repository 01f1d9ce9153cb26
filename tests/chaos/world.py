"""One flow on a cluster, its workers, its input and those who read its outputs."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from reflow_kafka.serde.keys import partition_of
from tests.chaos.schedule import WORKERS
from tests.chaos.slot import Slot
from tests.chaos.watcher import Watcher
from tests.support.cluster import Cluster
from tests.support.kafka import ANY_TIME, DEADLINE, Feed, Input, Topic, create_topics, produce
from tests.support.waiting import wait_until
from tests.support.workers import Workers

LANES = 6
CUSTOMERS = 120
GROUPS = 40
MANY = 20_000
"""Further keys with one event each, which some seeds begin with: a restore takes time."""
_LOADED = 4
"""One in so many seeds does."""
FOLDED = ("look_up", "count", "total")
WINDOWED = "note"
STAGES = (*FOLDED, WINDOWED)
OUTPUTS = ("looked", "counted", "totalled", "noted", "closed", "late")
_AFTERMATH = 20.0
"""Seconds after a fault of brokers or network in which workers may still be without them."""
# Compacted as soon and as often as Kafka lets one: those who restore read what is being rewritten.
_COMPACT = {
    "segment.ms": "4000",
    "segment.bytes": str(1024 * 1024),
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "4000",
}


class World:
    """Everything that a campaign disturbs, from the first worker to the last."""

    def __init__(self, cluster: Cluster, flow: str, folder: Path, seed: int, rate: float) -> None:
        self.cluster = cluster
        self.flow = flow
        self.ahead = 0
        """Seconds by which event time is wrong."""
        self.loaded = MANY if seed % _LOADED == 0 else 0
        """Events that were there before the workers."""
        self._chance = random.Random(seed)
        self._troubled = float("-inf")
        self._threads = ThreadPoolExecutor(8)
        self._trimming = threading.Lock()  # the reader of the input is no friend of threads
        self._beside: list[Future[Any]] = []
        create_topics(cluster.inside, [self.topic("orders")], LANES, ANY_TIME, 3)
        create_topics(cluster.inside, map(self.topic, OUTPUTS), LANES, ANY_TIME, 3)
        self.orders = Topic(cluster.inside, self.topic("orders"))
        self.watcher = Watcher(cluster.inside, list(map(self.topic, OUTPUTS)))
        self._last = 0
        events = self._events()
        self._before = list(itertools.islice(events, self.loaded))
        self.feed = Feed(cluster.inside, self.topic("orders"), events, rate)
        self.workers = Workers(folder, flow)
        self.slots = [
            Slot(
                self.workers,
                number,
                folder / f"disk-{number}",
                ("--bootstrap", cluster.outside(number), "--standbys", str(seed % 2)),
            )
            for number in range(WORKERS + 1)  # the last one is for those who join and leave
        ]

    @property
    def sent(self) -> int:
        """How many events there are so far."""
        return self.loaded + self.feed.sent + self._last

    def topic(self, name: str) -> str:
        """Name of an external topic."""
        return f"{self.flow}-{name}"

    @property
    def edges(self) -> list[str]:
        """The topics between stages."""
        return [f"{self.flow}.{edge}" for edge in ("look_up.count", "count.total", "count.note")]

    @property
    def transactions(self) -> list[str]:
        """The transactional ids of the lanes."""
        return [f"{self.flow}-lane-{lane}" for lane in range(LANES)]

    def changelog(self, stage: str) -> str:
        """The topic of a stage's state."""
        return f"{self.flow}.{stage}.changelog"

    def start(self) -> None:
        """Start workers, readers and input."""
        produce(self.cluster.inside, self.topic("orders"), self._before)
        for slot in self.slots[:WORKERS]:
            slot.start()
        wait_until(lambda: sum(self.workers.shares()) == LANES, 60, "all lanes run")
        self._compact()
        self.watcher.start()
        self.feed.start()

    def _events(self) -> Iterator[Input]:
        """Events without end; ids are unique, times mostly those of the clock."""
        chance = self._chance
        for id in itertools.count():
            customer, group = f"c{chance.randrange(CUSTOMERS)}", f"g{chance.randrange(GROUPS)}"
            if id < self.loaded:
                customer, group = f"c{CUSTOMERS + id}", f"g{GROUPS + id}"
            at = int((time.time() + self.ahead + chance.gauss(0, 5)) * 1000)
            yield Input(customer, {"id": id, "customer": customer, "group": group, "at": at}, at)

    def tell_the_time(self) -> None:
        """End with the latest event of all, in each partition: a new owner goes by what it sees itself."""
        at = 1 + max(json.loads(order.value())["at"] for order in self.orders.look())
        customers = {partition_of(b"c%d" % n, LANES): f"c{n}" for n in range(CUSTOMERS)}
        last = [
            Input(customer, {"id": id, "customer": customer, "group": "g0", "at": at}, at)
            for id, customer in enumerate(customers.values(), self.sent)
        ]
        produce(self.cluster.inside, self.topic("orders"), last)
        self._last = len(last)

    def _compact(self) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in _COMPACT.items()
        ]
        topics = [*map(self.changelog, STAGES), f"{self.flow}.progress"]
        resources = [
            ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries) for topic in topics
        ]
        admin = AdminClient({"bootstrap.servers": self.cluster.inside})
        for altered in admin.incremental_alter_configs(resources).values():
            altered.result(DEADLINE)

    # --- while faults happen

    def trouble(self) -> None:
        """Brokers or network are disturbed now."""
        self._troubled = time.monotonic()

    def keep(self) -> None:
        """Look after the workers."""
        trouble = time.monotonic() - self._troubled < _AFTERMATH
        for slot in self.slots:
            slot.keep(trouble=trouble)

    def beside(self, work: Callable[[], Any]) -> None:
        """Do something that may take long, while time goes on."""
        self._beside.append(self._threads.submit(work))

    def settle(self) -> None:
        """Wait for what is done beside; its errors are told here."""
        for work in self._beside:
            work.result(240)

    def committed(self, topics: list[str]) -> list[TopicPartition]:
        """Where the flow stands; a coordinator that moves is waited for."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return self._committed(topics)
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _committed(self, topics: list[str]) -> list[TopicPartition]:
        consumer = Consumer({"bootstrap.servers": self.cluster.inside, "group.id": self.flow, "log_level": 2})
        try:
            wanted = [TopicPartition(topic, lane) for topic in topics for lane in range(LANES)]
            found = consumer.committed(wanted, timeout=DEADLINE)
        finally:
            consumer.close()
        return [place for place in found if place.offset >= 0]

    def trim(self) -> None:
        """Delete what the flow has finished, from its input and between its stages."""
        try:
            places = self.committed([self.topic("orders"), *self.edges])
            with self._trimming:
                self.orders.look()  # the oracle needs what goes
            admin = AdminClient({"bootstrap.servers": self.cluster.inside, "log_level": 0})
            for deleted in admin.delete_records(places).values():
                deleted.result(DEADLINE)
        except Exception as error:  # while brokers are away nothing can be deleted
            print(f"          not trimmed: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers.all:
            worker.kill()
        for slot in self.slots:
            slot.volume.close()
        if self.watcher.is_alive():
            self.watcher.finish()
        if self.feed.is_alive():
            with contextlib.suppress(AssertionError):  # what went wrong before is to be told
                self.feed.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.orders.close()

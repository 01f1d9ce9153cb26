"""The ceiling: the least a lane can do exactly once, without a framework. Argument: a job.

Per lane a reader and a transactional producer; results collect in memory and are committed by a task while
the lane works on; state is a dict in front of RocksDB and a changelog. There is no group, no take-over, no
restore, no error handling, no way to stop: it shows what is to be kept of the speed, not how to live.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rocksdict import Options, Rdict, WriteBatch

from benchmarks.job import Job
from reflow_kafka.serde.keys import partition_cache

WINDOW = 10
THRESHOLD = 13
INTERVAL = 0.2
MAX_RESULTS = 20_000  # events whose results may wait for a commit to end
BATCH = 512 * 1024
POLL = 2000

Stage = Callable[["Lane", Sequence[Any]], None]


class Lane:
    """One lane; `emit` and `state` are what its stages use."""

    def __init__(self, job: Job, lane: int) -> None:
        self.job = job
        self.lane = lane
        self.output = job.output
        self.middle = f"{job.name}-middle"
        self.changelog = f"{job.name}-changelog"
        self.partition = partition_cache(job.lanes)
        self.state: dict[bytes, Any] = {}
        self.dirty: dict[bytes, Any] = {}
        self._builders: dict[tuple[str, int], list[Any]] = {}
        self._positions: dict[TopicPartition, int] = {}

    async def open(self) -> None:
        """Connect."""
        self.producer = AIOKafkaProducer(
            bootstrap_servers=self.job.bootstrap,
            transactional_id=f"{self.job.name}-{self.lane}",
            max_batch_size=BATCH,
            transaction_timeout_ms=10_000,
        )
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=self.job.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=BATCH,
        )
        await asyncio.gather(self.producer.start(), self.consumer.start())
        first, second = STAGES[self.job.workload]
        self._stages: dict[TopicPartition, Stage] = {TopicPartition(self.job.input, self.lane): first}
        if second is not None:
            self._stages[TopicPartition(self.middle, self.lane)] = second
        self.consumer.assign(list(self._stages))
        self.db = Rdict(f"{self.job.directory}/{self.lane}", Options(raw_mode=True))

    def emit(self, topic: str, key: bytes, value: bytes, timestamp: int) -> None:
        """Add a result to the batch of its partition."""
        place = topic, self.partition[key]
        builders = self._builders.get(place)
        if builders is None:
            builders = self._builders[place] = [self.producer.create_batch()]
        if builders[-1].append(timestamp=timestamp, key=key, value=value) is None:
            builders.append(self.producer.create_batch())
            builders[-1].append(timestamp=timestamp, key=key, value=value)

    async def run(self) -> None:
        """Read, work and commit, for ever."""
        commit: asyncio.Task[None] | None = None
        due, waiting = 0.0, 0
        while True:
            for partition, records in (await self.consumer.getmany(timeout_ms=50, max_records=POLL)).items():
                self._stages[partition](self, records)
                self._positions[partition] = records[-1].offset + 1
                waiting += len(records)
            if waiting and perf_counter() >= due and (commit is None or commit.done()):
                if commit is not None:
                    commit.result()
                commit = asyncio.create_task(self._commit())
                await asyncio.sleep(0)  # it takes what there is
                due = perf_counter() + INTERVAL
                if waiting > MAX_RESULTS:
                    await commit
                waiting = 0
            await asyncio.sleep(0)

    async def _commit(self) -> None:
        builders, self._builders = self._builders, {}
        positions, self._positions = self._positions, {}
        dirty, self.dirty = self.dirty, {}
        changes = [(key, orjson.dumps(value)) for key, value in dirty.items()]
        producer = self.producer
        await producer.begin_transaction()
        logged = [producer.create_batch()]
        for key, value in changes:
            if logged[-1].append(timestamp=1, key=key, value=value) is None:
                logged.append(producer.create_batch())
                logged[-1].append(timestamp=1, key=key, value=value)
        if changes:
            builders[self.changelog, self.lane] = logged
        sent = await asyncio.gather(*(self._send(*place, batches) for place, batches in builders.items()))
        await asyncio.gather(*(future for futures in sent for future in futures))
        await producer.send_offsets_to_transaction(positions, self.job.name)
        await producer.commit_transaction()
        if changes:
            write = WriteBatch(raw_mode=True)
            for key, value in changes:
                write.put(key, value)
            self.db.write(write)

    async def _send(self, topic: str, partition: int, batches: list[Any]) -> list[asyncio.Future[Any]]:
        futures = []
        for batch in batches:
            batch.close()
            futures.append(await self.producer.send_batch(batch, topic, partition=partition))
        return futures


def convert_and_drop(lane: Lane, records: Sequence[Any]) -> None:
    """W1."""
    loads, dumps, emit, output = orjson.loads, orjson.dumps, lane.emit, lane.output
    for record in records:
        reading = loads(record.value)
        if reading["temperature"] >= THRESHOLD:
            reading["fahrenheit"] = reading["temperature"] * 1.8 + 32
            emit(output, record.key, dumps(reading), record.timestamp)


def mean(lane: Lane, records: Sequence[Any]) -> None:
    """W2."""
    loads, dumps, emit, output = orjson.loads, orjson.dumps, lane.emit, lane.output
    state, dirty = lane.state, lane.dirty
    for record in records:
        reading, key = loads(record.value), record.key
        last = state.get(key)
        if last is None:
            kept = lane.db.get(key)
            last = state[key] = loads(kept) if kept else []
        last.append(reading["temperature"])
        if len(last) > WINDOW:
            del last[0]
        dirty[key] = last
        result = {"id": reading["id"], "sensor": reading["sensor"], "avg": sum(last) / len(last)}
        emit(output, key, dumps(result), record.timestamp)


def convert_and_rekey(lane: Lane, records: Sequence[Any]) -> None:
    """W4, before the topic in between."""
    loads, dumps, emit, middle = orjson.loads, orjson.dumps, lane.emit, lane.middle
    for record in records:
        reading = loads(record.value)
        reading["fahrenheit"] = reading["temperature"] * 1.8 + 32
        emit(middle, reading["site"].encode(), dumps(reading), record.timestamp)


def count(lane: Lane, records: Sequence[Any]) -> None:
    """W4, after it."""
    loads, dumps, emit, output = orjson.loads, orjson.dumps, lane.emit, lane.output
    state, dirty = lane.state, lane.dirty
    for record in records:
        reading, key = loads(record.value), record.key
        total = state.get(key)
        if total is None:
            kept = lane.db.get(key)
            total = loads(kept) if kept else 0
        dirty[key] = state[key] = total + 1
        result = {"id": reading["id"], "site": reading["site"], "count": total + 1}
        emit(output, key, dumps(result), record.timestamp)


STAGES: dict[str, tuple[Stage, Stage | None]] = {
    "W1": (convert_and_drop, None),
    "W2": (mean, None),
    "W4": (convert_and_rekey, count),
}


async def main() -> None:
    """Make the topics and run all lanes in this process."""
    job = Job.from_arguments()
    lanes = [Lane(job, lane) for lane in range(job.lanes)]
    admin = AIOKafkaAdminClient(bootstrap_servers=job.bootstrap)
    await admin.start()
    settings = {"retention.ms": "-1"}
    await admin.create_topics(
        [
            NewTopic(topic, job.lanes, 1, topic_configs=settings)
            for topic in (lanes[0].middle, lanes[0].changelog)
        ]
    )
    await admin.close()
    await asyncio.gather(*(lane.open() for lane in lanes))
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    await asyncio.gather(*(lane.run() for lane in lanes))


if __name__ == "__main__":
    uvloop.run(main())

"""W1 as a careful programmer writes it with aiokafka alone, at least once. Argument: a job."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.job import Job
from reflow_kafka.serde.keys import partition_cache

THRESHOLD = 13
BATCH = 512 * 1024


async def main() -> None:
    """Poll, work, send one batch per partition, wait, commit."""
    job = Job.from_arguments()
    partition = partition_cache(job.lanes)
    consumer = AIOKafkaConsumer(
        job.input,
        bootstrap_servers=job.bootstrap,
        group_id=job.name,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=BATCH,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=job.bootstrap, enable_idempotence=True, acks="all", max_batch_size=2 * BATCH
    )
    await consumer.start()
    await producer.start()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    loads, dumps = orjson.loads, orjson.dumps
    while True:
        builders: dict[int, Any] = {}
        for records in (await consumer.getmany(timeout_ms=500, max_records=4000)).values():
            for record in records:
                reading = loads(record.value)
                if reading["temperature"] < THRESHOLD:
                    continue
                reading["fahrenheit"] = reading["temperature"] * 1.8 + 32
                place = partition[record.key]
                builder = builders.get(place)
                if builder is None:
                    builder = builders[place] = producer.create_batch()
                # 4,000 results fit into one batch.
                builder.append(timestamp=record.timestamp, key=record.key, value=dumps(reading))
        futures = []
        for place, builder in builders.items():
            builder.close()
            futures.append(await producer.send_batch(builder, job.output, partition=place))
        await asyncio.gather(*futures)
        if futures:
            await consumer.commit()


if __name__ == "__main__":
    uvloop.run(main())

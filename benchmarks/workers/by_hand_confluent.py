"""W1 as a careful programmer writes it with confluent-kafka alone, at least once. Argument: a job."""

from __future__ import annotations

import gc
import time

import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.job import Job

THRESHOLD = 13
COMMIT_INTERVAL = 1.0


def main() -> None:
    """Consume many at once, work, produce; every second flush and commit."""
    job = Job.from_arguments()
    consumer = Consumer(
        {
            "bootstrap.servers": job.bootstrap,
            "group.id": job.name,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 1,  # with the default of 1 s the consumer mostly waits
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": job.bootstrap,
            "enable.idempotence": True,
            "linger.ms": 10,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 500_000,
            "partitioner": "murmur2_random",
        }
    )
    consumer.subscribe([job.input])
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    loads, dumps, produce = orjson.loads, orjson.dumps, producer.produce
    due, dirty = time.monotonic() + COMMIT_INTERVAL, False
    while True:
        for message in consumer.consume(4000, timeout=0.1):
            if message.error() is not None:
                continue
            dirty = True
            reading = loads(message.value())
            if reading["temperature"] < THRESHOLD:
                continue
            reading["fahrenheit"] = reading["temperature"] * 1.8 + 32
            while True:
                try:
                    produce(job.output, dumps(reading), message.key(), timestamp=message.timestamp()[1])
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
        if dirty and time.monotonic() >= due:
            producer.flush()
            consumer.commit(asynchronous=False)
            due, dirty = time.monotonic() + COMMIT_INTERVAL, False


if __name__ == "__main__":
    main()

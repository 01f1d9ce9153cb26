"""The workloads on Faust (faust-streaming). Argument: a job."""

from __future__ import annotations

import sys
from typing import Any

import faust

from benchmarks.job import Job

WINDOW = 10
THRESHOLD = 13

job = Job.from_arguments()
app = faust.App(
    job.name,
    broker=f"kafka://{job.bootstrap}",
    store="rocksdb://?driver=rocksdict",
    datadir=job.directory,
    topic_partitions=job.lanes,
    topic_replication_factor=1,
    consumer_auto_offset_reset="earliest",
    broker_max_poll_records=4000,
    stream_buffer_maxsize=8192,
    producer_linger=0.02,
    producer_max_batch_size=256 * 1024,
    value_serializer="json",
    web_enabled=False,
)
readings = app.topic(job.input, key_type=str, key_serializer="raw", value_serializer="json")
results = app.topic(job.output, key_type=str, key_serializer="raw", value_serializer="json")


def fahrenheit(reading: dict[str, Any]) -> dict[str, Any]:
    """Add a field."""
    reading["fahrenheit"] = reading["temperature"] * 1.8 + 32
    return reading


if job.workload == "W1":

    @app.agent(readings)
    async def convert(stream: Any) -> None:
        """Drop a tenth, add a field."""
        async for reading in stream:
            if reading["temperature"] >= THRESHOLD:
                await results.send(key=reading["sensor"], value=fahrenheit(reading))

elif job.workload == "W2":
    last_of = app.Table("last", default=list, partitions=job.lanes)

    @app.agent(readings)
    async def mean(stream: Any) -> None:
        """The mean of the last ten per sensor."""
        async for reading in stream:
            sensor = reading["sensor"]
            last = [*last_of[sensor], reading["temperature"]][-WINDOW:]
            last_of[sensor] = last
            output = {"id": reading["id"], "sensor": sensor, "avg": sum(last) / len(last)}
            await results.send(key=sensor, value=output)

else:
    counts = app.Table("counts", default=int, partitions=job.lanes)
    by_site = app.topic(
        f"{job.name}-by-site",
        key_type=str,
        key_serializer="raw",
        value_serializer="json",
        partitions=job.lanes,
        internal=True,
    )

    @app.agent(readings)
    async def rekey(stream: Any) -> None:
        """Add a field and re-key."""
        async for reading in stream:
            await by_site.send(key=reading["site"], value=fahrenheit(reading))

    @app.agent(by_site)
    async def count(stream: Any) -> None:
        """How many readings a site had."""
        async for reading in stream:
            site = reading["site"]
            counts[site] += 1
            await results.send(key=site, value={"id": reading["id"], "site": site, "count": counts[site]})


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "--loglevel=warn", "--without-web"]
    app.main()

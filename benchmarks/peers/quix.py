"""The workloads on Quix Streams. Argument: a job."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from quixstreams import Application, State

from benchmarks.job import EXACTLY_ONCE, Job

WINDOW = 10
THRESHOLD = 13


def fahrenheit(reading: dict[str, Any]) -> dict[str, Any]:
    """Add a field."""
    reading["fahrenheit"] = reading["temperature"] * 1.8 + 32
    return reading


def mean(reading: dict[str, Any], state: State) -> dict[str, Any]:
    """The mean of the last ten per sensor."""
    last = state.get("last", [])
    last.append(reading["temperature"])
    if len(last) > WINDOW:
        del last[0]
    state.set("last", last)
    return {"id": reading["id"], "sensor": reading["sensor"], "avg": sum(last) / len(last)}


def window_mean(window: dict[str, Any], key: str, timestamp: int, headers: object) -> dict[str, Any]:
    """The mean of a sensor in a window."""
    return {"sensor": key, "start": window["start"], "avg": window["value"]}


def count(reading: dict[str, Any], state: State) -> dict[str, Any]:
    """How many readings a site had."""
    total = state.get("count", 0) + 1
    state.set("count", total)
    return {"id": reading["id"], "site": reading["site"], "count": total}


def main() -> None:
    """Run until told to stop."""
    job = Job.from_arguments()
    app = Application(
        broker_address=job.bootstrap,
        consumer_group=job.name,
        auto_offset_reset="earliest",
        processing_guarantee=EXACTLY_ONCE if job.exactly_once else "at-least-once",
        commit_interval=1.0,
        state_dir=job.directory,
        consumer_extra_config={"fetch.queue.backoff.ms": 1},
        producer_extra_config={
            "linger.ms": 20,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 500_000,
        },
        loglevel="WARNING",
    )
    readings = app.dataframe(app.topic(job.input, value_deserializer="json", key_deserializer="str"))
    if job.workload == "W1":
        results = readings.filter(lambda reading: reading["temperature"] >= THRESHOLD).apply(fahrenheit)
    elif job.workload == "W2":
        results = readings.apply(mean, stateful=True)
    elif job.workload == "W3":
        temperatures = readings.apply(lambda reading: reading["temperature"])
        # As everywhere else the time of a partition closes its windows, not that of each key.
        windows = temperatures.tumbling_window(timedelta(seconds=10)).mean().final("partition")
        results = windows.apply(window_mean, metadata=True)
    else:
        by_site = readings.apply(fahrenheit).group_by("site", key_serializer="str", key_deserializer="str")
        results = by_site.apply(count, stateful=True)
    results.to_topic(app.topic(job.output, value_serializer="json", key_serializer="str"))
    app.run()


if __name__ == "__main__":
    main()

"""A window of an hour per key, told of when it is over; some events lead to an update. Arguments: a job."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.job import Job
from reflow_kafka import Event, Flow, Tumbling, Window, run

SIZE = 3600
"""Seconds."""


def closing(job: Job) -> Flow:
    """The flow."""
    flow = Flow(job.name, partitions=job.lanes)
    events = flow.source("events", topic=job.input)

    def close(count: list[int], window: Window) -> Event[dict[str, Any]]:
        return Event({"key": window.key, "start": window.start, "count": count[0]}, to="closed")

    @flow.stage(after=events, state=lambda: [0], window=Tumbling(SIZE), on_close=close, outputs=["closed"])
    def window(count: list[int], event: dict[str, Any]) -> dict[str, Any] | None:
        count[0] += 1
        if not event["live"]:
            return None
        return {"id": event["id"], "handled": time.perf_counter(), "cpu": time.thread_time()}

    flow.sink("out", after=window, topic=job.output)
    flow.sink("told", after="window.closed", topic=f"{job.output}-closed")
    return flow


def main() -> None:
    """Run until told to stop."""
    job = Job.from_arguments()
    guarantee: Any = job.guarantee
    run(closing(job), bootstrap=job.bootstrap, data_dir=job.directory, guarantee=guarantee)


if __name__ == "__main__":
    main()

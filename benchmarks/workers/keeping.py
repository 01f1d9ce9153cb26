"""A count per key with some state beside it. Arguments: copies to keep of each lane, and a job."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.job import Job
from reflow_kafka import Flow, run
from reflow_kafka.observe.logging import configure


@dataclass
class Kept:
    """About 100 bytes of state."""

    count: int = 0
    last: int = 0
    name: str = "a name as long as names often are"
    note: str = "and a remark beside it"


def keeping(job: Job) -> Flow:
    """The flow."""
    flow = Flow(job.name, partitions=job.lanes)
    events = flow.source("events", topic=job.input)

    @flow.stage(after=events, state=Kept)
    def keep(kept: Kept, event: dict[str, Any]) -> dict[str, Any]:
        kept.count += 1
        kept.last = event["id"]
        return {"id": event["id"], "count": kept.count}

    flow.sink("out", after=keep, topic=job.output)
    return flow


def main() -> None:
    """Run until told to stop."""
    job = Job.from_arguments()
    configure("INFO", "json")
    run(keeping(job), bootstrap=job.bootstrap, data_dir=job.directory, standbys=int(sys.argv[1]))


if __name__ == "__main__":
    main()

"""A flow that answers requests over so many hops. Arguments: hops and a job."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.job import Job
from reflow_kafka import Flow, run


def answering(job: Job, hops: int) -> Flow:
    """Requests are re-keyed, handled by as many stages as there are hops, and answered."""
    flow = Flow(job.name, partitions=job.lanes)
    after: Any = flow.source("requests", topic=job.input, key="customer")

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        return request

    for hop in range(hops):
        after = flow.stage(handle, name=f"stage_{hop}", after=after)
    flow.reply(after=after)
    return flow


def main() -> None:
    """Run until told to stop."""
    job = Job.from_arguments()
    guarantee: Any = job.guarantee
    run(
        answering(job, int(sys.argv[1])),
        bootstrap=job.bootstrap or None,
        data_dir=job.directory,
        guarantee=guarantee,
    )


if __name__ == "__main__":
    main()

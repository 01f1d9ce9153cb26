"""The workloads on Bytewax: one worker, state in memory and saved every 10 s. Argument: a job."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.job import Job

WINDOW = 10
THRESHOLD = 13


def decode(message: Any) -> dict[str, Any]:
    """The reading in a message."""
    reading: dict[str, Any] = orjson.loads(message.value)
    return reading


def fahrenheit(reading: dict[str, Any]) -> dict[str, Any]:
    """Add a field."""
    reading["fahrenheit"] = reading["temperature"] * 1.8 + 32
    return reading


def warm(reading: dict[str, Any]) -> dict[str, Any] | None:
    """Drop what is cold."""
    return fahrenheit(reading) if reading["temperature"] >= THRESHOLD else None


def mean(last: list[float] | None, reading: dict[str, Any]) -> tuple[list[float], dict[str, Any]]:
    """The mean of the last ten per sensor."""
    last = last or []
    last.append(reading["temperature"])
    if len(last) > WINDOW:
        del last[0]
    return last, {"id": reading["id"], "sensor": reading["sensor"], "avg": sum(last) / len(last)}


def count(total: int | None, reading: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """How many readings a site had."""
    total = (total or 0) + 1
    return total, {"id": reading["id"], "site": reading["site"], "count": total}


def keyed(result: tuple[str, dict[str, Any]]) -> KafkaSinkMessage[bytes, bytes]:
    """A message with the key of the state."""
    return KafkaSinkMessage(result[0].encode(), orjson.dumps(result[1]))


def flow_for(job: Job) -> Dataflow:
    """The flow of a workload."""
    flow = Dataflow(job.name.replace("-", "_"))
    brokers = [job.bootstrap]
    reading = {"fetch.queue.backoff.ms": "1", "isolation.level": "read_committed"}
    source = kop.input("in", flow, brokers=brokers, topics=[job.input], batch_size=4000, add_config=reading)
    readings = op.map("decode", source.oks, decode)
    if job.workload == "W1":
        converted = op.filter_map("convert", readings, warm)
        messages = op.map("encode", converted, lambda r: keyed((r["sensor"], r)))
    elif job.workload == "W2":
        by_sensor = op.key_on("sensor", readings, lambda reading: reading["sensor"])
        messages = op.map("encode", op.stateful_map("mean", by_sensor, mean), keyed)
    else:
        by_site = op.key_on("site", op.map("convert", readings, fahrenheit), lambda reading: reading["site"])
        messages = op.map("encode", op.stateful_map("count", by_site, count), keyed)
    writing = {"linger.ms": "5", "batch.size": "500000", "partitioner": "murmur2_random"}
    kop.output("out", messages, brokers=brokers, topic=job.output, add_config=writing)
    return flow


def main() -> None:
    """Run until told to stop."""
    job = Job.from_arguments()
    recovery = Path(job.directory, "recovery")
    recovery.mkdir()
    init_db_dir(recovery, 1)
    cli_main(
        flow_for(job), epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(str(recovery))
    )


if __name__ == "__main__":
    main()

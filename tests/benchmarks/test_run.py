"""A small run of the benchmarks on a real broker, checked for its outputs, never for its speed."""

from __future__ import annotations

import pytest

from benchmarks import latency, requests
from benchmarks.events import Readings
from benchmarks.job import EXACTLY_ONCE
from benchmarks.oracle import CLOSED
from benchmarks.report import Report
from benchmarks.systems import SYSTEMS
from benchmarks.throughput import Bench, Input
from benchmarks.topics import KafkaTopics

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize(
    ("system", "workload"),
    [
        ("reflow", "W1"),
        ("reflow-typed", "W3"),
        ("reflow-typed", "W4"),
        ("reflow", "W5"),
        ("reflow-typed", "W5"),
        ("reflow", "W6"),
        ("reflow-typed", "W6"),
        ("reflow-embedded", "W2"),
        ("bare-lane", "W2"),
        ("confluent", "W1"),
    ],
)
async def test_outputs_are_checked(system: str, workload: str, kafka_bootstrap: str, unique: str) -> None:
    bench = Bench(KafkaTopics(kafka_bootstrap), lambda: 0.0, time_limit=60)
    guarantee = SYSTEMS[system].guarantees[0]
    input = Input(Readings(2000, closing=workload in CLOSED), 500)
    run = await bench.run(SYSTEMS[system], workload, guarantee, input, unique)
    assert run.ok, run.check
    assert (run.events, run.whole_events) == (len(input.events) - 500, len(input.events))
    assert system in Report({}, {}, [run]).markdown()


async def test_latencies_of_all_events_are_taken(kafka_bootstrap: str, unique: str) -> None:
    kafka = KafkaTopics(kafka_bootstrap)
    found = await latency.measure(SYSTEMS["reflow"], EXACTLY_ONCE, 1, 1, kafka, unique, seconds=1)
    assert found.events == latency.RATE


async def test_requests_are_answered(kafka_bootstrap: str, unique: str) -> None:
    found = await requests.measure(KafkaTopics(kafka_bootstrap), unique, at_once=20, hops=2, seconds=0.5)
    assert 0 < found.p50 <= found.p99 <= found.longest

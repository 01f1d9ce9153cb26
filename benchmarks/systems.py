"""What can be measured: how each system is started, and what it offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.job import AT_LEAST_ONCE, EXACTLY_ONCE
from benchmarks.peers.environment import maven_project, virtual_environment
from benchmarks.processes import ROOT, python
from reflow_kafka.devbroker import find_java

BOTH = (EXACTLY_ONCE, AT_LEAST_ONCE)
WORKLOADS = {
    "W1": "decode, drop a tenth, add a field, encode",
    "W2": "mean of the last 10 per sensor, durable, one output each",
    "W3": "mean per sensor in tumbling windows of 10 s of event time, final results only",
    "W4": "map, re-key by site through a topic, count per site, one output each",
    "W5": "mean per sensor and session, which ends with 1.5 s without a reading, final results only",
    "W6": "join of the even and the odd readings of a sensor at most 0.5 s apart, one output per pair",
}
COMMON = ("W1", "W2", "W3", "W4")
"""What other systems do, too."""


@dataclass(frozen=True)
class System:
    """One system to measure."""

    name: str
    command: Callable[[], list[str]]
    """Makes the command that runs it, without the job; raises `Unavailable`."""
    guarantees: tuple[str, ...] = BOTH
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    embedded: bool = False
    latency: bool = False
    recovers: bool = True
    """It goes on where it was when it is started again."""
    committed: bool = True
    """It reads committed records only. If not, nothing can be held back, and its start-up counts as well."""
    limit: int | None = None
    """It is given no more events than these, being slow."""
    notes: str = field(default="")


def _reflow(values: str) -> Callable[[], list[str]]:
    return lambda: python("benchmarks.workers.reflow", values)


def _program(name: str) -> Callable[[], list[str]]:
    return lambda: python(f"benchmarks.workers.{name}")


def _kafka_streams() -> list[str]:
    class_path = maven_project("kafka-streams", ROOT / "benchmarks" / "peers" / "kafka_streams")
    options = ["-Xmx1g", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return [find_java(), *options, "-cp", class_path, "benchmarks.Workloads"]


def _peer(name: str, *requirements: str) -> Callable[[], list[str]]:
    return lambda: python(f"benchmarks.peers.{name}", interpreter=virtual_environment(name, *requirements))


_ALL = (
    System("reflow", _reflow("dict"), latency=True, notes="values are dicts"),
    System("reflow-typed", _reflow("typed"), notes="values are msgspec structs"),
    System(
        "reflow-embedded",
        _reflow("dict"),
        guarantees=(EXACTLY_ONCE,),
        workloads=COMMON,
        embedded=True,
        notes="no broker: the worker's CPU includes the log's",
    ),
    System(
        "bare-lane",
        _program("bare_lane"),
        guarantees=(EXACTLY_ONCE,),
        workloads=("W1", "W2", "W4"),
        recovers=False,
        notes="ceiling: no framework, cannot recover",
    ),
    System(
        "aiokafka",
        _program("by_hand_aiokafka"),
        guarantees=(AT_LEAST_ONCE,),
        workloads=("W1",),
        notes="ceiling: a loop by hand",
    ),
    System(
        "confluent",
        _program("by_hand_confluent"),
        guarantees=(AT_LEAST_ONCE,),
        workloads=("W1",),
        notes="ceiling: a loop by hand",
    ),
    System("kafka-streams", _kafka_streams, workloads=COMMON, latency=True, notes="4.1.1, one thread"),
    System("quix", _peer("quix", "quixstreams==3.28.1", "orjson==3.13.0"), workloads=COMMON),
    System(
        "bytewax",
        _peer("bytewax_flows", "bytewax[kafka]==0.21.1", "orjson==3.13.0"),
        guarantees=(AT_LEAST_ONCE,),
        workloads=("W1", "W2", "W4"),  # W3: its watermark goes on with the system's clock, whatever it reads
        notes="state is in memory, saved every 10 s; W4 has no topic in between",
    ),
    System(
        "faust",
        _peer("faust_app", "faust-streaming[rocksdict]==0.15.3", "orjson==3.13.0"),
        guarantees=(AT_LEAST_ONCE,),
        workloads=("W1", "W2", "W4"),
        committed=False,
        limit=50_000,
    ),
)
SYSTEMS = {system.name: system for system in _ALL}

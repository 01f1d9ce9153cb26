"""The workloads as flows, with values as dicts or as msgspec structs. Arguments: ``dict|typed`` and a job."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks.job import Job
from reflow_kafka import Flow, Session, State, Tumbling, Window, run

WINDOW = 10
THRESHOLD = 13


class Reading(msgspec.Struct):
    """An input event."""

    id: int
    sensor: str
    site: str
    temperature: float
    ts: int


class Converted(msgspec.Struct):
    """A reading in both units."""

    id: int
    sensor: str
    site: str
    temperature: float
    ts: int
    fahrenheit: float


class Last(msgspec.Struct):
    """The last temperatures of a sensor."""

    temperatures: list[float] = msgspec.field(default_factory=list)


class Mean(msgspec.Struct):
    """Their mean, at a reading."""

    id: int
    sensor: str
    avg: float


class Sum(msgspec.Struct):
    """The temperatures of a sensor in a window."""

    total: float = 0.0
    count: int = 0


class WindowMean(msgspec.Struct):
    """Their mean."""

    sensor: str
    start: int
    avg: float


class Pair(msgspec.Struct):
    """An even and an odd reading of a sensor, close to each other."""

    id: int
    other: int
    sensor: str
    difference: float


class Count(msgspec.Struct):
    """How many readings a site had, at a reading."""

    id: int
    site: str
    count: int


def fahrenheit(reading: Reading) -> Converted:
    """Add a field."""
    r = reading
    return Converted(r.id, r.sensor, r.site, r.temperature, r.ts, r.temperature * 1.8 + 32)


def typed_w1(flow: Flow, job: Job) -> None:
    """Decode, drop a tenth, add a field, encode."""

    @flow.stage(after=flow.source("readings", topic=job.input, type=Reading))
    def convert(reading: Reading) -> Converted | None:
        return fahrenheit(reading) if reading.temperature >= THRESHOLD else None

    flow.sink("out", after=convert, topic=job.output)


def typed_w2(flow: Flow, job: Job) -> None:
    """The mean of the last ten per sensor."""

    @flow.stage(after=flow.source("readings", topic=job.input, type=Reading), state=Last)
    def mean(last: Last, reading: Reading) -> Mean:
        temperatures = last.temperatures
        temperatures.append(reading.temperature)
        if len(temperatures) > WINDOW:
            del temperatures[0]
        return Mean(reading.id, reading.sensor, sum(temperatures) / len(temperatures))

    flow.sink("out", after=mean, topic=job.output)


def typed_w3(flow: Flow, job: Job) -> None:
    """The mean per sensor and window."""
    _typed_means(flow, job, Tumbling(10))


def _typed_means(flow: Flow, job: Job, window: Tumbling | Session) -> None:
    def close(sum: Sum, window: Window) -> WindowMean:
        return WindowMean(window.key, window.start, sum.total / sum.count)

    readings = flow.source("readings", topic=job.input, type=Reading)

    @flow.stage(after=readings, state=Sum, window=window, on_close=close)
    def mean(sum: Sum, reading: Reading) -> None:
        sum.total += reading.temperature
        sum.count += 1

    flow.sink("out", after=mean, topic=job.output)


def typed_w4(flow: Flow, job: Job) -> None:
    """Map, re-key by site, count."""

    @flow.stage(after=flow.source("readings", topic=job.input, type=Reading))
    def convert(reading: Reading) -> Converted:
        return fahrenheit(reading)

    @flow.stage(after=convert, key="site", state=int)
    def count(total: State[int], reading: Converted) -> Count:
        total.value += 1
        return Count(reading.id, reading.site, total.value)

    flow.sink("out", after=count, topic=job.output)


def typed_w5(flow: Flow, job: Job) -> None:
    """The mean per sensor and session."""

    def unite(older: Sum, younger: Sum) -> None:
        older.total += younger.total
        older.count += younger.count

    _typed_means(flow, job, Session(1.5, merge=unite))


def typed_w6(flow: Flow, job: Job) -> None:
    """Pairs of even and odd readings."""
    readings = flow.source("readings", topic=job.input, type=Reading)

    @flow.stage(after=readings, when=lambda reading: reading.id % 2 == 0)
    def even(reading: Reading) -> Reading:
        return reading

    @flow.stage(after=readings, when=lambda reading: reading.id % 2 == 1)
    def odd(reading: Reading) -> Reading:
        return reading

    @flow.join(even, odd, within=0.5)
    def pair(left: Reading, right: Reading) -> Pair:
        return Pair(left.id, right.id, left.sensor, left.temperature - right.temperature)

    flow.sink("out", after=pair, topic=job.output)


def dict_w1(flow: Flow, job: Job) -> None:
    """Decode, drop a tenth, add a field, encode."""

    @flow.stage(after=flow.source("readings", topic=job.input))
    def convert(reading: dict[str, Any]) -> dict[str, Any] | None:
        if reading["temperature"] < THRESHOLD:
            return None
        reading["fahrenheit"] = reading["temperature"] * 1.8 + 32
        return reading

    flow.sink("out", after=convert, topic=job.output)


def dict_w2(flow: Flow, job: Job) -> None:
    """The mean of the last ten per sensor."""

    @flow.stage(after=flow.source("readings", topic=job.input), state=list)
    def mean(last: list[float], reading: dict[str, Any]) -> dict[str, Any]:
        last.append(reading["temperature"])
        if len(last) > WINDOW:
            del last[0]
        return {"id": reading["id"], "sensor": reading["sensor"], "avg": sum(last) / len(last)}

    flow.sink("out", after=mean, topic=job.output)


def dict_w3(flow: Flow, job: Job) -> None:
    """The mean per sensor and window."""
    _dict_means(flow, job, Tumbling(10))


def _dict_means(flow: Flow, job: Job, window: Tumbling | Session) -> None:
    def close(sum: list[float], window: Window) -> dict[str, Any]:
        return {"sensor": window.key, "start": window.start, "avg": sum[0] / sum[1]}

    readings = flow.source("readings", topic=job.input)

    @flow.stage(after=readings, state=lambda: [0.0, 0], window=window, on_close=close)
    def mean(sum: list[float], reading: dict[str, Any]) -> None:
        sum[0] += reading["temperature"]
        sum[1] += 1

    flow.sink("out", after=mean, topic=job.output)


def dict_w4(flow: Flow, job: Job) -> None:
    """Map, re-key by site, count."""

    @flow.stage(after=flow.source("readings", topic=job.input))
    def convert(reading: dict[str, Any]) -> dict[str, Any]:
        reading["fahrenheit"] = reading["temperature"] * 1.8 + 32
        return reading

    @flow.stage(after=convert, key="site", state=int)
    def count(total: State[int], reading: dict[str, Any]) -> dict[str, Any]:
        total.value += 1
        return {"id": reading["id"], "site": reading["site"], "count": total.value}

    flow.sink("out", after=count, topic=job.output)


def dict_w5(flow: Flow, job: Job) -> None:
    """The mean per sensor and session."""

    def unite(older: list[float], younger: list[float]) -> None:
        older[0] += younger[0]
        older[1] += younger[1]

    _dict_means(flow, job, Session(1.5, merge=unite))


def dict_w6(flow: Flow, job: Job) -> None:
    """Pairs of even and odd readings."""
    readings = flow.source("readings", topic=job.input)

    @flow.stage(after=readings, when=lambda reading: reading["id"] % 2 == 0)
    def even(reading: dict[str, Any]) -> dict[str, Any]:
        return reading

    @flow.stage(after=readings, when=lambda reading: reading["id"] % 2 == 1)
    def odd(reading: dict[str, Any]) -> dict[str, Any]:
        return reading

    @flow.join(even, odd, within=0.5)
    def pair(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
        difference = left["temperature"] - right["temperature"]
        return {"id": left["id"], "other": right["id"], "sensor": left["sensor"], "difference": difference}

    flow.sink("out", after=pair, topic=job.output)


def one_hop(flow: Flow, job: Job) -> None:
    """A stage from topic to topic."""
    flow.sink("out", after=_pass(flow, "one", flow.source("events", topic=job.input)), topic=job.output)


def two_hops(flow: Flow, job: Job) -> None:
    """Two stages with an edge between them."""
    first = _pass(flow, "one", flow.source("events", topic=job.input))
    flow.sink("out", after=_pass(flow, "two", first), topic=job.output)


def _pass(flow: Flow, name: str, after: Any) -> Any:
    def unchanged(event: dict[str, Any]) -> dict[str, Any]:
        return event

    return flow.stage(unchanged, after=after, name=name)


DEFINITIONS: dict[tuple[str, str], Callable[[Flow, Job], None]] = {
    ("dict", "W1"): dict_w1,
    ("dict", "W2"): dict_w2,
    ("dict", "W3"): dict_w3,
    ("dict", "W4"): dict_w4,
    ("dict", "W5"): dict_w5,
    ("dict", "W6"): dict_w6,
    ("typed", "W1"): typed_w1,
    ("typed", "W2"): typed_w2,
    ("typed", "W3"): typed_w3,
    ("typed", "W4"): typed_w4,
    ("typed", "W5"): typed_w5,
    ("typed", "W6"): typed_w6,
    ("dict", "L1"): one_hop,
    ("dict", "L2"): two_hops,
}


def main() -> None:
    """Run until told to stop."""
    job = Job.from_arguments()
    flow = Flow(job.name, partitions=job.lanes)
    DEFINITIONS[sys.argv[1], job.workload](flow, job)
    guarantee: Any = job.guarantee
    run(flow, bootstrap=job.bootstrap or None, data_dir=job.directory, guarantee=guarantee)


if __name__ == "__main__":
    main()

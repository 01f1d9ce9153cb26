"""A day's moving average for every weather station, and an alert where it is far exceeded.

python examples/weather.py                                             a year of two stations, in one go
reflow-kafka worker examples/weather.py:flow --until-end               the same, kept in ./.reflow
reflow-kafka worker examples/weather.py:flow --bootstrap broker:9092   on Kafka; start as many as you like
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from reflow_connectors.files import CsvSource
from reflow_kafka import Engine, Flow

DATA = Path(__file__).parent / "data" / "hourly_temperatures_2010.csv"

flow = Flow("weather", partitions=8)

readings = flow.source(
    "readings",
    CsvSource(DATA, types={"temp_f": float}, key="station", timestamp="time"),
)


@dataclass
class Last24:
    temps: list[float] = field(default_factory=list)


@flow.stage(after=readings, state=Last24)
def average(last: Last24, reading: dict[str, Any]) -> dict[str, Any]:
    last.temps = [*last.temps, reading["temp_f"]][-24:]
    return {**reading, "average": sum(last.temps) / len(last.temps)}


@flow.stage(after=average, when=lambda r: r["temp_f"] > r["average"] + 9)
async def alert(reading: dict[str, Any]) -> dict[str, Any]:
    return {"station": reading["station"], "at": reading["time"], "temp_f": reading["temp_f"]}


flow.sink("alerts", after=alert, topic="weather-alerts")


class Report:
    """Where the averages go in this example: the last of each station is kept, progress printed."""

    def __init__(self) -> None:
        self.seen = 0
        self.last: dict[str, dict[str, Any]] = {}

    def __call__(self, reading: dict[str, Any]) -> None:
        self.seen += 1
        self.last[reading["station"]] = reading
        if self.seen % 2500 == 0:
            print(f"{self.seen:>7,} readings, now at {reading['time']}")


report = Report()
flow.sink(report, name="report", after=average)


async def main() -> None:
    """Run to the end on an embedded log of its own, and print what came out."""
    with TemporaryDirectory(prefix="reflow-weather-") as folder:
        begun = time.perf_counter()
        async with Engine(flow, data_dir=folder) as engine:
            await engine.wait(until_end=True)
        took = time.perf_counter() - begun
    for station, reading in sorted(report.last.items()):
        print(f"{station}: average of the last 24 hours {reading['average']:.2f} °F at {reading['time']}")
    print(
        f"{report.seen:,} events in {took:.2f} s, {report.seen / took:,.0f} events/s, start and stop included"
    )


if __name__ == "__main__":
    asyncio.run(main())

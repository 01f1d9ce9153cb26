"""Watch the temperatures of machines and report when one turns hot, nominal or cold.

    reflow-kafka worker examples/temperature_monitor.py:flow --until-end   on the embedded log
    reflow-kafka consume machine-changes
    reflow-kafka worker examples/temperature_monitor.py:flow --bootstrap broker:9092 --until-end

The stages are in `machine_stages.py`, which does not import this library: here they are only joined.
"""

from __future__ import annotations

from pathlib import Path

from machine_stages import Last, categorise, detect_change

from reflow_connectors.files import JsonLinesSource
from reflow_kafka import Flow

DATA = Path(__file__).parent / "data" / "machines.jsonl"

flow = Flow("temperature-monitor", partitions=4)

readings = flow.source("readings", JsonLinesSource(DATA, key="machine", timestamp="at"))
categorised = flow.stage(categorise, after=readings)
changes = flow.stage(detect_change, after=categorised, state=Last)
flow.sink("changes", after=changes, topic="machine-changes")

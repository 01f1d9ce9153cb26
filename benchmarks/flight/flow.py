"""The flow of a case, which the environment names: ``reflow-kafka worker benchmarks.flight.flow:flow``."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any

import msgspec

from benchmarks.flight.cases import SLOW, Case
from reflow_kafka import Flow, Retry, State

NAME = os.environ["FLIGHT_NAME"]
CASE = msgspec.json.decode(os.environ["FLIGHT_CASE"], type=Case)

flow = Flow(NAME, partitions=CASE.lanes, retry=Retry(CASE.attempts), dead_letter_limit=1.0)
readings = flow.source("readings", topic=f"{NAME}-in")


def _may_fail(reading: dict[str, Any]) -> None:
    if CASE.failing(reading["id"], int(reading["sensor"][2:])):
        raise ConnectionError("no answer")


def _passed(reading: dict[str, Any]) -> dict[str, Any]:
    return {"id": reading["id"], "sensor": reading["sensor"]}


async def wait(reading: dict[str, Any]) -> dict[str, Any]:
    """A request to a service."""
    slow = CASE.slowly(reading["id"])
    await asyncio.sleep(SLOW if slow else max(0.0, random.gauss(CASE.seconds, CASE.deviation)))
    _may_fail(reading)
    return _passed(reading)


def block(reading: dict[str, Any]) -> dict[str, Any]:
    """A driver that knows no asyncio."""
    time.sleep(CASE.seconds)
    _may_fail(reading)
    return _passed(reading)


def compute(reading: dict[str, Any]) -> dict[str, Any]:
    """A model, say; it holds on to the interpreter all the time."""
    end = time.thread_time() + CASE.seconds
    while time.thread_time() < end:
        sum(range(500))
    _may_fail(reading)
    return _passed(reading)


def count(seen: State[int], reading: dict[str, Any]) -> dict[str, Any]:
    """Counts each sensor's readings; a failure comes after the state was changed."""
    seen.value += 1
    _may_fail(reading)
    return {**_passed(reading), "count": seen.value}


_HANDLERS: dict[str, Any] = {"wait": wait, "block": block, "compute": compute, "count": count}
_options: dict[str, Any] = {"state": int} if CASE.work == "count" else {}
if CASE.concurrency > 1:
    _options["concurrency"] = CASE.concurrency
flow.stage(_HANDLERS[CASE.work], name="work", after=readings, run_in=CASE.run_in, **_options)
flow.sink("out", after="work", topic=f"{NAME}-out")

"""The benchmarks' judge sees every kind of fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from benchmarks.events import PER_MS, SENSORS, Readings
from benchmarks.oracle import THRESHOLD, Verdict, oracle_of

COUNT = 500
READINGS = Readings(COUNT)
Outputs = list[tuple[bytes | None, dict[str, Any]]]


def converted() -> Outputs:
    events = ((event.key, orjson.loads(event.value)) for event in READINGS)
    warm = ((key, value) for key, value in events if value["temperature"] >= THRESHOLD)
    return [(key, {**value, "fahrenheit": value["temperature"] * 1.8 + 32}) for key, value in warm]


def means() -> Outputs:
    last: dict[bytes, list[float]] = {}
    outputs: Outputs = []
    for event in READINGS:
        value = orjson.loads(event.value)
        window = last[event.key] = [*last.get(event.key, []), value["temperature"]][-10:]
        mean = sum(window) / len(window)
        outputs.append((event.key, {"id": value["id"], "sensor": value["sensor"], "avg": mean}))
    return outputs


def counted() -> Outputs:
    counts: dict[str, int] = {}
    outputs: Outputs = []
    for event in READINGS:
        value = orjson.loads(event.value)
        site = value["site"]
        counts[site] = counts.get(site, 0) + 1
        outputs.append((site.encode(), {"id": value["id"], "site": site, "count": counts[site]}))
    return outputs


def window_means() -> Outputs:
    windows: dict[tuple[int, str], list[float]] = {}
    for event in READINGS:
        value = orjson.loads(event.value)
        windows.setdefault((value["ts"] // 10_000 * 10_000, value["sensor"]), []).append(value["temperature"])
    return [
        (sensor.encode(), {"sensor": sensor, "start": start, "avg": sum(found) / len(found)})
        for (start, sensor), found in windows.items()
    ]


WORKLOADS = {"W1": converted, "W2": means, "W3": window_means, "W4": counted}


def judge(workload: str, outputs: Outputs) -> Verdict:
    oracle = oracle_of(workload, READINGS)
    for key, value in outputs:
        oracle.take(key, orjson.dumps(value))
    return oracle.verdict()


@pytest.mark.parametrize("workload", WORKLOADS)
def test_what_is_right_passes(workload: str) -> None:
    verdict = judge(workload, WORKLOADS[workload]())
    assert verdict.ok
    assert str(verdict) == f"ok, {verdict.expected:,} outputs"


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_missing_output(workload: str) -> None:
    outputs = WORKLOADS[workload]()
    del outputs[-1]
    verdict = judge(workload, outputs)
    assert not verdict.ok
    assert verdict.missing == 1


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_duplicated_output(workload: str) -> None:
    outputs = WORKLOADS[workload]()
    verdict = judge(workload, [*outputs, outputs[7]])
    assert not verdict.ok
    assert (verdict.duplicated, verdict.missing) == (1, 0)


def another_value(key: bytes | None, value: dict[str, Any]) -> tuple[bytes | None, dict[str, Any]]:
    last = list(value)[-1]
    return key, {**value, last: value[last] + 1}


def another_key(key: bytes | None, value: dict[str, Any]) -> tuple[bytes | None, dict[str, Any]]:
    return b"other", value


def no_key(key: bytes | None, value: dict[str, Any]) -> tuple[bytes | None, dict[str, Any]]:
    return None, value


def unknown_id(key: bytes | None, value: dict[str, Any]) -> tuple[bytes | None, dict[str, Any]]:
    return key, {**value, "id": COUNT, "sensor": "s-99999"}


@pytest.mark.parametrize("spoil", [another_value, another_key, no_key, unknown_id])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_wrong_output(workload: str, spoil: Callable[..., Any]) -> None:
    outputs = WORKLOADS[workload]()
    outputs[-1] = spoil(*outputs[-1])
    verdict = judge(workload, outputs)
    assert not verdict.ok
    assert verdict.wrong == 1


def test_outputs_out_of_order() -> None:
    outputs = converted()
    first = next(
        i for i, (key, _) in enumerate(outputs) if any(key == other for other, _ in outputs[i + 1 :])
    )
    second = next(i for i in range(first + 1, len(outputs)) if outputs[i][0] == outputs[first][0])
    outputs[first], outputs[second] = outputs[second], outputs[first]
    verdict = judge("W1", outputs)
    assert not verdict.ok
    assert verdict.disordered == 1


def test_a_dropped_reading_that_comes_out_is_wrong() -> None:
    cold = next(
        orjson.loads(event.value)
        for event in READINGS
        if orjson.loads(event.value)["temperature"] < THRESHOLD
    )
    cold["fahrenheit"] = cold["temperature"] * 1.8 + 32
    assert judge("W1", [*converted(), (cold["sensor"].encode(), cold)]).wrong == 1


def test_a_part_of_the_readings() -> None:
    oracle = oracle_of("W2", READINGS, 10)
    for key, value in means()[:10]:
        oracle.take(key, orjson.dumps(value))
    assert oracle.verdict().ok


def test_windows_of_a_part_of_the_readings() -> None:
    """Those count which a later reading of the same sensor closes."""
    many = Readings(30_000 * PER_MS)
    oracle = oracle_of("W3", many, 25_000 * PER_MS)
    assert oracle_of("W3", many).expected > 2.9 * SENSORS
    assert 1.9 * SENSORS < oracle.expected <= 2 * SENSORS


def test_readings_that_close_windows_are_not_counted() -> None:
    closing = list(Readings(COUNT, closing=True))[COUNT:]
    assert len(closing) == SENSORS
    oracle = oracle_of("W3", READINGS)
    for key, value in window_means():
        oracle.take(key, orjson.dumps(value))
    start = closing[0].timestamp // 10_000 * 10_000
    oracle.take(b"s-00000", orjson.dumps({"sensor": "s-00000", "start": start, "avg": 0.0}))
    assert oracle.verdict().ok

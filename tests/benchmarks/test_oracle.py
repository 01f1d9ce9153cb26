"""The benchmarks' judge sees every kind of fault."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from statistics import fmean
from typing import Any

import orjson
import pytest

from benchmarks.events import PER_MS, SENSORS, Readings
from benchmarks.oracle import THRESHOLD, Verdict, oracle_of

COUNT = 2_000
READINGS = Readings(COUNT)
LONGER = Readings(4_000 * PER_MS)
"""Long enough for a sensor to have several sessions."""
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


@cache
def _session_means() -> Outputs:
    sessions: dict[str, list[list[tuple[int, float]]]] = {}
    for event in LONGER:
        value = orjson.loads(event.value)
        of_sensor = sessions.setdefault(value["sensor"], [])
        if not of_sensor or value["ts"] - of_sensor[-1][-1][0] > 1_500:
            of_sensor.append([])
        of_sensor[-1].append((value["ts"], value["temperature"]))
    assert max(map(len, sessions.values())) > 1
    return [
        (sensor.encode(), {"sensor": sensor, "start": session[0][0], "avg": fmean(t for _, t in session)})
        for sensor, of_sensor in sessions.items()
        for session in of_sensor
    ]


def session_means() -> Outputs:
    return list(_session_means())


def pairs() -> Outputs:
    values = [orjson.loads(event.value) for event in READINGS]
    found = [
        (a, b)
        for a, b in product(values[::2], values[1::2])
        if a["sensor"] == b["sensor"] and abs(a["ts"] - b["ts"]) <= 500
    ]
    return [
        (
            a["sensor"].encode(),
            {
                "id": a["id"],
                "other": b["id"],
                "sensor": a["sensor"],
                "difference": a["temperature"] - b["temperature"],
            },
        )
        for a, b in found
    ]


WORKLOADS = {
    "W1": converted, "W2": means, "W3": window_means, "W4": counted, "W5": session_means, "W6": pairs,
}  # fmt: skip


def judge(workload: str, outputs: Outputs) -> Verdict:
    oracle = oracle_of(workload, LONGER if workload == "W5" else READINGS)
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


def test_sessions_of_a_part_of_the_readings() -> None:
    """Those count behind which the same sensor begins another."""
    part = oracle_of("W5", LONGER, LONGER.count - 1)
    outputs = session_means()
    last = {value["sensor"]: value["start"] for _, value in outputs}
    ended = [(key, value) for key, value in outputs if value["start"] < last[value["sensor"]]]
    for key, value in ended:
        part.take(key, orjson.dumps(value))
    assert part.verdict().ok
    assert part.verdict().expected == len(ended) < len(outputs)


def test_pairs_that_are_too_far_apart_are_wrong() -> None:
    sensors = LONGER.sensor
    far = next(id for id in range(1, LONGER.count, 2) if id > 501 * PER_MS and sensors[id] == sensors[0])
    oracle = oracle_of("W6", LONGER)
    name = f"s-{sensors[0]:05d}"
    difference = LONGER.temperature[0] - LONGER.temperature[far]
    value = {"id": 0, "other": far, "sensor": name, "difference": difference}
    oracle.take(name.encode(), orjson.dumps(value))
    assert oracle.verdict().wrong == 1


def test_readings_that_close_windows_are_not_counted() -> None:
    closing = list(Readings(COUNT, closing=True))[COUNT:]
    assert len(closing) == SENSORS
    oracle = oracle_of("W3", READINGS)
    for key, value in window_means():
        oracle.take(key, orjson.dumps(value))
    start = closing[0].timestamp // 10_000 * 10_000
    oracle.take(b"s-00000", orjson.dumps({"sensor": "s-00000", "start": start, "avg": 0.0}))
    assert oracle.verdict().ok

"""The examples run as their docstrings say, and give what can be computed by hand."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

EXAMPLES = Path(__file__).parent.parent / "examples"
COMMAND = [sys.executable, "-m", "reflow_kafka"]

Events = dict[str, list[dict[str, Any]]]


def reflow(*arguments: str, folder: Path) -> str:
    environment = {**os.environ, "REFLOW_LOG_LEVEL": "WARNING"}
    done = subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(example: str, topic: str, field: str, folder: Path, *options: str) -> Events:
    """Run an example to its end; what is in its topic, by key and in order."""
    reflow("worker", str(EXAMPLES / example), "--until-end", *options, folder=folder)
    return consume(topic, field, folder, *options)


def consume(topic: str, field: str, folder: Path, *options: str) -> Events:
    events: Events = defaultdict(list)
    for line in reflow("consume", topic, *options, folder=folder).splitlines():
        value = json.loads(line)
        events[value[field]].append(value)
    return events


def check_counts(counts: Events) -> None:
    text = runpy.run_path(str(EXAMPLES / "word_count.py"))["TEXT"]
    expected = Counter(re.findall(r"[a-z]+", text.lower()))
    assert {word: [e["count"] for e in events] for word, events in counts.items()} == {
        word: list(range(1, n + 1)) for word, n in expected.items()
    }


def check_changes(changes: Events) -> None:
    expected: dict[str, list[tuple[str, str]]] = defaultdict(list)
    last: dict[str, str] = {}
    for line in (EXAMPLES / "data" / "machines.jsonl").read_text().splitlines():
        reading = json.loads(line)
        celsius = reading["celsius"]
        category = "HOT" if celsius >= 80 else "COLD" if celsius <= 20 else "NOMINAL"
        before = last.get(reading["machine"], "UNKNOWN")
        if category != before:
            expected[reading["machine"]].append((before, category))
        last[reading["machine"]] = category
    assert {m: [(e["from"], e["to"]) for e in events] for m, events in changes.items()} == expected
    assert any(len(events) > 1 for events in changes.values()), "some machine changes twice"


def test_word_count_on_the_embedded_log(tmp_path: Path) -> None:
    check_counts(run("word_count.py", "word-counts", "word", tmp_path))
    check_counts(run("word_count.py", "word-counts", "word", tmp_path))  # nothing is left: nothing more


def test_temperature_monitor_on_the_embedded_log(tmp_path: Path) -> None:
    check_changes(run("temperature_monitor.py", "machine-changes", "machine", tmp_path))


def check_visits(counts: Events) -> None:
    expected = located()
    assert {city: [e["count"] for e in events] for city, events in counts.items()} == {
        city: list(range(1, n + 1)) for city, n in expected.items() if city
    }


def located() -> Counter[str | None]:
    """Visits by city, computed without a flow; None: those of unknown addresses."""
    program = """
import json, city_service, enrich
print(json.dumps([city_service.city_of(visit.address) for visit in enrich.make_visits()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=EXAMPLES, check=True, capture_output=True, timeout=50
    )
    return Counter(json.loads(done.stdout))


@pytest.mark.slow
def test_enrichment_in_one_command() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "enrich.py")], check=True, capture_output=True, text=True, timeout=100
    )
    expected = located()
    for city, visits in expected.items():
        assert f"{visits:>5} visits from {city or 'nobody knows where'}" in done.stdout
    assert " 1000 visits in " in done.stdout
    assert re.search(r"down\n +for [1-9]\d*, and not answered [1-9]\d* in time", done.stdout), done.stdout


@pytest.mark.slow
def test_enrichment_on_the_embedded_log(tmp_path: Path) -> None:
    check_visits(run("enrich.py", "visits-per-city", "city", tmp_path))


@pytest.mark.kafka
def test_the_examples_on_kafka(tmp_path: Path, kafka_bootstrap: str, unique: str) -> None:
    options = ("--bootstrap", kafka_bootstrap)
    examples = shutil.copytree(EXAMPLES, tmp_path / "examples")
    for example in examples.glob("*.py"):  # names of their own, on a broker that others use too
        text = (
            example.read_text().replace("word-count", f"{unique}-w").replace("machine-changes", f"{unique}-m")
        )
        text = text.replace('"enrich"', f'"{unique}-e"').replace("visits-per-city", f"{unique}-v")
        example.write_text(text.replace("temperature-monitor", f"{unique}-t"))
    # The readings are of 2024: a topic with the broker's default retention may delete them at any moment.
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    topic = NewTopic(f"{unique}-m", 4, 1, config={"retention.ms": "-1"})
    admin.create_topics([topic])[f"{unique}-m"].result(20)
    reflow("worker", str(examples / "word_count.py"), "--until-end", *options, folder=tmp_path)
    check_counts(consume(f"{unique}-ws", "word", tmp_path, *options))
    reflow("worker", str(examples / "temperature_monitor.py"), "--until-end", *options, folder=tmp_path)
    check_changes(consume(f"{unique}-m", "machine", tmp_path, *options))
    reflow("worker", str(examples / "enrich.py"), "--until-end", *options, folder=tmp_path)
    check_visits(consume(f"{unique}-v", "city", tmp_path, *options))


def test_the_stages_do_not_know_the_library() -> None:
    stages = runpy.run_path(str(EXAMPLES / "machine_stages.py"))
    assert stages["categorise"]({"celsius": 90.0})["category"] == "HOT"
    assert "reflow" not in (EXAMPLES / "machine_stages.py").read_text()

"""Log lines: for people on a terminal, JSON for everything else, with the place in both."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from reflow_kafka.context import Context
from reflow_kafka.observe.logging import configure

LOG = logging.getLogger("reflow_kafka.lane.lane")
Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)


@pytest.fixture
def lines() -> Lines:
    """Logs for people; gives what was printed so far, without its times."""
    out = io.StringIO()
    configure("INFO", "console", console=Console(file=out, width=40, color_system=None))
    return lambda: [line[9:] for line in out.getvalue().splitlines()]


def as_json(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_lines_for_people(lines: Lines) -> None:
    LOG.info("running")
    LOG.info("restored %d records", 4000, extra={"flow": "weather", "stage": "average", "lane": 3})
    LOG.warning("slow", extra={"flow": "weather", "lane": 0})
    LOG.error("a [bold]value[/bold] as it is")
    LOG.debug("not shown")
    assert lines() == [
        "running",
        "weather.average[3] restored 4000 records",
        "warning weather[0] slow",
        "error a [bold]value[/bold] as it is",
    ]


def test_a_line_stays_one_line(lines: Lines) -> None:
    LOG.info("word " * 30)
    assert len(lines()) == 1


def test_a_traceback_follows_its_line(lines: Lines) -> None:
    try:
        raise ValueError("bad [value]")
    except ValueError:
        LOG.exception("failed")
    assert lines()[0] == "error failed"
    assert len(lines()) > 3


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", "json", engine="2")
    LOG.info("restored %d", 7, extra={"flow": "weather", "lane": 3, "seconds": 0.5})
    try:
        raise ValueError("bad")
    except ValueError:
        LOG.exception("two\nlines, ü", extra={"odd": object})
    first, second = as_json(capsys)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "logger": "reflow_kafka.lane.lane",
        "message": "restored 7",
        "flow": "weather",
        "lane": 3,
        "seconds": 0.5,
        "engine": "2",
    }
    assert (second["message"], second["error"]) == ("two\nlines, ü", "ValueError")
    assert second["traceback"].endswith("ValueError: bad\n")
    assert second["odd"] == "<class 'object'>"


def test_what_a_stage_logs_has_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", "json")
    Context("weather", "average", 3).log.info("seen")
    (line,) = as_json(capsys)
    assert (line["flow"], line["stage"], line["lane"]) == ("weather", "average", 3)


def test_the_users_own_loggers_are_heard(capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", "json")
    logging.getLogger("my.module").info("hello")
    assert [line["logger"] for line in as_json(capsys)] == ["my.module"]


def test_the_kafka_client_is_heard_when_debugging_only(capsys: pytest.CaptureFixture[str]) -> None:
    client = logging.getLogger("aiokafka.conn")
    configure("INFO", "json")
    client.error("cannot connect, again")
    assert as_json(capsys) == []
    configure("DEBUG", "json")
    client.error("cannot connect, again")
    assert len(as_json(capsys)) == 1


def test_auto_is_json_where_no_terminal_is() -> None:
    program = (
        "import logging; from reflow_kafka.observe.logging import configure; configure()\n"
        "logging.getLogger('reflow_kafka').info('hello')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr)["message"] == "hello"
    assert done.stdout == ""

"""Finding connectors by name, and what they tell of themselves."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from reflow_connectors import registry
from reflow_connectors.kafka import KafkaSink, KafkaSource
from reflow_kafka.connector import Sink, Source
from reflow_kafka.errors import UsageError
from reflow_kafka.security import Security

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
POINTS = PYPROJECT["project"]["entry-points"]


@pytest.mark.parametrize(("group", "protocol"), [(registry.SOURCES, Source), (registry.SINKS, Sink)])
def test_what_the_project_registers_is_there(group: str, protocol: type) -> None:
    for name, value in POINTS[group].items():
        connector = EntryPoint(name, value, group).load()
        methods = [m for m in ("parts", "open") if hasattr(protocol, m)]
        assert all(callable(getattr(connector, method)) for method in methods)
        assert name in registry.names(group), "not installed: run make setup again"


def test_by_name() -> None:
    from reflow_connectors.files import CsvSource, JsonLinesSink

    assert registry.find_source("csv") is CsvSource
    assert registry.find_sink("jsonl") is JsonLinesSink


def test_a_name_that_is_wrong() -> None:
    with pytest.raises(
        UsageError, match=r"no source is called 'jsnol'; did you mean 'jsonl'\? Available: csv, "
    ):
        registry.find_source("jsnol")
    with pytest.raises(UsageError, match=r"no sink is called 'qqq'\. Available: "):
        registry.find_sink("qqq")


def test_a_connector_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(tmp_path, monkeypatch, broken="no_such_module:Thing")
    with pytest.raises(UsageError, match="cannot be loaded from no_such_module:Thing of third-party"):
        registry.find_source("broken")


def register(folder: Path, monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    """As if a distribution with these sources were installed."""
    info = folder / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.SOURCES}]", *lines, ""]))
    monkeypatch.syspath_prepend(str(folder))
    assert sys.path[0] == str(folder)


def test_nothing_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLOW_SECRET_pw", "hunter2")
    for kind in (KafkaSource, KafkaSink):
        login = {"protocol": "SASL_SSL", "mechanism": "PLAIN", "username": "me"}
        connector = kind("t", bootstrap="b:9092", security=Security(**login, password="hunter2"))  # type: ignore[arg-type]
        assert "hunter2" not in repr(connector)
        assert "password='***'" in repr(connector)
        assert "b:9092" in repr(connector)
        assert "me" in repr(connector)
        named = kind("t", bootstrap="b", security=Security(**login, password="${secret.pw}"))  # type: ignore[arg-type]
        assert "hunter2" not in repr(named)
        assert "${secret.pw}" in repr(named)
        with pytest.raises(
            UsageError, match=r"found sasl_plain_password, wanted security=Security"
        ) as refused:
            kind("t", bootstrap="b", sasl_plain_password="hunter2")
        assert "hunter2" not in str(refused.value)

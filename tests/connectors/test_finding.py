"""Finding connectors by name, and resolving secrets."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from reflow_connectors import registry, secrets
from reflow_connectors.kafka import KafkaSink, KafkaSource
from reflow_kafka.connector import Sink, Source
from reflow_kafka.errors import UsageError

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


# ---- secrets


def test_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "here")
    monkeypatch.setenv("REFLOW_SECRET_one", "1")
    monkeypatch.setenv("REFLOW_SECRETS_DIR", str(tmp_path))
    (tmp_path / "two").write_text("2 \n")
    option = {"a": ["x-${env.PLACE}-${secret.one}", 5], "b": ("${secret.two}",), "c": None}
    assert secrets.resolve(option) == {"a": ["x-here-1", 5], "b": ("2 ",), "c": None}
    assert secrets.resolve("$PLACE ${PLACE} {lane}") == "$PLACE ${PLACE} {lane}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${env.MISSING_1}", "environment variable MISSING_1 is not set"),
        ("${secret.missing}", "neither REFLOW_SECRET_missing nor REFLOW_SECRETS_DIR"),
        ("${vault.x}", "unknown"),
        ("${secret.../../etc/passwd}", "a name consists of"),
    ],
)
def test_references_that_name_nothing(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFLOW_SECRETS_DIR", raising=False)
    with pytest.raises(UsageError, match=message):
        secrets.resolve(text)


def test_a_secret_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLOW_SECRETS_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        secrets.resolve("${secret.missing}")


def test_nothing_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLOW_SECRET_pw", "hunter2")
    for kind in (KafkaSource, KafkaSink):
        connector = kind(
            "t",
            bootstrap="b:9092",
            sasl_plain_username="me",
            sasl_plain_password="hunter2",
            sasl_oauth_token_provider="hunter2",
        )
        assert "hunter2" not in repr(connector)
        assert "sasl_plain_password='***'" in repr(connector)
        assert "b:9092" in repr(connector)
        assert "me" in repr(connector)
        named = kind("t", bootstrap="b", sasl_plain_password="${secret.pw}")
        assert "hunter2" not in repr(named)
        assert "${secret.pw}" in repr(named)
    shown = secrets.describe(
        object(), "http://user:hunter2@host/x", headers={"api-key": "hunter2", "Token": "hunter2"}
    )
    assert "hunter2" not in shown

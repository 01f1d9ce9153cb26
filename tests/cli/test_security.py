"""The options of a secure connection: where they may come from, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from reflow_kafka.cli.program import Program, log_options
from reflow_kafka.security import Security
from tests.cli.conftest import Cli

KAFKA = ["--bootstrap", "broker:9093"]
LOGIN = ["--security-protocol", "sasl_ssl", "--sasl-mechanism", "scram-sha-256", "--sasl-username", "alice"]
WANTED = {"protocol": "SASL_SSL", "mechanism": "SCRAM-SHA-256", "username": "alice"}


def ask(*args: str, env: dict[str, str] | None = None) -> Any:
    """The `security` that a command gets, or what is said instead."""
    found: list[Security | None] = []

    @click.command()
    @log_options
    def probe(bootstrap: str, security: Security | None, data_dir: Path) -> None:
        found.append(security)

    program = Program("program", commands=[probe])
    result = CliRunner().invoke(program, ["probe", *args], env=env)
    assert "hunter2" not in result.output
    assert result.exit_code == (0 if found else 2)
    return found[0] if found else result.stderr


def test_without_any_there_is_none(folder: Path) -> None:
    assert ask(*KAFKA) is None
    assert ask(*KAFKA, env={"REFLOW_SASL_PASSWORD": "hunter2"}) is None
    assert ask() is None


def test_options_with_a_secret_from_a_file(folder: Path) -> None:
    found = ask(*KAFKA, *LOGIN, "--sasl-password-file", "pw", "--ssl-ca-location", "ca.pem")
    assert found == Security(**WANTED, ca=Path("ca.pem"), password=Path("pw"))  # type: ignore[arg-type]


def test_everything_from_variables(folder: Path) -> None:
    variables = {
        "REFLOW_BOOTSTRAP": "broker:9093",
        "REFLOW_SECURITY_PROTOCOL": "SASL_SSL",
        "REFLOW_SASL_MECHANISM": "SCRAM-SHA-256",
        "REFLOW_SASL_USERNAME": "alice",
        "REFLOW_SASL_PASSWORD": "hunter2",
    }
    assert ask(env=variables) == Security(**WANTED, password="hunter2")  # type: ignore[arg-type]
    assert ask(*KAFKA, *LOGIN, env={"REFLOW_SASL_PASSWORD": "${secret.kafka}"}).password == "${secret.kafka}"


def test_a_file_of_properties_and_options_over_it(folder: Path) -> None:
    (folder / "client.properties").write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=bob\nsasl.password=hunter2\n"
    )
    found = ask(*KAFKA, "--kafka-config", "client.properties", "--sasl-username", "alice")
    assert found == Security(**{**WANTED, "mechanism": "PLAIN"}, password="hunter2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ([*KAFKA, *LOGIN], "without password"),
        ([*KAFKA, "--sasl-username", "alice"], "the options: found username but no security protocol"),
        ([*KAFKA, "--security-protocol", "TLS"], "--security-protocol"),
        ([*KAFKA, "--kafka-config", "nowhere"], "nowhere cannot be read"),
        (["--security-protocol", "SSL"], "no --bootstrap"),
    ],
)
def test_what_does_not_fit(folder: Path, args: list[str], wanted: str) -> None:
    said = ask(*args)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert wanted in said


@pytest.mark.parametrize(
    "args", [["worker", "copying.py"], ["topics", "copying.py"], ["produce", "t"], ["consume", "t"]]
)
def test_commands_take_them(cli: Cli, args: list[str]) -> None:
    result = cli(*args, *KAFKA, *LOGIN, "--sasl-password-file", "no-such-file", input="")
    assert result.exit_code == 2
    assert "Security: password: no-such-file cannot be read: No such file" in result.stderr

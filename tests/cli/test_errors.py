"""What is wrong is said in one sentence, with an exit code that tells scripts what kind of wrong it is."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from reflow_kafka.cli.program import Program, exit_code
from reflow_kafka.errors import (
    BrokerUnavailable,
    DataLoss,
    DefinitionError,
    FlowStopped,
    ReflowError,
    TopologyMismatch,
    UsageError,
)
from tests.cli.conftest import Cli, Command

NOBODY = "127.0.0.1:1"


def is_one_sentence(said: str) -> bool:
    return said.startswith("error: ") and said.count("\n") == 1 and "Traceback" not in said


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["worker", "copying.py", "--no-such"], "No such option"),
        (["worker", "copying.py", "--engines", "0"], "--engines"),
        (["worker", "copying.py", "--engines", "many"], "--engines"),
        (["worker", "copying.py", "--guarantee", "twice"], "--guarantee"),
        (["worker", "copying.py", "--commit-interval", "-1"], "--commit-interval"),
        (["worker", "copying.py", "--app-dir", "nowhere"], "nowhere"),
        (["worker", "copying.py", "--bootstrap", "broker"], "'broker' is no HOST:PORT"),
        (["worker", "copying.py", "--bootstrap", "a:9092,b:99999"], "'b:99999' is no HOST:PORT"),
        (["worker", "copying.py", "--engines", "2"], "--engines 2 needs --bootstrap"),
        (["worker", "copying.py", "--standbys", "1"], "--standbys 1 needs --bootstrap"),
        (["worker", "copying.py", "--standbys", "101"], "101 is not in the range 0<=x<=100"),
        (["worker", "copying.py", "copying.py"], "flow 'copy' was already given"),
        (["worker"], "TARGET"),
        (["worker", "nothing.py"], "there is no file"),
        (["worker", "nothing:flow"], "there is no module 'nothing'"),
        (["worker", "copying.py:folw"], "folw"),
        (["worker", "copying.py:numbers"], "not a Flow"),
        (["describe", "nothing"], "nothing"),
        (["describe", "copying.py", "--format", "svg"], "--format"),
        (["topics", "nothing.py"], "there is no file"),
        (["consume", "numbers"], "there is no embedded log in .reflow"),
        (["consume", "numbers", "--from-end"], "--from-end"),
        (["produce", "numbers", "--create", "0"], "--create"),
        (["produce", "numbers", "--key", "n", "--envelope"], "exclude each other"),
        (["produce", "numbers", "no-such-file"], "no-such-file"),
        (["produce"], "TOPIC"),
        (["produce", "a b", "--create", "1"], "'a b' is no name of a Kafka topic (letters"),
        (["produce", "..", "--create", "1"], "'..' is no name of a Kafka topic"),
        (["consume", ""], "'' is no name of a Kafka topic"),
        (["work"], "No such command"),
    ],
)
def test_wrong_usage(cli: Cli, args: list[str], wanted: str) -> None:
    result = cli(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert is_one_sentence(result.stderr)
    assert wanted in result.stderr


def test_a_variable_with_a_wrong_value_is_named(cli: Cli) -> None:
    result = cli("worker", "copying.py", env={"REFLOW_ENGINES": "many"})
    assert result.exit_code == 2
    assert is_one_sentence(result.stderr)
    assert "REFLOW_ENGINES" in result.stderr


@pytest.mark.parametrize("subcommand", ["worker", "describe", "topics"])
def test_an_error_inside_the_users_module_names_their_line(cli: Cli, folder: Path, subcommand: str) -> None:
    (folder / "broken.py").write_text("import json\n\nimport no_such_library\n")
    result = cli(subcommand, "broken.py")
    assert result.exit_code == 2
    assert is_one_sentence(result.stderr)
    assert "no_such_library" in result.stderr
    assert "broken.py:3" in result.stderr


@pytest.mark.parametrize("subcommand", ["worker", "describe", "topics"])
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("flow.stage(print, name='show', after='nobody')", "nobody"),
        ("flow.stage(lambda v: v, after='numbers')", "name="),
    ],
)
def test_an_invalid_flow(cli: Cli, folder: Path, subcommand: str, line: str, wanted: str) -> None:
    source = "from reflow_kafka import Flow\nflow = Flow('f')\nflow.source('numbers', topic='numbers')\n"
    (folder / "invalid.py").write_text(source + line + "\n")
    result = cli(subcommand, "invalid.py")
    assert result.exit_code == 4
    assert is_one_sentence(result.stderr)
    assert wanted in result.stderr
    assert "invalid.py:4" in result.stderr


@pytest.mark.slow
def test_an_address_where_nobody_answers(command: Command) -> None:
    """They give up in time, all of them; side by side, as each waits for a quarter of a minute."""

    def nobody_answers(args: list[str]) -> subprocess.CompletedProcess[str]:
        return command(*args, "--bootstrap", NOBODY, input="{}\n", timeout=60)

    commands = [["worker", "copying.py"], ["worker", "copying.py", "--engines", "2"], ["produce", "numbers"]]
    with ThreadPoolExecutor() as threads:
        for result in threads.map(nobody_answers, commands):
            assert result.returncode == 3
            *logged, last = result.stderr.splitlines(keepends=True)
            assert all(line.startswith("{") for line in logged)
            assert is_one_sentence(last)
            assert f"no Kafka broker answered at {NOBODY}" in last


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("wrong"), 2),
        (BrokerUnavailable("nobody"), 3),
        (DefinitionError("invalid"), 4),
        (TopologyMismatch("other"), 4),
        (DataLoss("gone"), 1),
        (FlowStopped("stopped"), 1),
        (ReflowError("something"), 1),
    ],
)
def test_exit_codes(error: ReflowError, code: int) -> None:
    assert exit_code(error) == code
    result = CliRunner().invoke(failing(error))
    assert result.exit_code == code
    assert is_one_sentence(result.stderr)
    grouped = CliRunner().invoke(failing(ExceptionGroup("several", [error])))
    assert (grouped.exit_code, grouped.stderr) == (result.exit_code, result.stderr)


@pytest.mark.parametrize("error", [ValueError("a bug"), ExceptionGroup("several", [ValueError("a bug")])])
def test_what_nobody_expected_is_shown_in_full(error: Exception) -> None:
    result = CliRunner().invoke(failing(error))
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "ValueError: a bug" in result.stderr


def test_ctrl_c_is_no_crash_report() -> None:
    result = CliRunner().invoke(failing(KeyboardInterrupt()))
    assert result.exit_code == 1
    assert "aborted" in result.stderr
    assert "Traceback" not in result.stderr


def failing(error: BaseException) -> click.Command:
    def fail() -> None:
        raise error

    return Program(
        "program", commands=[click.Command("fail", callback=fail)], invoke_without_command=True, callback=fail
    )

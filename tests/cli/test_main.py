"""The program as a whole: help, version, variables, and how fast it answers."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

import reflow_kafka.cli.worker as worker_module
from reflow_kafka.cli.main import main
from reflow_kafka.cli.worker import Options
from tests.cli.conftest import Cli, Command

COMMANDS = ("worker", "describe", "topics", "produce", "consume", "dev-broker")


def options(name: str) -> Iterator[click.Option]:
    yield from (p for p in main.commands[name].params if isinstance(p, click.Option))


def test_help_lists_every_command(cli: Cli) -> None:
    result = cli("--help")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in COMMANDS)
    assert set(main.commands) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_option_and_its_variable(cli: Cli, name: str) -> None:
    shown = cli(name, "--help").stdout
    words = shown.replace(",", " ").replace("/", " ").replace("]", " ").replace(";", " ").split()
    for option in options(name):
        assert option.help
        for spelling in (*option.opts, *option.secondary_opts):
            assert spelling in words
        if name != "dev-broker":
            assert any(word.startswith("REFLOW_") for word in words)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "dev-broker"])
def test_every_option_shows_its_variable(name: str) -> None:
    assert [o.name for o in options(name) if o.name != "help" and not o.show_envvar] == []


def test_without_a_command_it_shows_its_help(cli: Cli) -> None:
    result = cli()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


def test_version(cli: Cli) -> None:
    result = cli("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("reflow-kafka 0.")


def test_a_variable_that_names_a_release_is_not_an_option(cli: Cli) -> None:
    assert cli("describe", "copying.py", env={"REFLOW_VERSION": "1.2.3"}).exit_code == 0


def test_options_come_from_variables(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Options] = []
    monkeypatch.setattr(worker_module, "_run", lambda options, seat: seen.append(options))
    variables = {
        "REFLOW_BOOTSTRAP": " one:9092, two:9093",
        "REFLOW_DATA_DIR": "elsewhere",
        "REFLOW_UNTIL_END": "1",
        "REFLOW_GUARANTEE": "at-least-once",
        "REFLOW_COMMIT_INTERVAL": "0.5",
        "REFLOW_SHUTDOWN_TIMEOUT": "3",
        "REFLOW_LOG_LEVEL": "debug",
        "REFLOW_LOG_FORMAT": "json",
    }
    result = cli("worker", "copying.py", "--shutdown-timeout", "4", env=variables)
    assert result.exit_code == 0
    (got,) = seen
    assert got.bootstrap == "one:9092,two:9093"
    assert got.data_dir.name == "elsewhere"
    assert got.until_end
    assert (got.guarantee, got.commit_interval) == ("at-least-once", 0.5)
    assert got.shutdown_timeout == 4  # the command line has the last word
    assert (got.log_level, got.log_format) == ("DEBUG", "json")


def test_options_of_other_commands_have_variables_too(cli: Cli) -> None:
    result = cli("describe", "copying.py", env={"REFLOW_DESCRIBE_FORMAT": "mermaid"})
    assert result.stdout.startswith("flowchart")


@pytest.mark.parametrize("args", [["--help"], ["worker", "--help"], ["describe", "copying.py"]])
def test_it_answers_at_once(command: Command, args: list[str]) -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert command(*args).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Of the processor's time, the best of a few: other programs run on this machine, too.
    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.parametrize("args", [["--help"], ["describe", "copying.py"]])
def test_what_is_heavy_is_not_imported(folder: object, args: list[str]) -> None:
    program = (
        "import sys; from reflow_kafka.cli.main import main\n"
        f"try: main({args!r})\nexcept SystemExit: pass\n"
        "print(sorted({'aiokafka', 'rocksdict', 'uvloop', 'rich', 'asyncio'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] in ("[]", "['asyncio']")

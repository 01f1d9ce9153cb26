"""`docs/cli.md` and the program say the same: each command, option, variable, default and exit code."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from reflow_kafka.cli.main import main
from reflow_kafka.cli.program import CRASHED, INVALID, NO_BROKER, USAGE
from reflow_kafka.cli.security import SECRETS, SECURITY_OPTIONS

TEXT = (Path(__file__).parent.parent / "docs" / "cli.md").read_text()
COMMON, *PARTS = TEXT.split("\n## ")
SECTIONS = {part.partition("\n")[0]: part for part in PARTS}
ROW = re.compile(r"^\| `(--[^|]*)` \| `(REFLOW_\w+)` \| (?:`([^`]*)`)? ?\| (.+) \|$", re.MULTILINE)


def rows(text: str) -> dict[str, tuple[str, str, str]]:
    """A table of options: spellings without their argument → variable, default, how it is called."""
    return {
        re.sub(r" [A-Z][^` ]*", "", option).replace("`", ""): (variable, default, option)
        for option, variable, default, _ in ROW.findall(text)
    }


def spelled(option: click.Option) -> str:
    return " / ".join([*option.opts, *option.secondary_opts])


def variable(command: str, option: click.Option) -> str:
    name = (option.name or "").upper()
    return str(option.envvar or f"REFLOW_{command.replace('-', '_').upper()}_{name}")


def default(option: click.Option) -> str:
    if option.secondary_opts:
        return option.opts[0].removeprefix("--")
    shown = option.to_info_dict()["default"]
    return "" if shown is None or shown is False or not isinstance(shown, str | int | float) else str(shown)


def test_every_command_has_a_section() -> None:
    assert list(SECTIONS) == list(main.commands) or set(SECTIONS) == set(main.commands)
    for name in main.commands:
        assert f"[`{name}`](#{name})" in TEXT
        assert f"reflow-kafka {name} " in SECTIONS[name]


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_option_is_documented_and_no_other(command: str) -> None:
    options = {spelled(p): p for p in main.commands[command].params if isinstance(p, click.Option)}
    documented, text = rows(SECTIONS[command]), SECTIONS[command]
    if SECURITY_OPTIONS[0] in options:
        documented, text = {**documented, **rows(COMMON)}, text + COMMON
    assert set(documented) == set(options)
    for name, option in options.items():
        assert documented[name][:2] == (variable(command, option), default(option)), name
        if isinstance(option.type, click.Choice):
            for choice in option.type.choices:
                assert f"`{choice}`" in text


def test_the_variables_that_hold_secrets_are_documented() -> None:
    assert all(f"`{variable}`" in COMMON for variable in SECRETS)


def test_every_exit_code_is_documented() -> None:
    for code in (0, CRASHED, USAGE, NO_BROKER, INVALID):
        assert f"\n| {code} | " in TEXT

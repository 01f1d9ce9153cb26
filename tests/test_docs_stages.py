"""`docs/stages.md` and the library say the same: its blocks run, its tables are complete."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from types import ModuleType

import pytest

from reflow_kafka import Batch, Flow, Retry
from reflow_kafka.definition.stages import STAGE

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "stages.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def page() -> Iterator[tuple[ModuleType, str]]:
    """The blocks as the module that they make up, and what it printed."""
    module = sys.modules["docs_stages"] = ModuleType("docs_stages")
    code = "\n".join(text for language, text in BLOCKS if language == "python")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "docs/stages.md", "exec"), vars(module))
    yield module, printed.getvalue()
    del sys.modules["docs_stages"]


def test_the_blocks_are_a_flow(page: tuple[ModuleType, str]) -> None:
    module, printed = page
    assert [printed] == [text for language, text in BLOCKS if language == "text"]
    spec = module.flow.spec()
    assert spec.stage("risk").run_in == "process"
    assert spec.stage("flag").chain


@pytest.mark.parametrize("page", ["README.md", "docs/stages.md"])
def test_every_option_is_in_the_table_and_no_other(page: str) -> None:
    names = re.findall(r"^\| `(\w+)` \|", (ROOT / page).read_text(), re.MULTILINE)
    assert sorted(names) == sorted(STAGE)


@pytest.mark.parametrize("option", [Retry, Batch])
def test_defaults_are_as_they_are(option: type) -> None:
    (shown,) = set(re.findall(rf"`{option.__name__}\((\w+=[^`]*, [^`]*)\)`", PAGE))
    told = {name: eval(value) for name, value in (pair.split("=") for pair in shown.split(", "))}
    assert told == {p.name: p.default for p in signature(option).parameters.values()}


def test_the_limit_of_dead_letters() -> None:
    assert "more than half" in PAGE
    assert signature(Flow).parameters["dead_letter_limit"].default == 0.5

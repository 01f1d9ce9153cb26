"""`docs/security.md` says what is: its block runs, and its tables and messages are complete."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

from reflow_kafka.cli.program import Program, log_options
from reflow_kafka.log.kafka import diagnosis
from reflow_kafka.security import PROPERTIES, Security
from tests.test_docs import ROOT, blocks, shell

PAGE = ROOT / "docs" / "security.md"
TEXT = PAGE.read_text()


def test_the_block_runs(tmp_path: Path) -> None:
    (code,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    (tmp_path / "secure.py").write_text(code)
    printed = shell(f"{sys.executable} secure.py", tmp_path)
    assert "password=PosixPath('/run/secrets/kafka-password')" in printed


def test_every_field_and_property_is_in_the_table_and_no_other() -> None:
    table = TEXT[TEXT.index("| field |") : TEXT.index("**Tokens**")]
    named = {cell for row in re.findall(r"^\| (.*?) \| (.*?) \|", table, re.MULTILINE) for cell in row}
    found = {name for cell in named for name in re.findall(r"`([\w.]+)`", cell)}
    assert found == {*(field.name for field in fields(Security)), *PROPERTIES} - {"sasl.mechanisms"}


def test_the_variables_are_those_of_the_options() -> None:
    program = Program("program")
    options = {p.envvar for p in program.command()(log_options(lambda **_: None)).params}
    block = next(block.text for block in blocks(PAGE) if block.language == "sh")
    assert set(re.findall(r"REFLOW_\w+", block)) - {"REFLOW_SASL_PASSWORD"} <= options


def test_the_messages_are_those_that_are_said() -> None:
    code = re.sub(r'"\s+f?"', "", Path(diagnosis.__file__).read_text())  # texts go over several lines
    table = TEXT[TEXT.index("| message |") : TEXT.index("A running engine")]
    for message in re.findall(r"^\| ([a-z][^|]+) \|", table, re.MULTILINE):
        for part in message.split("…"):
            openssl = part == "certificate has expired"
            assert part.strip() in code or openssl, part

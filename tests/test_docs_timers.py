"""docs/timers.md: its flow and its commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_docs import ROOT, blocks, shell, write_files

PAGE = ROOT / "docs" / "timers.md"


@pytest.mark.timeout(120)
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    commands = [line for block in blocks(PAGE) if block.language == "sh" for line in block.text.splitlines()]
    printed = {line: shell(line, tmp_path) for line in commands}
    consumed = [text for line, text in printed.items() if " consume " in line]
    found = [json.loads(line) for text in consumed for line in text.splitlines()]
    told = [block.text for block in blocks(PAGE) if block.language == "json" and not block.note]
    wanted = [json.loads(line) for text in told for line in text.splitlines()]
    assert sorted(found, key=str) == sorted(wanted, key=str)

"""docs/enrichment.md: its service, its flow and its commands."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reflow_kafka.devbroker import free_port
from tests.support.waiting import wait_until
from tests.test_docs import ROOT, blocks, shell, write_files

PAGE = ROOT / "docs" / "enrichment.md"


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    port = free_port()
    write_files(PAGE, tmp_path, ("8080", str(port)))
    with subprocess.Popen([sys.executable, "service.py"], cwd=tmp_path) as service:
        try:
            wait_until(lambda: _accepts(port), 20, "the service to run")
            printed = []
            for block in blocks(PAGE):
                if block.language == "sh":
                    printed += [shell(line, tmp_path) for line in block.text.splitlines()]
                elif block.language == "python" and not block.note:
                    (tmp_path / "block.py").write_text(block.text)
                    shell(f"{sys.executable} block.py", tmp_path)
        finally:
            service.terminate()
    located, dead = ([json.loads(line) for line in text.splitlines()] for text in printed[-2:])
    assert [(visit["visitor"], visit["city"]) for visit in located] == [("ada", "Cork"), ("ada", "Graz")]
    assert [visit["visitor"] for visit in dead] == ["bob"]

"""`docs/queries.md` does what it says: its example runs, and gives what the page shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from reflow_kafka.devbroker import free_port
from tests.support.waiting import wait_until
from tests.test_docs import ROOT, blocks, write_files

PAGE = ROOT / "docs" / "queries.md"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "connectors")])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(PAGE, tmp_path)
    return tmp_path


def noted(note: str) -> str:
    (block,) = (block.text for block in blocks(PAGE) if block.note == note)
    return block


def reflow(folder: Path, *words: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder, env=ENVIRONMENT, input=given, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_gives_what_is_shown(folder: Path) -> None:
    """Over HTTP from a worker; then, as the embedded log is open once, from the program."""
    text, port = PAGE.read_text(), str(free_port())
    (worker,) = re.findall(r"^reflow-kafka (worker .*)$", text, re.MULTILINE)
    (url,) = re.findall(r"^curl (.*)$", text, re.MULTILINE)
    reflow(folder, "-m", "reflow_kafka", "produce", "pages", "--create", "8", given=noted("stdin: pages"))
    with (folder / "log").open("wb") as log:
        words = worker.replace("8080", port).split()
        process = subprocess.Popen(
            [sys.executable, "-m", "reflow_kafka", *words], cwd=folder, stderr=log, env=ENVIRONMENT
        )
        try:
            wait_until(
                lambda: found(url.replace("8080", port)) == json.loads(noted("answer")), 60, "the answer"
            )
        finally:
            process.terminate()
            assert process.wait(30) == 0, (folder / "log").read_text()
    (shown,) = (block.text for block in blocks(PAGE) if block.language == "text")
    assert reflow(folder, "service.py") == shown


def found(url: str) -> object:
    try:
        with urlopen(url, timeout=10) as response:
            answer = json.loads(response.read())
            answer["as_of"]["offset"] = 1  # one commit, or two
            return answer
    except OSError:  # it is starting, or there is nothing yet
        return None


def test_the_tables_are_those_of_the_code() -> None:
    text = PAGE.read_text()
    assert "within 5 seconds" in text
    assert "for ten seconds unless `timeout=`" in text

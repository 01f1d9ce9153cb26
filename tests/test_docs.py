"""The README does what it says: every block of it is run, in order, in an empty directory.

A comment before a block tells what it is: ``<!-- file: NAME -->`` is written to a file, ``<!-- kafka -->``
needs a broker. Everything else is run by its language.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]*) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    note: str
    language: str
    text: str


def blocks(document: Path) -> Iterator[Block]:
    for found in BLOCK.finditer(document.read_text()):
        yield Block(found["note"] or "", found["language"], found["text"])


def shell(line: str, folder: Path) -> str:
    """Run one line as a person would, with the commands of this environment."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "REFLOW_LOG_LEVEL": "WARNING",
    }
    done = subprocess.run(
        line,
        check=False,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def write_files(document: Path, folder: Path, rename: tuple[str, str] = ("", "")) -> None:
    for block in blocks(document):
        if block.note.startswith("file: "):
            text = block.text.replace(*rename) if rename[0] else block.text
            (folder / block.note.removeprefix("file: ")).write_text(text)


def check_page(page: Path, folder: Path) -> None:
    """The commands of a page print, with ``consume``, the lines of JSON that stand there; in any order."""
    write_files(page, folder)
    commands = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    printed = {line: shell(line, folder) for line in commands}
    consumed = [text for line, text in printed.items() if " consume " in line]
    found = [json.loads(line) for text in consumed for line in text.splitlines()]
    told = [block.text for block in blocks(page) if block.language == "json" and not block.note]
    wanted = [json.loads(line) for text in told for line in text.splitlines()]
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_the_readme_runs_on_the_embedded_log(tmp_path: Path) -> None:
    write_files(ROOT / "README.md", tmp_path)
    printed = ""
    for block in blocks(ROOT / "README.md"):
        if block.language == "sh" and not block.note and "make" not in block.text:
            for line in block.text.splitlines():
                printed += shell(line, tmp_path)
        elif block.language == "python" and not block.note:
            (tmp_path / "block.py").write_text(block.text)
            shell(f"{sys.executable} block.py", tmp_path)
    assert "└─ average" in printed
    assert '"temp_f":71.6' in printed.replace(" ", ""), "the alert came out"


@pytest.mark.kafka
def test_the_readme_runs_on_kafka(tmp_path: Path, kafka_bootstrap: str, unique: str) -> None:
    write_files(ROOT / "README.md", tmp_path, ("weather", unique))
    (tmp_path / f"{unique}.py").write_bytes((tmp_path / "weather.py").read_bytes())
    printed = ""
    for block in blocks(ROOT / "README.md"):
        if block.note == "kafka":
            for line in block.text.replace("weather", unique).splitlines():
                printed += shell(line.replace("localhost:9092", kafka_bootstrap), tmp_path)
    assert printed.replace(" ", "").count('"temp_f":71.6') == 1


def test_the_two_commands_exist() -> None:
    commands = [b.text.split("\n") for b in blocks(ROOT / "README.md") if "make demo" in b.text]
    assert commands == [["make demo", "make test", ""]]
    for target in ("demo", "test"):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True, timeout=20)


def test_the_demo_runs() -> None:
    printed = shell(f"{sys.executable} examples/weather.py", ROOT)
    assert "seattle: average of the last 24 hours 40.26 °F" in printed
    assert "san-francisco: average of the last 24 hours 49.12 °F" in printed
    assert "17,518 events" in printed


DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", document.read_text()):
        there = document.parent / target if target else document
        assert there.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{document.name} links to {target}#{anchor}"


def anchors(document: Path) -> set[str]:
    """What can be linked to: headings as they are written in addresses, and names given by hand."""
    text = document.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    written = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return written | set(re.findall(r'id="([^"]+)"', text))


@pytest.mark.parametrize("name", ["architecture", "benchmarks", "connectors", "reliability"])
def test_files_that_are_named_exist(name: str) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text()
    named = re.findall(r"`((?:\w+/)+(?:[\w*]+\.py)?)`", page)
    missing = [path for path in named if not any(place.glob(path) for place in (ROOT, ROOT / "reflow_kafka"))]
    assert named
    assert missing == []


def test_the_index_of_the_readme_names_every_page() -> None:
    index = (ROOT / "README.md").read_text().partition("## Documentation\n")[2].partition("\n## ")[0]
    pages = {page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").glob("*.md")}
    assert set(re.findall(r"\]\((docs/\w+\.md)\)", index)) == pages

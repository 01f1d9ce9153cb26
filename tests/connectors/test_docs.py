"""Every block of docs/connectors.md runs, and the connector that it shows keeps the contract."""

from __future__ import annotations

import importlib
import json
import re
import sqlite3
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from reflow_connectors import registry

from .contract import check_exactly_once, check_sink, check_source

PAGE = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The connector of the page, installed as a package that registers it."""
    for _, title, code in BLOCKS:
        if title:
            (tmp_path / title).write_text(code)
    (registered,) = [tomllib.loads(code) for language, _, code in BLOCKS if language == "toml"]
    info = tmp_path / "acme_sqlite-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-sqlite\nVersion: 1.0\n")
    groups = registered["project"]["entry-points"]
    text = [
        f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in points.items())
        for group, points in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield importlib.import_module("acme_sqlite")
    sys.modules.pop("acme_sqlite", None)


@pytest.mark.parametrize(
    "code", [code for language, title, code in BLOCKS if language == "python" and not title]
)
def test_blocks_run(acme: ModuleType, code: str) -> None:
    exec(compile(code, "docs/connectors.md", "exec"), {"__name__": "docs"})


async def test_the_source_keeps_the_contract(acme: ModuleType, tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "in.db")
    db.execute("CREATE TABLE orders (item TEXT)")
    db.executemany("INSERT INTO orders VALUES (?)", [(f"item {n}",) for n in range(10)])
    db.execute("DELETE FROM orders WHERE rowid = 4")
    db.commit()
    db.close()
    expected = [{"rowid": n + 1, "item": f"item {n}"} for n in range(10) if n != 3]
    source = registry.find_source("sqlite")(tmp_path / "in.db", "orders")
    for step in (1, 3, 100):
        await check_source(source, expected, step=step)


async def test_the_sink_keeps_the_contract(acme: ModuleType, tmp_path: Path) -> None:
    sink = registry.find_sink("sqlite")

    def reader(path: Path) -> Any:
        async def read() -> list[Any]:
            db = sqlite3.connect(path)
            found = [json.loads(value) for (value,) in db.execute("SELECT value FROM copies ORDER BY rowid")]
            db.close()
            return found

        return read

    await check_sink(sink(tmp_path / "a.db", "copies"), reader(tmp_path / "a.db"))
    await check_exactly_once(sink(tmp_path / "b.db", "copies"), reader(tmp_path / "b.db"))

"""Global tables: complete before work starts, the same in all lanes, and up to date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from reflow_kafka import Flow, Table
from reflow_kafka.definition.spec import GlobalTableSpec
from reflow_kafka.engine import tables
from reflow_kafka.engine.engine import Engine
from reflow_kafka.engine.tables import GlobalTable, global_table
from reflow_kafka.errors import LogError, OffsetOutOfRange, UsageError
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local import LocalRecord
from reflow_kafka.log.local.reader import LocalReader
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import new_log, put, records, run
from tests.support.waiting import until


@dataclass
class Country:
    name: str


def shop() -> Flow:
    flow = Flow("shop", partitions=2)
    flow.source("orders", topic="orders")
    flow.global_table("countries", topic="countries", type=Country)

    @flow.stage(after="orders")
    def named(order: dict[str, Any], *, countries: Table[Country]) -> list[Any]:
        found = countries.get(order["country"])
        return [order["n"], found and found.name]

    flow.sink("out", after=named, topic="out")
    return flow


async def out(log: MemoryLog) -> list[bytes]:
    return sorted(record.value or b"" for record in await records(log, "out"))


async def test_it_is_complete_before_work_starts() -> None:
    log = await new_log("orders")
    await put(log, "orders", *[(n, {"n": n, "country": c}) for n, c in enumerate(["de", "fr", "xx"])])
    flow = shop()
    await run(log, flow)  # makes the topic, which is empty
    assert await out(log) == [b"[0,null]", b"[1,null]", b"[2,null]"]
    await put(
        log, "countries", ("de", {"name": "Germany"}), ("fr", {"name": "France"}), ("xx", {"name": "?"})
    )
    await put(log, "countries", ("de", {"name": "Deutschland"}), ("xx", None))
    await put(log, "orders", *[(n, {"n": n, "country": c}) for n, c in enumerate(["de", "fr", "xx"])])
    await run(log, flow)
    assert await out(log) == [
        b'[0,"Deutschland"]',
        b"[0,null]",
        b'[1,"France"]',
        b"[1,null]",
        b"[2,null]",
        b"[2,null]",
    ]


async def test_it_follows_its_topic() -> None:
    log = await new_log("orders", "countries")
    async with Engine(shop(), log=log, state=MemoryBackend()):
        await put(log, "countries", ("de", {"name": "Germany"}))
        async with asyncio.timeout(20):
            while b'[1,"Germany"]' not in await out(log):
                await put(log, "orders", ("a", {"n": 1, "country": "de"}))
                await asyncio.sleep(0.01)


async def test_a_fake_takes_its_place() -> None:
    log = await new_log("orders")
    await put(log, "orders", ("a", {"n": 1, "country": "de"}))
    await run(log, shop(), resources={"countries": {"de": Country("fake")}})
    assert await out(log) == [b'[1,"fake"]']


class Faults:
    """Makes the next fetches fail."""

    def __init__(self) -> None:
        self.next: list[Exception] = []

    def __call__(self, point: str, flow: str, lane: int) -> None:
        if point == "fetch" and self.next:
            raise self.next.pop()


@pytest.fixture
async def faulty() -> AsyncIterator[tuple[MemoryLog, Faults]]:
    faults = Faults()
    log = await new_log("countries", faults=faults)
    yield log, faults
    await log.stop()


async def test_it_goes_on_after_the_log_was_away(
    faulty: tuple[MemoryLog, Faults], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tables, "FIRST_PAUSE", 0.001)
    log, faults = faulty
    await put(log, "countries", ("de", 0), ("fr", 1))
    async with global_table("countries", GlobalTableSpec("countries"), log) as table:
        faults.next = [LogError("away"), LogError("away")]
        await put(log, "countries", ("de", 1))
        await until(lambda: table.get("de") == 1, "the row has come")
        assert table.get("fr") == 1
    assert caplog.text.count("stays as it is for now: away") == 2


async def test_it_is_read_anew_if_its_topic_was_cut(
    faulty: tuple[MemoryLog, Faults], caplog: pytest.LogCaptureFixture
) -> None:
    log, faults = faulty
    await put(log, "countries", ("de", 0), ("fr", 1))
    async with global_table("countries", GlobalTableSpec("countries"), log) as table:
        ends = await log.end_offsets([TopicPartition("countries", p) for p in range(2)])
        await log.trim(ends)
        faults.next = [OffsetOutOfRange(ends)]
        await put(log, "countries", ("fr", 2))
        await until(lambda: (table.get("de"), table.get("fr")) == (None, 2), "only what is left is there")
    assert "read anew: its topic was cut" in caplog.text


async def nothing(*_: Any, **__: Any) -> dict[Any, Any]:
    return {}


async def test_loading_that_does_not_get_on_ends(
    faulty: tuple[MemoryLog, Faults], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "STALL", 0.0)
    log, _ = faulty
    await put(log, "countries", ("de", 0))
    monkeypatch.setattr(LocalReader, "fetch", nothing)
    with pytest.raises(
        LogError, match=r"table 'countries': nothing arrived for 0 s from countries\[\d\], read"
    ):
        async with global_table("countries", GlobalTableSpec("countries"), log):
            pass


def row(value: Any, key: bytes | None = None, offset: int = 0) -> LocalRecord:
    return LocalRecord(offset, 0, key, None if value is None else orjson.dumps(value), [])


def test_rows_by_a_field() -> None:
    table = GlobalTable("countries", GlobalTableSpec("countries", key="code"))
    for record in [row({"code": 1, "n": 1}), row({"code": 2, "n": 2}), row({"code": 1, "n": 3})]:
        table.take(record)
    assert [table.get(code) for code in (1, 2, 3)] == [{"code": 1, "n": 3}, {"code": 2, "n": 2}, None]


def test_a_row_by_a_field_goes_with_its_record(caplog: pytest.LogCaptureFixture) -> None:
    table = GlobalTable("countries", GlobalTableSpec("countries", key=lambda row: row["code"]))
    table.take(row({"code": "a"}, b"k"))
    table.take(row({"code": "b"}, b"k"))
    assert (table.get("a"), table.get("b")) == (None, {"code": "b"})
    table.take(row(None, b"k"))
    table.take(row(None, b"unknown"))
    table.take(row({"none": 1}, b"k", offset=7))
    assert len(table) == 0
    assert "no key in the row at offset 7" in caplog.text


def test_a_row_without_key_is_left_out() -> None:
    table = GlobalTable("countries", GlobalTableSpec("countries"))
    table.take(row(1))
    assert len(table) == 0
    assert table.get(None) is None


def test_the_handle_has_no_rows() -> None:
    handle = Flow("shop").global_table("countries", topic="countries")
    with pytest.raises(UsageError, match="a handler gets it that has a parameter countries"):
        handle.get("de")
    assert repr(handle) == "<table countries of flow 'shop'>"

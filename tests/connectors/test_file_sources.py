"""CSV and JSON-lines sources: order, exact resumption, odd files, files that change."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflow_connectors.events import BadRecord
from reflow_connectors.files import CsvSource, JsonLinesSource
from reflow_connectors.files import stream as stream_module
from reflow_kafka.connector import Reader, Source
from reflow_kafka.errors import DataLoss, ReflowError, UsageError

from .contract import check_source, context, reading, values

ROWS = [{"n": n, "text": "ü" * (n % 5), "nested": {"a": [1, None]}} for n in range(12)]


def json_lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


async def rest(reader: Reader, found: list[Any]) -> None:
    while events := await reader.read(1):
        found += [event.value for event in events]


def csv_text(rows: list[dict[str, str]], terminator: str = "\n") -> bytes:
    out = io.StringIO()
    # Everything quoted: with "\n" as terminator, this writer would leave a lone carriage return unquoted.
    writer = csv.DictWriter(out, list(rows[0]), lineterminator=terminator, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


@pytest.fixture(params=[1, 50, 1 << 20])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Pieces so small that every record is cut somewhere."""
    monkeypatch.setattr(stream_module, "CHUNK", request.param)
    return request.param


# ---- JSON lines


@pytest.mark.parametrize("step", [1, 4, 1000])
async def test_json_lines(tmp_path: Path, chunk: int, step: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(ROWS))
    await check_source(JsonLinesSource(path), ROWS, step=step)


async def test_last_line_without_newline_counts(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(ROWS).rstrip(b"\n"))
    await check_source(JsonLinesSource(path), ROWS)
    async with reading(JsonLinesSource(path)) as reader:
        while await reader.read(100) is not None:
            pass
        assert reader.position() == {"offset": path.stat().st_size}


async def test_gzip_positions_count_decompressed_bytes(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json_lines(ROWS[:10])) + gzip.compress(json_lines(ROWS[10:])))
    await check_source(JsonLinesSource(path), ROWS, step=3)


async def test_blank_lines_carriage_returns_and_a_byte_order_mark(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"n": 1}\r\n\r\n   \n{"n": 2}\n\n')
    await check_source(JsonLinesSource(path), [{"n": 1}, {"n": 2}])


async def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "a.csv").touch()
    await check_source(JsonLinesSource(tmp_path / "a.jsonl"), [])
    await check_source(CsvSource(tmp_path / "a.csv"), [])


async def test_key_and_timestamp(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        json_lines(
            [
                {"id": 7, "at": "2010-01-01T00:00:00Z"},
                {"id": "x", "at": "2010-01-01T00:00:00"},
                {"id": [1], "at": 5},
            ]
        )
    )
    async with reading(JsonLinesSource(path, key="id", timestamp="at")) as reader:
        events = await reader.read(10)
    assert events is not None
    assert [e.key for e in events] == ["7", "x", "[1]"]
    assert [e.timestamp for e in events] == [1262304000000, 1262304000000, 5]
    source = JsonLinesSource(path, key=lambda v: f"k{v['id']}", timestamp=lambda v: 1000)
    async with reading(source) as reader:
        events = await reader.read(2)
    assert events is not None
    assert [(e.key, e.timestamp) for e in events] == [("k7", 1000), ("kx", 1000)]


# ---- lines that cannot be read


async def test_bad_lines_are_skipped_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\nnonsense\n{"n": 2}\n\xff\xfe\n{"n": 3}\n')
    with caplog.at_level(logging.WARNING):
        await check_source(JsonLinesSource(path), [{"n": 1}, {"n": 2}, {"n": 3}], step=10)
    assert "offset 9 " in caplog.text
    assert "nonsense" not in caplog.text, "what is in the data does not belong into the log"


async def test_bad_lines_can_stop(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\nnonsense\n')
    with pytest.raises(ReflowError, match=r"a\.jsonl: the record at offset 9 cannot be read"):
        await values(JsonLinesSource(path, on_bad="stop"))


async def test_bad_lines_can_be_delivered(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\nnonsense\n{"m": 2}\n')

    def instead(record: BadRecord) -> Any:
        return {"raw": record.raw.decode(), "offset": record.offset}

    expected = [{"n": 1}, {"raw": "nonsense", "offset": 9}, {"raw": '{"m": 2}', "offset": 18}]
    await check_source(JsonLinesSource(path, key="n", on_bad=instead), expected)


# ---- CSV

TABLE = [
    {"a": "1", "b": 'say "hi"', "c": "x,y"},
    {"a": "2", "b": "two\nlines", "c": ""},
    {"a": "3", "b": "windows\r\nlines", "c": "\n\n"},
    {"a": "4", "b": "ü€", "c": "plain"},
    {"a": "5", "b": 'ends with "', "c": '"'},
]


@pytest.mark.parametrize("terminator", ["\n", "\r\n"])
async def test_csv(tmp_path: Path, chunk: int, terminator: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(csv_text(TABLE, terminator))
    await check_source(CsvSource(path), TABLE)
    path.write_bytes(b"\xef\xbb\xbf" + csv_text(TABLE, terminator))
    await check_source(CsvSource(path), TABLE)


async def test_csv_options(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("1;'a;b';ü\n\n2;c;d".encode("latin-1"))
    source = CsvSource(
        path,
        fields=["n", "x", "y"],
        types={"n": int},
        delimiter=";",
        quotechar="'",
        encoding="latin-1",
        key="n",
    )
    await check_source(source, [{"n": 1, "x": "a;b", "y": "ü"}, {"n": 2, "x": "c", "y": "d"}])


async def test_csv_bad_records_do_not_hide_good_ones(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'n,t\n1,a\n2\n3,b,c\nx,d\n4,\xff\n5,mid\rdle\n6,"quote"d\n7,"never closed\n8,e\n9,f')
    expected = [
        {"n": 1, "t": "a"},
        {"n": 6, "t": "quoted"},
        {"n": 8, "t": "e"},
        {"n": 9, "t": "f"},
    ]
    await check_source(CsvSource(path, types={"n": int}), expected)


async def test_csv_a_field_beyond_the_parsers_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'n,t\n1,"open\n' + b"2,b\n" * 100_000)
    found = await values(CsvSource(path))
    assert found == [{"n": "2", "t": "b"}] * 100_000


async def test_csv_header_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,a\n1,2\n")
    with pytest.raises(UsageError, match="each once"):
        await values(CsvSource(path))
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"types= names \['c'\]"):
        await values(CsvSource(path, types={"c": int}))
    with pytest.raises(UsageError, match="utf-16"):
        CsvSource(path, encoding="utf-16")


cells = st.text(alphabet='ab,"\n\r ü', max_size=6)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.tuples(cells, cells), min_size=1, max_size=12),
    size=st.integers(3, 40),
    step=st.integers(1, 5),
)
def test_csv_resumes_anywhere(tmp_path: Path, table: list[tuple[str, str]], size: int, step: int) -> None:
    rows = [{"a": a or "-", "b": b} for a, b in table]
    path = tmp_path / "a.csv"
    path.write_bytes(csv_text(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "CHUNK", size)
        asyncio.run(check_source(CsvSource(path), rows, step=step))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=5) | st.none()), max_size=15),
    size=st.integers(3, 40),
    step=st.integers(1, 5),
    zipped=st.booleans(),
)
def test_json_lines_resume_anywhere(
    tmp_path: Path, rows: list[dict[str, Any]], size: int, step: int, zipped: bool
) -> None:
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    path = tmp_path / ("a.jsonl.gz" if zipped else "a.jsonl")
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "CHUNK", size)
        asyncio.run(check_source(JsonLinesSource(path), rows, step=step))


# ---- directories and patterns


async def test_a_directory_is_split_into_its_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.jsonl.gz", ".hidden", "_tmp"):
        data = json_lines([{"file": name}])
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    (tmp_path / "sub").mkdir()
    source = JsonLinesSource(tmp_path)
    assert await source.parts() == ["a.jsonl", "b.jsonl", "c.jsonl.gz"]
    for part in await source.parts():
        await check_source(source, [{"file": part}], part)


async def test_a_pattern(tmp_path: Path) -> None:
    for name in ("x/2.jsonl", "x/1.jsonl", "y/3.jsonl", "y/3.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(json_lines([{"file": name}]))
    source = JsonLinesSource(f"{tmp_path}/**/*.jsonl")
    parts = await source.parts()
    assert parts == [f"{tmp_path}/{name}" for name in ("x/1.jsonl", "x/2.jsonl", "y/3.jsonl")]
    await check_source(source, [{"file": "y/3.jsonl"}], parts[2])


async def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file or directory"):
        await JsonLinesSource(tmp_path / "none").parts()
    with pytest.raises(UsageError, match="there is no file"):
        await JsonLinesSource(tmp_path / "none").open("", None, context())
    assert await JsonLinesSource(tmp_path).parts() == []


# ---- files that change


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv"])
async def test_a_file_that_shrank_or_vanished(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    source: Source = CsvSource(path) if name.endswith("csv") else JsonLinesSource(path)
    data = csv_text(TABLE) if name.endswith("csv") else json_lines(ROWS)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(DataLoss, match="it shrank or was replaced"):
        await source.open("", {"offset": len(data) + 1}, context())
    path.unlink()
    with pytest.raises(DataLoss, match="vanished"):
        await source.open("", {"offset": 5}, context())


async def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "CHUNK", 100)
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(ROWS))
    async with reading(JsonLinesSource(path)) as reader:
        assert await reader.read(1)
        path.write_bytes(b"")
        with pytest.raises(DataLoss, match="shrank"):
            await rest(reader, [])


async def test_a_broken_gzip_file_delivers_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json_lines(ROWS))[:-12])
    found: list[Any] = []
    async with reading(JsonLinesSource(path)) as reader:
        with pytest.raises(ReflowError, match="no complete gzip file"):
            await rest(reader, found)
    assert found
    assert found == ROWS[: len(found)]


async def test_follow(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n"')
    async with reading(JsonLinesSource(path, follow=True)) as reader:
        assert [e.value for e in await reader.read(10) or ()] == [{"n": 1}]
        assert await reader.read(10) == [], "half a line was taken for a whole one"
        with path.open("ab") as file:
            file.write(b': 2}\n{"n": 3}\n')
        assert [e.value for e in await reader.read(10) or ()] == [{"n": 2}, {"n": 3}]
        assert reader.position() == {"offset": path.stat().st_size}
        path.rename(tmp_path / "old")
        with pytest.raises(DataLoss, match="vanished"):
            await reader.read(10)
        path.touch()
        with pytest.raises(DataLoss, match="replaced"):
            await reader.read(10)


async def test_follow_csv_from_before_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfn,")
    source = CsvSource(path, follow=True)
    async with reading(source) as reader:
        assert await reader.read(10) == []
        early = reader.position()
        with path.open("ab") as file:
            file.write(b'text\n1,"a\n')
        assert await reader.read(10) == []
        with path.open("ab") as file:
            file.write(b'b"\n')
        assert [e.value for e in await reader.read(10) or ()] == [{"n": "1", "text": "a\nb"}]
    async with reading(source, position=early) as reader:
        assert [e.value for e in await reader.read(10) or ()] == [{"n": "1", "text": "a\nb"}]


async def test_follow_refuses_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(UsageError, match="gzip"):
        await JsonLinesSource(path, follow=True).open("", None, context())


async def test_closing_waits_for_a_read_that_was_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(ROWS))
    reader = await JsonLinesSource(path).open("", None, context())
    read = asyncio.ensure_future(reader.read(1))
    await asyncio.sleep(0)
    read.cancel()
    await reader.close()
    with pytest.raises(asyncio.CancelledError):
        await read


def test_repr() -> None:
    assert repr(CsvSource("a.csv", key="k")) == "CsvSource('a.csv', key='k')"
    assert repr(JsonLinesSource("a")) == "JsonLinesSource('a')"

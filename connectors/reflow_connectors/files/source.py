"""Files as sources: CSV and JSON lines, resumed at the exact byte."""

from __future__ import annotations

import asyncio
import glob
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reflow_connectors.events import BadRecords, KeyOf, OnBad, event_maker
from reflow_connectors.files.reader import CsvReader, FileReader, JsonLinesReader
from reflow_connectors.files.stream import ByteStream
from reflow_kafka.connector import ConnectorContext
from reflow_kafka.errors import UsageError
from reflow_kafka.secrets import describe, resolve


class _FileSource:
    """What the file sources share: which files there are, and how they are opened."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: KeyOf | None,
        timestamp: KeyOf | None,
        follow: bool,
        on_bad: OnBad,
    ) -> None:
        if not (callable(on_bad) or on_bad in ("skip", "stop")):
            raise UsageError(f'found on_bad={on_bad!r}, wanted "skip", "stop" or a function')
        self._path = os.fspath(path)
        self._key = key
        self._timestamp = timestamp
        self._follow = follow
        self._on_bad: OnBad = on_bad

    def __repr__(self) -> str:
        return describe(
            self, self._path, key=self._key, timestamp=self._timestamp, follow=self._follow or None
        )

    async def parts(self) -> Sequence[str]:
        """``[""]`` for a file; for a directory its files, for a pattern what matches, by name."""
        return await asyncio.to_thread(_parts, resolve(self._path))

    async def open(self, part: str, position: Any | None, ctx: ConnectorContext) -> FileReader:
        """Read one file from its beginning, or just after `position`."""
        path = _file(resolve(self._path), part)
        if self._follow and path.suffix == ".gz":
            raise UsageError(f"{path}: follow=True does not work with gzip: such a file is written once")
        offset = 0 if position is None else int(position["offset"])
        stream = await asyncio.to_thread(ByteStream, path, resumed=offset > 0)
        common = {
            "make": event_maker(self._key, self._timestamp),
            "bad": BadRecords(str(path), self._on_bad, ctx.log),
            "follow": self._follow,
        }
        try:
            return await self._reader(stream, str(path), offset, common)
        except BaseException:
            stream.close()
            raise

    async def _reader(self, stream: ByteStream, name: str, at: int, common: dict[str, Any]) -> FileReader:
        raise NotImplementedError


class JsonLinesSource(_FileSource):
    """Reads files of one JSON value per line.

    Args:
        path: A file, a directory (every file in it is read, except those that begin with ``.`` or ``_``) or a
            pattern such as ``logs/**/*.jsonl``. Files that end in ``.gz`` are decompressed. Files are spread
            over the lanes; each is read in order.
        key: The events' key: a field's name, or a function of the value. None: they have none, and the
            source stage may give them one.
        timestamp: The events' time: a field's name, or a function of the value, that gives ISO 8601, or
            milliseconds or seconds since 1970. None: the time at which they are read.
        follow: Go on at the end of a file and read what is appended (`tail -f`), instead of ending.
        on_bad: What happens to a line that is not JSON, or has no such key or timestamp: ``"skip"`` logs and
            counts it, ``"stop"`` stops the flow, a function gets the `BadRecord` and returns the value to
            deliver instead (None: nothing).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: KeyOf | None = None,
        timestamp: KeyOf | None = None,
        follow: bool = False,
        on_bad: OnBad = "skip",
    ) -> None:
        super().__init__(path, key=key, timestamp=timestamp, follow=follow, on_bad=on_bad)

    async def _reader(self, stream: ByteStream, name: str, at: int, common: dict[str, Any]) -> FileReader:
        if at:
            await asyncio.to_thread(stream.seek, at)
        return JsonLinesReader(stream, name, at=at, **common)


class CsvSource(_FileSource):
    """Reads CSV files; every record becomes a dict of its fields by name.

    Args:
        path: As for `JsonLinesSource`.
        types: Functions that convert fields, which otherwise are text: ``{"temp_f": float}``.
        fields: Names of the fields, for files without a header.
        key: As for `JsonLinesSource`.
        timestamp: As for `JsonLinesSource`.
        delimiter: What separates fields.
        quotechar: What encloses fields that contain the delimiter or newlines; doubled within.
        encoding: Any that contains ASCII, such as ``utf-8``, ``latin-1``, ``cp1252``.
        follow: As for `JsonLinesSource`.
        on_bad: As for `JsonLinesSource`; bad is also a record with too many or too few fields.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        types: Mapping[str, Callable[[str], Any]] | None = None,
        fields: Sequence[str] | None = None,
        key: KeyOf | None = None,
        timestamp: KeyOf | None = None,
        delimiter: str = ",",
        quotechar: str = '"',
        encoding: str = "utf-8",
        follow: bool = False,
        on_bad: OnBad = "skip",
    ) -> None:
        super().__init__(path, key=key, timestamp=timestamp, follow=follow, on_bad=on_bad)
        try:
            fits = "\n,".encode(encoding) == b"\n,"
        except LookupError:
            raise UsageError(f"there is no encoding {encoding!r}") from None
        if not fits:
            raise UsageError(f"encoding {encoding!r} does not contain ASCII: convert the file to UTF-8")
        self._types = dict(types or {})
        self._fields = None if fields is None else list(fields)
        self._encoding = encoding
        self._dialect = {"delimiter": delimiter, "quotechar": quotechar}

    async def _reader(self, stream: ByteStream, name: str, at: int, common: dict[str, Any]) -> FileReader:
        headless = self._fields is not None
        if at and headless:
            await asyncio.to_thread(stream.seek, at)
        reader = CsvReader(
            stream,
            name,
            fields=self._fields,
            types=self._types,
            encoding=self._encoding,
            dialect=self._dialect,
            at=at if headless else 0,
            **common,
        )
        if at and not headless:
            await reader.resume(at)
        return reader


def _parts(path: str) -> list[str]:
    if os.path.isfile(path):
        return [""]
    if os.path.isdir(path):
        with os.scandir(path) as entries:
            return sorted(e.name for e in entries if e.is_file() and not e.name.startswith((".", "_")))
    if glob.has_magic(path):
        return sorted(found for found in glob.glob(path, recursive=True) if os.path.isfile(found))
    raise UsageError(f"there is no file or directory {path}")


def _file(path: str, part: str) -> Path:
    if not part:
        return Path(path)
    return Path(path, part) if os.path.isdir(path) else Path(part)

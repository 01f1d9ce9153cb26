"""Files as sinks: JSON lines and CSV, one file per lane, each event in it exactly once."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from reflow_connectors.files.partfile import PartFile
from reflow_kafka.connector import ConnectorContext
from reflow_kafka.errors import Reject, UsageError
from reflow_kafka.event import Event
from reflow_kafka.secrets import describe, resolve
from reflow_kafka.serde.json import EncodeError, dumps, to_plain


class _FileSink:
    """What the file sinks share: where a lane's file is."""

    _suffix = ""

    def __init__(self, path: str | os.PathLike[str], *, gzip: bool, fsync: bool) -> None:
        self._path = os.fspath(path)
        self._gzip = gzip
        self._fsync = fsync

    def __repr__(self) -> str:
        return describe(self, self._path, gzip=self._gzip or None)

    async def _open(self, ctx: ConnectorContext) -> PartFile:
        return await asyncio.to_thread(PartFile, self.file(ctx), fsync=self._fsync)

    def file(self, ctx: ConnectorContext) -> Path:
        """The file into which the lane of `ctx` writes."""
        path = resolve(self._path)
        zipped = ".gz" if self._gzip else ""
        place = Path(path)
        if path.endswith(os.sep) or place.is_dir() or not place.suffix:
            return place / f"part-{ctx.stage}-{ctx.lane}{self._suffix}{zipped}"
        if zipped and place.suffix == zipped:
            place = place.with_suffix("")
        if "{lane}" in place.name:
            return place.with_name(place.name.replace("{lane}", str(ctx.lane)) + zipped)
        return place.with_name(f"{place.stem}-{ctx.lane}{place.suffix}{zipped}")


class JsonLinesSink(_FileSink):
    """Writes the events' values as JSON, one a line.

    Args:
        path: A directory, in which each lane writes ``part-<stage>-<lane>.jsonl``; or a file name, to which
            each lane adds its number: ``out.jsonl`` becomes ``out-0.jsonl``, ``out-1.jsonl`` …; put
            ``{lane}`` where the number belongs to place it yourself.
        gzip: Compress; each flush appends a member, so that the file is always a whole one.
        fsync: Wait for the disk at each flush. Without, a crash of the machine (not of the process) may lose
            what was already acknowledged.

    Beside each file stands ``.<name>.position``, which says how much of it is valid and where the flow stood:
    data and position change together, so that nothing is missing or doubled whatever is killed. Delete both
    or none.
    """

    _suffix = ".jsonl"

    def __init__(self, path: str | os.PathLike[str], *, gzip: bool = False, fsync: bool = True) -> None:
        super().__init__(path, gzip=gzip, fsync=fsync)

    async def open(self, ctx: ConnectorContext) -> FileWriter:
        """A writer for one lane."""
        return _JsonLinesWriter(await self._open(ctx), zipped=self._gzip)


class CsvSink(_FileSink):
    """Writes the events' values, which are dicts or objects with fields, as CSV with a header.

    Args:
        path: As for `JsonLinesSink`, with the suffix ``.csv``.
        fields: The columns, in order; other fields of a value are left out, missing ones are empty. None: the
            fields of the first event, and an event with others is refused.
        delimiter: What separates fields.
        gzip: As for `JsonLinesSink`.
        fsync: As for `JsonLinesSink`.
    """

    _suffix = ".csv"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fields: Sequence[str] | None = None,
        delimiter: str = ",",
        gzip: bool = False,
        fsync: bool = True,
    ) -> None:
        super().__init__(path, gzip=gzip, fsync=fsync)
        self._fields = None if fields is None else list(fields)
        self._delimiter = delimiter

    async def open(self, ctx: ConnectorContext) -> FileWriter:
        """A writer for one lane."""
        part = await self._open(ctx)
        written = part.extra.get("fields")
        if written and self._fields and written != self._fields:
            part.close()
            raise UsageError(
                f"{part.path} has the columns {written}, but fields= says {self._fields}: use a new file"
            )
        return _CsvWriter(
            part, zipped=self._gzip, fields=self._fields, header=written, delimiter=self._delimiter
        )


class FileWriter(ABC):
    """Collects one lane's events and stores them together with a position: exactly once."""

    def __init__(self, part: PartFile, *, zipped: bool) -> None:
        self._part = part
        self._zipped = zipped
        self._pieces: list[bytes] = []

    @abstractmethod
    def _encode(self, events: Sequence[Event[Any]]) -> bytes:
        """The events as they stand in the file; raises before anything is taken."""

    async def position(self) -> Any:
        """The position stored with the data, None if there is none."""
        return self._part.position

    async def write(self, events: Sequence[Event[Any]]) -> None:
        """Take these events, all or none.

        Raises:
            Reject: one of them cannot be written in this format.
        """
        self._pieces.append(self._encode(events))

    async def flush(self, position: Any = None) -> None:
        """Store what was written and `position`, together; without a position the stored one stays.

        Raises:
            LaneLost: another writer has stored something since this one was opened.
        """
        await asyncio.to_thread(self._store, position)
        self._pieces.clear()

    async def close(self) -> None:
        """Close the file; what was not flushed is dropped."""
        await asyncio.to_thread(self._part.close)

    def _store(self, position: Any) -> None:
        data = b"".join(self._pieces)
        if data and self._zipped:
            data = gzip.compress(data, compresslevel=6)
        self._part.store(data, self._part.position if position is None else position, self._extra())

    def _extra(self) -> dict[str, Any]:
        return {}


class _JsonLinesWriter(FileWriter):
    def _encode(self, events: Sequence[Event[Any]]) -> bytes:
        try:
            lines = [dumps(event.value) for event in events]
        except EncodeError as error:
            raise Reject(str(error)) from error
        lines.append(b"")
        return b"\n".join(lines)


class _CsvWriter(FileWriter):
    def __init__(
        self,
        part: PartFile,
        *,
        zipped: bool,
        fields: list[str] | None,
        header: list[str] | None,
        delimiter: str,
    ) -> None:
        super().__init__(part, zipped=zipped)
        self._given = fields is not None
        self._fields = fields or header
        self._begun = header is not None
        self._delimiter = delimiter

    def _extra(self) -> dict[str, Any]:
        return {"fields": self._fields} if self._begun else {}

    def _encode(self, events: Sequence[Event[Any]]) -> bytes:
        if not events:
            return b""
        values = [_mapping(event.value) for event in events]
        fields = self._fields or list(values[0])
        if not self._given:
            known = set(fields)
            for value in values:
                if more := [name for name in value if name not in known]:
                    raise Reject(
                        f"found the fields {more}, but the columns are {fields}: name them with fields="
                    )
        rows = [[_cell(value.get(name)) for name in fields] for value in values]
        text = self._text(rows if self._begun else [fields, *rows], csv.QUOTE_MINIMAL)
        if (
            "\r" in text
        ):  # which the writer leaves unquoted, although every reader takes it for an end of line
            text = self._text(rows if self._begun else [fields, *rows], csv.QUOTE_ALL)
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise Reject(f"found text that is not Unicode: {error}") from error
        self._fields, self._begun = fields, True
        return data

    def _text(self, rows: list[list[Any]], quoting: Literal[0, 1]) -> str:
        text = io.StringIO()
        out = csv.writer(text, delimiter=self._delimiter, lineterminator="\n", quoting=quoting)
        out.writerows(rows)
        return text.getvalue()


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    try:
        plain = msgspec.to_builtins(value, enc_hook=to_plain)
    except Exception as error:
        raise Reject(f"found {type(value).__qualname__}, which has no fields: {error}") from error
    if not isinstance(plain, dict):
        raise Reject(f"found {type(value).__qualname__}, wanted a dict or an object with fields")
    return plain


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    try:
        text = dumps(value).decode()
    except EncodeError as error:
        raise Reject(str(error)) from error
    return text[1:-1] if text.startswith('"') else text  # datetimes, UUIDs, Decimals: text as it is

"""Reading files record by record: one reader for each format, over what they have in common."""

from __future__ import annotations

import asyncio
import csv
import io
from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

from reflow_connectors.events import BadRecords
from reflow_connectors.files.stream import ByteStream
from reflow_kafka.errors import DataLoss, ReflowError, UsageError
from reflow_kafka.event import Event
from reflow_kafka.serde.json import loads

MAX_RECORD = 16 << 20
_IDLE_WAIT = 0.1

Maker = Callable[[Any], Event[Any]]


class FileReader(ABC):
    """Reads one file in large pieces, and hands out its records as they are asked for.

    Only reading happens in a thread, once per piece; decoding a batch is short and stays in the loop.
    """

    def __init__(
        self, stream: ByteStream, name: str, *, make: Maker, bad: BadRecords, follow: bool, at: int = 0
    ) -> None:
        self._stream = stream
        self._name = name
        self._make = make
        self._bad = bad
        self._follow = follow
        self._at = at  # just after the last record handed out
        self._rest = b""  # read, but no whole record yet; begins at `_at` once all records are handed out
        self._final = False  # the file has ended, and what it held is loaded
        self._ended = False

    @abstractmethod
    def _load(self, data: bytes, *, final: bool) -> None:
        """Take the bytes from `_at` on; unless they are the last, a part of a record may be at their end."""

    @abstractmethod
    def _next(self, max_events: int) -> list[Event[Any]]:
        """The next events of what is loaded; none left: ``[]``, and `_rest` set."""

    @abstractmethod
    def _exhausted(self) -> bool:
        """Whether all records loaded are handed out."""

    async def read(self, max_events: int) -> Sequence[Event[Any]] | None:
        """The next events, ``[]`` if a followed file has no more just now, None at the end of the file."""
        while not self._ended:
            if events := self._next(max_events):
                return events
            if self._exhausted() and not await self._fill():
                return []
        return None

    def position(self) -> Any:
        """Where the next record begins."""
        return {"offset": self._at}

    async def committed(self, position: Any) -> None:  # noqa: B027 - files stay: nothing to acknowledge
        """Nothing to acknowledge: files stay."""

    async def close(self) -> None:
        """Close the file."""
        await asyncio.to_thread(self._stream.close)

    async def _fill(self) -> bool:
        """Load the next piece, or note that there is none; False if a followed file has nothing new."""
        if self._final:
            self._ended = True
            return True
        data = await asyncio.to_thread(self._stream.read)
        if data:
            data = self._rest + data
            if self._at == 0:
                if len(data) < len(BOM_UTF8) and BOM_UTF8.startswith(data):
                    self._rest = data
                    return True
                if data.startswith(BOM_UTF8):
                    self._at, data = len(BOM_UTF8), data[len(BOM_UTF8) :]
            self._load(data, final=False)
            if len(self._rest) > MAX_RECORD:
                raise ReflowError(
                    f"{self._name}: the record at byte {self._at} has no end within {MAX_RECORD} bytes"
                )
        elif self._follow:
            # The writer may be in the middle of a line: only a line with its end counts.
            await asyncio.to_thread(self._stream.check_followed)
            await asyncio.sleep(_IDLE_WAIT)
            return False
        else:
            self._final = True
            self._load(self._rest, final=True)
        return True


class JsonLinesReader(FileReader):
    """One JSON value a line. Blank lines are no records."""

    _lines: Sequence[bytes] = ()
    _taken = 0
    _end = 0

    def _load(self, data: bytes, *, final: bool) -> None:
        cut = len(data) if final else data.rfind(b"\n") + 1
        self._end = self._at + cut
        self._rest = data[cut:]
        self._lines = lines = data[:cut].split(b"\n")
        if not lines[-1]:
            lines.pop()
        self._taken = 0

    def _exhausted(self) -> bool:
        return self._taken >= len(self._lines)

    def _next(self, max_events: int) -> list[Event[Any]]:
        lines = self._lines[self._taken : self._taken + max_events]
        start = self._at
        # The last line of the file may lack the newline that is counted for it.
        end = min(start + sum(map(len, lines)) + len(lines), self._end) if lines else start
        make = self._make
        try:
            events = [make(loads(line)) for line in lines]
        except Exception:  # whatever a key function may raise: find out which line it was
            events = self._one_by_one(lines, start)
        self._taken += len(lines)
        self._at = end
        return events

    def _one_by_one(self, lines: Sequence[bytes], at: int) -> list[Event[Any]]:
        events: list[Event[Any]] = []
        for line in lines:
            if line and not line.isspace():
                try:
                    events.append(self._make(loads(line)))
                except Exception as error:
                    if (value := self._bad.take(at, line, error)) is not None:
                        events.append(Event(value))
            at += len(line) + 1
        return events


class CsvReader(FileReader):
    """Comma-separated values with a header, or with the given names of fields; values become dicts.

    A record may span lines, so where the data loaded so far end inside quotes cannot be known beforehand:
    after the last line the parser is given one empty line more, and the record that took it was incomplete.
    """

    def __init__(
        self,
        stream: ByteStream,
        name: str,
        *,
        fields: Sequence[str] | None,
        types: Mapping[str, Callable[[str], Any]],
        encoding: str,
        dialect: Mapping[str, Any],
        **common: Any,
    ) -> None:
        super().__init__(stream, name, **common)
        self._fields: tuple[str, ...] | None = None
        self._types = types
        self._encoding = encoding
        self._dialect = dialect
        self._data = b""
        self._base = self._at
        self._ends: list[int] = [0]  # bytes up to the end of each line
        self._line = 0  # lines handed out
        self._doubtful = False  # some bytes are no text in this encoding: look at every record
        self._rows: Any = csv.reader(())
        self._over = True
        if fields is not None:
            self._set_fields(list(fields))

    async def resume(self, offset: int) -> None:
        """Read the header, then go on at `offset`."""
        while self._headless() and not self._ended:
            self._next(0)
            if self._headless() and self._exhausted() and not await self._fill():
                break
        if self._headless():
            raise DataLoss(f"{self._name} has no header any more, but was read up to byte {offset}")
        self._at = max(offset, self._at)
        await asyncio.to_thread(self._stream.seek, self._at)
        self._ended = self._final = False
        self._rest = b""
        self._data, self._over = b"", True

    def _load(self, data: bytes, *, final: bool) -> None:
        cut = len(data) if final else data.rfind(b"\n") + 1
        self._data, whole = data, data[:cut]
        self._base = self._at
        self._ends = list(accumulate(map(len, io.BytesIO(whole)), initial=0))
        self._line = 0
        self._over = False
        try:
            text, self._doubtful = whole.decode(self._encoding), False
        except UnicodeDecodeError:
            text, self._doubtful = whole.decode(self._encoding, "surrogateescape"), True
        self._rows = csv.reader(chain(io.StringIO(text, newline="\n"), ("\n",)), **self._dialect)

    def _exhausted(self) -> bool:
        return self._over

    def _next(self, max_events: int) -> list[Event[Any]]:
        events: list[Event[Any]] = []
        if self._over:
            return events
        try:
            for row in self._records():
                if self._fields is None:
                    self._set_fields(row)
                    if max_events:
                        continue
                    break
                event = self._event(row)
                if event is not None:
                    events.append(event)
                    if len(events) >= max_events:
                        break
        except csv.Error as error:
            self._skip_line(events, error)
        else:
            if self._cut_off():
                self._skip_line(events, "a quoted field that begins here has no end")
        return events

    def _records(self) -> Iterator[list[str]]:
        """Complete records; `_line`, `_at` and, at the end of what is loaded, `_over` and `_rest` follow."""
        rows, ends, base = self._rows, self._ends, self._base
        last = len(ends) - 1
        for row in rows:
            line = rows.line_num
            if line > last:
                break
            self._start = self._at
            self._line = line
            self._at = base + ends[line]
            yield row
        self._over = True
        self._rest = self._data[ends[self._line] :]

    def _headless(self) -> bool:
        return self._fields is None

    def _cut_off(self) -> bool:
        """Whether the file has ended within quotes."""
        return self._over and self._final and self._line < len(self._ends) - 1

    def _event(self, row: list[str]) -> Event[Any] | None:
        fields = self._fields
        assert fields is not None
        try:
            if len(row) != len(fields):
                if not row:  # a blank line
                    return None
                raise ValueError(f"found {len(row)} fields, wanted {len(fields)}")
            if self._doubtful:
                "".join(row).encode(self._encoding)
            value: dict[str, Any] = dict(zip(fields, row, strict=False))
            for name, convert in self._types.items():
                value[name] = convert(value[name])
            return self._make(value)
        except Exception as error:
            raw = self._data[self._start - self._base : self._at - self._base]
            instead = self._bad.take(self._start, raw, error)
            return None if instead is None else Event(instead)

    def _skip_line(self, events: list[Event[Any]], error: object) -> None:
        """What begins at `_at` cannot even be delimited: it costs one line, reading goes on at the next."""
        begin, end = self._ends[self._line], self._ends[self._line + 1]
        instead = self._bad.take(self._at, self._data[begin:end], error)
        if instead is not None:
            events.append(Event(instead))
        self._line += 1
        self._at = self._base + end
        if self._rows.line_num > self._line:  # the parser took more lines than that one
            self._load(self._data[end:], final=self._final)

    def _set_fields(self, names: list[str]) -> None:
        if not names or len(set(names)) < len(names):
            raise UsageError(f"{self._name}: found {names} as names of the fields, wanted each once")
        if missing := [name for name in self._types if name not in names]:
            raise UsageError(f"{self._name}: types= names {missing}, but the fields are {names}")
        self._fields = tuple(names)

"""How far one input partition is finished, when events do not finish in the order in which they came (pure).

A commit stores a *mark*: the position below which everything is finished, and the *runs* of offsets above it
that are finished too. So a slow event never holds up a commit, and after a crash nothing that was committed
runs again. Offsets that the log does not have (its own markers, compacted records) count as finished.

The runs travel as text in the metadata of the committed offset, or in the lane record where they do not fit.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from reflow_kafka.log.api import Record

Run = tuple[int, int]
"""Finished offsets from the first to before the second."""

PREFIX: Final = "reflow/1:"
"""Marks metadata as ours, and its version."""
ELSEWHERE: Final = PREFIX + "@"
"""The runs did not fit: they stand in the lane record."""
MAX_METADATA: Final = 4096
"""Bytes of metadata that a broker takes (`offset.metadata.max.bytes`)."""


class Mark(NamedTuple):
    """What is finished: everything below `position`, and the runs above it."""

    position: int
    runs: tuple[Run, ...] = ()


class InFlight:
    """The events of one input partition that are begun and not finished.

    Events are begun in the order of the log; what has been *reached* is either finished or open.
    """

    def __init__(self, mark: Mark) -> None:
        self._reached = mark.position
        self._ahead = deque(mark.runs)
        """Finished already, but not reached yet."""
        self._open: set[int] = set()
        self._order: deque[int] = deque()
        self._absorb()

    def __len__(self) -> int:
        """How many events are open."""
        return len(self._open)

    def fresh(self, records: Sequence[Record]) -> Sequence[Record]:
        """Those of the next records, in order, that have not been finished before."""
        if not self._ahead and (not records or records[0].offset >= self._reached):
            return records
        runs = iter(self._ahead)
        start, end = next(runs, (0, 0))
        good: list[Record] = []
        for record in records:
            while end and record.offset >= end:
                start, end = next(runs, (0, 0))
            if record.offset >= self._reached and not start <= record.offset < end:
                good.append(record)
        return good

    def open(self, offset: int) -> None:
        """An event is begun; everything between the last one and it is finished."""
        if offset < self._reached:
            raise ValueError(f"offset {offset} has been passed, {self._reached} is reached")
        self._open.add(offset)
        self._order.append(offset)
        self.reach(offset + 1)

    def close(self, offset: int) -> None:
        """An open event is finished."""
        self._open.remove(offset)

    def reach(self, offset: int) -> None:
        """Everything below `offset` that is not open is finished."""
        if offset > self._reached:
            self._reached = offset
            self._absorb()

    @property
    def position(self) -> int:
        """Everything below is finished."""
        while self._order and self._order[0] not in self._open:
            self._order.popleft()
        return self._order[0] if self._order else self._reached

    @property
    def reached(self) -> int:
        """Everything below is finished, but for what is open."""
        return self._reached

    def mark(self) -> Mark:
        """What to commit; `InFlight(mark)` goes on from there."""
        position = at = self.position
        runs: list[Run] = []
        for offset in sorted(self._open):
            if at < offset:
                runs.append((at, offset))
            at = offset + 1
        if self._open and at < self._reached:
            runs.append((at, self._reached))
        return Mark(position, (*runs, *self._ahead))

    def _absorb(self) -> None:
        while self._ahead and self._ahead[0][0] <= self._reached:
            self._reached = max(self._reached, self._ahead.popleft()[1])


# ---- as text


def encode(mark: Mark) -> str:
    """The runs of a mark as text; empty if there are none."""
    if not mark.runs:
        return ""
    return PREFIX + base64.urlsafe_b64encode(bytes(_packed(mark))).decode().rstrip("=")


def decode(position: int, text: str) -> Mark:
    """The mark that `encode` made the text from.

    Raises:
        ValueError: it is not text that `encode` makes for this position; the message says why.
    """
    if not text:
        return Mark(position)
    if not text.startswith(PREFIX):
        raise ValueError(f"it does not start with {PREFIX!r}")
    body = text[len(PREFIX) :]
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"no base64: {error}") from None
    mark = Mark(position, tuple(_unpacked(position, data)))
    if encode(mark) != text:
        raise ValueError("not in its shortest form")
    return mark


def _packed(mark: Mark) -> Iterator[int]:
    """Lengths, unfinished and finished in turn, each in groups of seven bits, the lowest first."""
    at = mark.position
    for start, end in mark.runs:
        for length in (start - at, end - start):
            while length >= 0x80:
                yield length & 0x7F | 0x80
                length >>= 7
            yield length
        at = end


def _unpacked(position: int, data: bytes) -> Iterator[Run]:
    lengths = list(_lengths(data))
    if not lengths or len(lengths) % 2:
        raise ValueError("it ends within a run")
    at = position
    for gap, length in zip(lengths[::2], lengths[1::2], strict=True):
        if not gap or not length:
            raise ValueError("a run of no length")
        yield at + gap, at + gap + length
        at += gap + length


def _lengths(data: Iterable[int]) -> Iterator[int]:
    length = shift = 0
    for byte in data:
        length |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63:
            raise ValueError("a run longer than any partition")
        if byte < 0x80:
            yield length
            length = shift = 0
    if shift:
        raise ValueError("it ends within a number")

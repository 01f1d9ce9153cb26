"""What an engine and its processes say to each other, through a pair of sockets that nobody else has.

Messages are pickled: both ends are the same program. Nothing else that comes from outside ever is.
"""

from __future__ import annotations

import mmap
import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reflow_kafka.lane.processes.job import Job

_LENGTH: Final = struct.Struct("=Q")

# How a call ended.
RETURNED: Final = 0
"""The blob is the pickled result."""
RAISED: Final = 1
"""The blob is the pickled `Failure`."""
UNAVAILABLE: Final = 2
"""The handler could not be loaded; the blob is the pickled `Failure`."""

# ---- engine → process


@dataclass(slots=True)
class Setup:
    """The first message: how this program was started, so that the process finds the same modules."""

    path: list[str]
    """``sys.path``."""
    argv: list[str]
    files: Mapping[str, str]
    """Modules that were loaded from files by their path."""
    main: Mapping[str, Any] | None
    """How to import ``__main__``, as `multiprocessing.spawn` has it; None: nothing there can be imported."""
    log_level: int


@dataclass(slots=True)
class Calls:
    """To be run one after the other."""

    calls: list[tuple[int, int, bytes | None]]
    """Number of the call, number of its job, pickled ``(args, named)``; None: only load the handler."""
    jobs: dict[int, Job]
    """Those that are new to this process."""


@dataclass(slots=True)
class Recall:
    """Give back calls that have not begun: these, or all."""

    numbers: Sequence[int] | None


# ---- process → engine


@dataclass(slots=True)
class Ready:
    """It waits for calls."""


@dataclass(slots=True)
class Results:
    """Calls that have ended: number, how, blob, and the seconds it took (below 0: not known)."""

    results: list[tuple[int, int, bytes, float]]


@dataclass(slots=True)
class Recalled:
    """Calls that will not be run here."""

    numbers: list[int]


@dataclass(slots=True)
class Logged:
    """A log record: the attributes it is made from."""

    record: dict[str, Any]


@dataclass(slots=True)
class Failure:
    """An error, as far as it can be sent, and its traceback."""

    error: BaseException
    traceback: str


# ---- frames


def frame(message: object) -> bytes:
    """A message as it is sent."""
    payload = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(payload)) + payload


@dataclass(slots=True)
class Frames:
    """Puts messages together from what arrives."""

    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[object]:
        """All messages that are complete now."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < end:
                return
            payload = bytes(memoryview(buffer)[_LENGTH.size : end])
            del buffer[:end]
            yield pickle.loads(payload)  # noqa: S301 - from our own process


# ---- shared memory


class Progress:
    """What a process does at this moment, written by it and read by the engine, even while it cannot answer.

    A reader may see one of the fields newer than another, so it looks twice before it acts on the time.
    """

    _FIELDS: Final = struct.Struct("=dqq")
    SIZE: Final = _FIELDS.size

    def __init__(self, file: int) -> None:
        """`file`: descriptor of a file of `SIZE` bytes."""
        self._page = mmap.mmap(file, self.SIZE)

    def write(self, number: int, since: float, *, loading: bool = False) -> None:
        """Call `number` runs since then (``time.monotonic``), or its handler is being loaded; 0: none."""
        self._FIELDS.pack_into(self._page, 0, since, loading, number)

    def read(self) -> tuple[int, float, bool]:
        """Number of the call, since when it runs, and whether its handler is still being loaded."""
        since, loading, number = self._FIELDS.unpack_from(self._page)
        return number, since, bool(loading)

    def close(self) -> None:
        self._page.close()

"""A sink that prints events, for a first look at a flow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal, TextIO

from reflow_kafka.connector import ConnectorContext
from reflow_kafka.event import Event
from reflow_kafka.secrets import describe
from reflow_kafka.serde.json import dumps


class PrintSink:
    """Prints one line per event: its value as JSON, or the whole event with ``format="repr"``.

    `stream` is where to print; standard output if it is not given. At least once, as printing must be.
    """

    def __init__(self, *, format: Literal["json", "repr"] = "json", stream: TextIO | None = None) -> None:
        if format not in ("json", "repr"):
            raise ValueError(f'found format={format!r}, wanted "json" or "repr"')
        self._format = format
        self._stream = stream

    def __repr__(self) -> str:
        return describe(self, format=self._format)

    async def open(self, ctx: ConnectorContext) -> _PrintWriter:
        """A writer for one lane."""
        return _PrintWriter(self._format, self._stream)


class _PrintWriter:
    def __init__(self, format: str, stream: TextIO | None) -> None:
        self._format = format
        self._stream = stream

    async def write(self, events: Sequence[Event[Any]]) -> None:
        if self._format == "repr":
            lines = [repr(event) for event in events]
        else:
            lines = [dumps(event.value).decode() for event in events]
        # One write per batch, so that lanes do not mix their lines. Standard output is looked up each time:
        # tests and notebooks replace it.
        stream = self._stream or sys.stdout
        stream.write("".join(f"{line}\n" for line in lines))

    async def flush(self) -> None:
        (self._stream or sys.stdout).flush()

    async def close(self) -> None:
        """Nothing to release: the stream is not ours."""

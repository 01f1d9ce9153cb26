"""What every connector must do, whoever wrote it: `check_source` and `check_sink` raise AssertionError.

`reflow_kafka.connector` is the contract; here is its meaning as a program.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reflow_kafka.connector import ConnectorContext, Reader, Sink, Source, Writer
from reflow_kafka.event import Event

LOG = logging.LoggerAdapter(logging.getLogger("tests.connectors"), {})


def context(lane: int = 0, *, stage: str = "stage") -> ConnectorContext:
    return ConnectorContext(flow="flow", stage=stage, lane=lane, log=LOG)


@asynccontextmanager
async def reading(source: Source, part: str = "", position: Any = None) -> AsyncIterator[Reader]:
    reader = await source.open(part, position, context())
    try:
        yield reader
    finally:
        await reader.close()


async def values(source: Source, part: str = "", position: Any = None, *, max_events: int = 100) -> list[Any]:
    """All values of a part from `position` on; the source must end."""
    found: list[Any] = []
    async with reading(source, part, position) as reader:
        while (events := await reader.read(max_events)) is not None:
            assert len(events) <= max_events
            found += [event.value for event in events]
    return found


async def check_source(source: Source, expected: Sequence[Any], part: str = "", *, step: int = 1) -> None:
    """A source that ends: order, exact resumption from every position, the end, `committed`, `close`."""
    assert isinstance(source, Source)
    assert part in await source.parts()
    assert list(await source.parts()) == list(await source.parts()), "the parts change without a reason"

    positions: list[Any] = []
    found: list[Any] = []
    async with reading(source, part) as reader:
        assert isinstance(reader, Reader)
        positions.append(_through_json(reader.position()))
        while (events := await reader.read(step)) is not None:
            assert len(events) <= step, "read() gave more events than were asked for"
            assert all(isinstance(event, Event) for event in events)
            if not events:
                continue
            found += [event.value for event in events]
            positions += [None] * (len(events) - 1) + [_through_json(reader.position())]
            await reader.committed(positions[-1])
        assert found == list(expected), f"found {found}, wanted {expected}"
        assert await reader.read(step) is None, "a part that has ended came back to life"
        await reader.close()  # and once more on leaving

    for done, position in enumerate(positions):
        if position is not None:
            rest = await values(source, part, position)
            assert rest == list(expected[done:]), f"from {position}: found {rest}, wanted {expected[done:]}"


async def check_sink(
    sink: Sink, read: Callable[[], Awaitable[list[Any]]], make: Callable[[int], Any] = lambda n: {"n": n}
) -> None:
    """A sink: order, `flush`, reopening, `close` twice, nothing from what was not flushed. `read` gives back
    the values that a reader of the target sees."""
    assert isinstance(sink, Sink)
    events = [_event(make(n), n) for n in range(20)]
    writer = await sink.open(context())
    assert isinstance(writer, Writer)
    await writer.write(events[:3])
    await writer.write(events[3:5])
    await writer.write([])
    await writer.flush()
    assert await read() == [event.value for event in events[:5]]
    await writer.flush()
    await writer.write(events[5:8])
    await writer.close()  # not flushed: may be dropped, is never needed
    await writer.close()
    before = await read()
    assert before[:5] == [event.value for event in events[:5]]

    writer = await sink.open(context())
    await writer.write(events[8:])
    await writer.flush()
    await writer.close()
    assert (await read())[len(before) :] == [event.value for event in events[8:]]


async def check_exactly_once(
    sink: Sink, read: Callable[[], Awaitable[list[Any]]], make: Callable[[int], Any] = lambda n: {"n": n}
) -> None:
    """A sink whose writers store a position: data and position together, the position compared and set."""
    writer: Any = await sink.open(context())
    assert await writer.position() is None
    for n in range(3):
        await writer.write([_event(make(n), n)])
        await writer.flush({"at": n + 1})
        assert await writer.position() == {"at": n + 1}
    await writer.write([_event(make(3), 3)])
    await writer.close()
    assert await read() == [make(n) for n in range(3)], "what was not flushed became visible"

    first: Any = await sink.open(context())
    assert await first.position() == {"at": 3}
    second: Any = await sink.open(context())
    assert await second.position() == {"at": 3}
    await second.write([_event(make(3), 3)])
    await second.flush({"at": 4})
    await first.write([_event(make(3), 3)])
    with pytest.raises(Exception, match=r"\w"):  # the loser is told, and told why
        await first.flush({"at": 4})
    await first.close()
    await second.write([_event(make(4), 4)])
    await second.flush({"at": 5})
    await second.close()
    assert await read() == [make(n) for n in range(5)]


def _event(value: Any, n: int) -> Event[Any]:
    return Event(value, key=f"k{n % 3}", timestamp=1_262_304_000_000 + n)


def _through_json(position: Any) -> Any:
    """A position is stored as JSON."""
    return json.loads(json.dumps(position))

"""Compiles a stage into one loop over records, specialised for exactly that stage.

There is no per-event branching on options: whether the stage has state, takes `ctx` or an `Event`, waits,
filters or re-keys is decided when the lane opens, by writing the loop's source from the pieces below. In
W2 of the benchmarks (a keyed mean) the loop costs 0.4 µs per event around the handler; the same through
composed closures costs 1.1 µs. The source is kept for tracebacks and for `print(source_of(run))`.

What the loop guarantees, per event and in this order: decode; state; handler; everything of its results
that can fail; then, with no way to fail, append results and mark the state as changed. `phase` says how far
it has come: what fails in the handler may succeed at another try, the rest fails each time.

Where events overlap (`single`) there is no loop: the function handles one event, and returns how it failed.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import linecache
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from reflow_kafka.context import Context
from reflow_kafka.definition.spec import Shape, StateBy
from reflow_kafka.event import NO_HEADERS, Event, received
from reflow_kafka.lane.calls import collect, from_within, within
from reflow_kafka.lane.emitter import Emitter, Lead
from reflow_kafka.lane.outbox import check_size
from reflow_kafka.lane.source import source_of
from reflow_kafka.log.api import Record
from reflow_kafka.state.cache import StateCache
from reflow_kafka.value import CLEARED

Failure = tuple[Exception, bool]
"""How an event failed, and whether in its handler: only then another try may help."""

_serial = itertools.count()


class MissingKey(ValueError):
    """An event without key reached a stage that remembers."""

    def __init__(self) -> None:
        super().__init__(
            "a stage that remembers got an event without key: say with key= (or by=) of the stage where an "
            "event has one, and leave out before it those in which that is None"
        )


@dataclass(slots=True)
class Compilation:
    """Everything one loop is made of: one input of one stage in one lane."""

    name: str
    topic: str
    upstream: str
    lane: int
    decode: Callable[[bytes], Any]
    emitter: Emitter
    leads: Sequence[Lead]
    read: Callable[[bytes], Any] | None = None
    """`decode` in fewer words, if there is one."""
    failed: Callable[[Record, Exception, bool], bool] | None = None
    """Told of an event that failed, and whether in its handler; whether it is to be tried again."""
    handler: Callable[..., Any] | None = None
    """None: the value itself is the result (a source that forwards)."""
    shape: Shape = Shape.PLAIN
    takes_event: bool = False
    state_by: StateBy = StateBy.NONE
    cache: StateCache | None = None
    careful: bool = False
    by_name: Mapping[str, Any] = field(default_factory=dict)
    """Arguments given by name; a `Context` among them is filled for each event."""
    timestamp: Callable[[Any], int] | None = None
    finished: Callable[[int], None] | None = None
    """Told the offset of each finished event (handlers that suspend)."""
    single: bool = False
    """One event per call: ``await run(record, attempt)``, None or (error, whether in the handler)."""
    elsewhere: Callable[..., Any] | None = None
    """Awaited in the handler's place, which runs in a thread or process; generators give lists there."""
    returns_state: bool = False
    """What runs elsewhere works on a copy of the state, and gives it back."""
    timeout: float | None = None
    """Seconds after which an event's handler is cancelled."""
    waits: bool = False
    """Something chained to it can suspend."""
    chained: bool = False
    """It runs in the worker of the stage before it; `lane.chain` tells how it is called."""
    names: Mapping[str, Any] = field(default_factory=dict)
    """What the source uses besides, where stages are chained."""

    @property
    def suspends(self) -> bool:
        """Whether the loop is a coroutine function."""
        return self.waits or self.shape.suspends

    @property
    def leads_on(self) -> bool:
        """Whether stages are chained to it."""
        return any(lead.link is not None for lead in self.leads)

    @property
    def context(self) -> tuple[str, Context] | None:
        """The `ctx` argument, if the handler takes one."""
        for name, value in self.by_name.items():
            if isinstance(value, Context):
                return name, value
        return None


def compile_stage(c: Compilation) -> Callable[..., Any]:
    """The loop of a stage: ``run(records)``, a coroutine function if the handler can suspend."""
    source = source_of(c)
    scope = _scope(c)
    exec(_code(c.name, source), scope)  # noqa: S102 - our own text, nothing from data
    run: Callable[..., Any] = scope["run"]
    run.__doc__ = source
    return run


@functools.cache
def _code(name: str, source: str) -> CodeType:
    """The same text is compiled once, however often its lanes are taken over."""
    filename = f"<stage {name} {next(_serial)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    return compile(source, filename, "exec")


def _scope(c: Compilation) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "decode": c.decode,
        "read": c.read,
        "handler": c.handler,
        "failed": c.failed,
        "finished": c.finished,
        "prepare": c.emitter.prepare,
        "deliver": c.emitter.deliver,
        "timestamp_of": c.timestamp,
        "check_size": check_size,
        "received": received,
        "Event": Event,
        "NO_HEADERS": NO_HEADERS,
        "CLEARED": CLEARED,
        "MissingKey": MissingKey,
        "upstream": c.upstream,
        "CancelledError": asyncio.CancelledError,
        "from_within": from_within,
        "elsewhere": c.elsewhere,
        "within": within,
        "collect": collect,
        "timeout": c.timeout,
    }
    scope.update({f"arg_{name}": value for name, value in c.by_name.items()})
    scope.update(c.names)
    if c.context is not None:
        scope["context" if c.single or (c.chained and c.careful) else "ctx"] = c.context[1]
    if c.cache is not None:
        scope.update(
            objects=c.cache.objects,
            dirty=c.cache.dirty,
            load=c.cache.load,
            keep=c.cache.keep,
            forget=c.cache.forget,
        )
    for i, lead in enumerate(c.leads):
        scope.update({f"when{i}": lead.when, f"key{i}": lead.key, f"encode{i}": lead.encode})
        if lead.link is not None:
            scope[f"link{i}"] = lead.link
            if not c.careful:
                scope[f"enter{i}"] = lead.link.enter
        if lead.channel is not None:
            scope[f"channel{i}"] = lead.channel
            scope[f"parts{i}"] = lead.channel.parts
            scope[f"builders{i}"] = lead.channel.builders
    return scope

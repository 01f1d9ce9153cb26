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
import textwrap
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
from reflow_kafka.log.api import Record
from reflow_kafka.state.cache import StateCache
from reflow_kafka.value import CLEARED

Failure = tuple[Exception, bool]
"""How an event failed, and whether in its handler: only then another try may help."""

_serial = itertools.count()


class MissingKey(ValueError):
    """An event without key reached a stage with state."""


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

    @property
    def context(self) -> tuple[str, Context] | None:
        """The `ctx` argument, if the handler takes one."""
        for name, value in self.by_name.items():
            if isinstance(value, Context):
                return name, value
        return None


def compile_stage(c: Compilation) -> Callable[..., Any]:
    """The loop of a stage: ``run(records)``, a coroutine function if the handler can suspend."""
    source = _source(c)
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
    if c.context is not None:
        scope["context" if c.single else "ctx"] = c.context[1]
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
        if lead.channel is not None:
            scope[f"channel{i}"] = lead.channel
            scope[f"parts{i}"] = lead.channel.parts
            scope[f"builders{i}"] = lead.channel.builders
    return scope


def _source(c: Compilation) -> str:
    lines = _head(c)
    pad = "    " if c.single else "        "
    lines += [f"{pad}{line}" for line in ("key = r.key; ts = r.timestamp; phase = 0", "try:")]
    lines += [textwrap.indent(line, f"{pad}    ") for line in _body(c)]
    lines += [f"{pad}{line}" for line in _ends(c)]
    return "\n".join(lines) + "\n"


def _head(c: Compilation) -> list[str]:
    entered = f"ctx.upstream = upstream; ctx._topic = {c.topic!r}"
    if c.single:
        lines = ["async def run(r, attempt):"]
        if c.context is not None:
            lines += ["    ctx = context.fresh(); ctx.attempt = attempt", f"    {entered}"]
        return lines
    lines = ["async def run(records):" if c.shape.suspends else "def run(records):"]
    if c.context is not None:
        lines += [f"    {entered}"]
    return [*lines, "    for r in records:"]


def _body(c: Compilation) -> list[str]:
    stateful = c.state_by is not StateBy.NONE
    body: list[str] = []
    if stateful:
        body += [
            "if key is None:",
            "    raise MissingKey('a stage with state got an event without key; set key= on the stage')",
        ]
    body += ["raw = r.value"]
    if c.read is None:
        body += ["value = None if raw is None else decode(raw)"]
    else:  # what is wrong is said by `decode`, if something is
        body += ["try:", "    value = None if raw is None else read(raw)"]
        body += ["except ValueError:", "    value = decode(raw)"]
    if c.timestamp is not None:
        body += ["if value is not None:", "    ts = timestamp_of(value)"]
    return [*body, *_arguments(c, stateful), *_call(c), *_after_call(c, stateful)]


def _ends(c: Compilation) -> list[str]:
    if c.single:
        return [
            "except Exception as error:",
            "    return error, phase == 1",
            "except CancelledError as error:",
            "    return from_within(error), phase == 1",
        ]
    if not c.shape.suspends:
        return ["except Exception as error:", "    failed(r, error, phase == 1)"]
    return [
        "except Exception as error:",
        "    if failed(r, error, phase == 1):",
        "        continue",
        "except CancelledError as error:",
        "    if failed(r, from_within(error), phase == 1):",
        "        continue",
        "finished(r.offset)",
    ]


def _arguments(c: Compilation, stateful: bool) -> list[str]:
    lines: list[str] = []
    if c.takes_event:
        id = f"f'{c.topic}/{c.lane}/{{r.offset}}'"
        headers = "dict(r.headers) if r.headers else NO_HEADERS"
        lines += [f"event = received(value, key, ts, {headers}, upstream, {id})"]
    if c.context is not None:
        lines += [
            "ctx.key_bytes = key; ctx.timestamp = ts; ctx._headers = r.headers; ctx._offset = r.offset",
            "ctx._cleared = False",
        ]
    if stateful:
        lines += ["state = objects.get(key)", "if state is None:", "    state = load(key)"]
    return lines


def _call(c: Compilation) -> list[str]:
    if c.handler is None:
        return ["out = value if value is not None else Event(None)"]
    positional = ["state"] if c.state_by is not StateBy.NONE else []
    positional.append("event" if c.takes_event else "value")
    named = [f"{name}={'ctx' if c.by_name[name] is _context(c) else f'arg_{name}'}" for name in c.by_name]
    arguments = ", ".join(positional + named)
    return ["phase = 1", *_called(c, arguments), "phase = 2"]


def _called(c: Compilation, arguments: str) -> list[str]:
    single = c.shape in (Shape.PLAIN, Shape.COROUTINE)
    out = "out" if single else "outs"
    limit = "within(timeout, {})" if c.timeout is not None else "{}"
    if c.elsewhere is not None:
        call = f"await {limit.format(f'elsewhere({arguments})')}"
        if not c.returns_state:
            return [f"{out} = {call}"]
        if c.state_by is StateBy.BOX:
            changed = "state.value = CLEARED if cleared else changed.value"
        else:
            changed = "state = state if cleared else changed"
        told = ["ctx._cleared = cleared"] if _context(c) else []
        return [f"{out}, changed, cleared = {call}", changed, *told]
    if c.shape is Shape.ASYNC_GENERATOR:
        listed = f"[out async for out in handler({arguments})]"
        return [
            f"outs = {listed}"
            if c.timeout is None
            else f"outs = await within(timeout, collect(handler({arguments})))"
        ]
    call = f"handler({arguments})"
    return {
        Shape.PLAIN: [f"out = {call}"],
        Shape.COROUTINE: [f"out = await {limit.format(call)}"],
        Shape.GENERATOR: [f"outs = list({call})"],
    }[c.shape]


def _context(c: Compilation) -> Context | None:
    return None if c.context is None else c.context[1]


def _after_call(c: Compilation, stateful: bool) -> list[str]:
    """Results and state: first what can fail, then what cannot."""
    single = c.shape in (Shape.PLAIN, Shape.COROUTINE)
    fast = single and all(lead.output is None and lead.channel is not None for lead in c.leads)
    keep = _keep(c) if stateful and c.careful else []
    mark = _mark(c) if stateful and not c.careful else []
    if not c.leads:
        return [*(_undeclared(single)), *keep, *mark]
    if not fast:
        results = "(out,)" if single else "outs"
        return [f"prepared = prepare({results}, r, ts)", *keep, "deliver(prepared)", *mark]
    lines = [
        "if out is not None and not isinstance(out, Event):",
        *_indent(_prepare_inline(c.leads, checked=len(c.leads) > 1 or bool(keep))),
        *_indent(keep),
        *_indent(_append_inline(c.leads)),
        "else:",
        "    prepared = prepare((out,), r, ts)",
        *_indent(keep),
        "    deliver(prepared)",
    ]
    return lines + mark


def _undeclared(single: bool) -> list[str]:
    """With nothing following, results are dropped, but an undeclared output is still an error."""
    return ["prepare((out,), r, ts)"] if single else ["prepare(outs, r, ts)"]


def _keep(c: Compilation) -> list[str]:
    lines = ["keep(key, state)", *(["objects[key] = state"] if c.returns_state else [])]
    return [*lines, *_clear(c, careful=True)]


def _mark(c: Compilation) -> list[str]:
    return ["dirty[key] = state", *_clear(c, careful=False)]


def _clear(c: Compilation, *, careful: bool) -> list[str]:
    lines: list[str] = []
    if c.state_by is StateBy.BOX:
        lines += ["if state.value is CLEARED:", f"    forget(key, careful={careful})"]
    if c.context is not None:
        lines += ["if ctx._cleared:", f"    forget(key, careful={careful})"]
    return lines


def _prepare_inline(leads: Sequence[Lead], *, checked: bool) -> list[str]:
    lines: list[str] = []
    first_encode = leads[0].encode if leads[0].when is None else None
    for i, lead in enumerate(leads):
        pad = ""
        if lead.when is not None:
            lines += [f"on{i} = when{i}(out)", f"if on{i}:"]
            pad = "    "
        shared = i > 0 and lead.encode is first_encode
        lines += [f"{pad}d{i} = d0" if shared else f"{pad}d{i} = encode{i}(out)"]
        lines += [f"{pad}k{i} = key" if lead.key is None else f"{pad}k{i} = key{i}(out)"]
        if checked:  # with a single lead and nothing kept the append itself checks, before it has any effect
            large = f"len(d{i}) > 400_000 or (k{i} is not None and len(k{i}) > 400_000)"
            lines += [f"{pad}if {large}:", f"{pad}    check_size(k{i}, d{i})"]
    return lines


def _append_inline(leads: Sequence[Lead]) -> list[str]:
    lines: list[str] = ["headers = r.headers"]
    for i, lead in enumerate(leads):
        pad = ""
        if lead.when is not None:
            lines += [f"if on{i}:"]
            pad = "    "
        lines += [
            f"{pad}if headers:",
            f"{pad}    channel{i}.append(ts, k{i}, d{i}, list(headers))",
            f"{pad}else:",
            f"{pad}    p = parts{i}[k{i}] if k{i} is not None else channel{i}.place(None)",
            f"{pad}    b = builders{i}.get(p)",
            f"{pad}    if b is None or b.append(timestamp=ts, key=k{i}, value=d{i}) is None:",
            f"{pad}        channel{i}.append_to(p, ts, k{i}, d{i})",
        ]
    return lines


def _indent(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]

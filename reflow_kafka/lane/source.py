"""The source of a stage's loop, put together from the pieces that exactly this stage needs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reflow_kafka.context import Context
from reflow_kafka.definition.spec import Shape, StateBy
from reflow_kafka.lane.emitter import Lead

if TYPE_CHECKING:
    from reflow_kafka.lane.compile import Compilation


def source_of(c: Compilation) -> str:
    """What `compile_stage` compiles."""
    if c.chained:
        return "\n".join(_step(c) if c.careful else _entrance(c)) + "\n"
    lines = _head(c)
    pad = "    " if c.single else "        "
    passage = "; passage = None" if c.leads_on and c.careful else ""
    lines += [f"{pad}{line}" for line in (f"key = r.key; ts = r.timestamp; phase = 0{passage}", "try:")]
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
    lines = ["async def run(records):" if c.suspends else "def run(records):"]
    if c.context is not None:
        lines += [f"    {entered}"]
    return [*lines, "    for r in records:"]


def _entrance(c: Compilation) -> list[str]:
    """A chained stage, straight on."""
    stateful = c.state_by is not StateBy.NONE
    lines = [*_missing(stateful), "value = copied(value)", *_arguments(c, stateful), *_call(c)]
    return [
        "def run(value, r, ts, origin, path):",
        "    key = r.key",
        "    try:",
        *(f"        {line}" for line in (*lines, *_after_call(c, stateful))),
        "    except Broken:",
        "        raise",
        "    except Exception as error:",
        "        raise Broken() from error",
        "    tally.events += 1",
    ]


def _step(c: Compilation) -> list[str]:
    """A chained stage in a passage."""
    stateful = c.state_by is not StateBy.NONE
    lines = ["key = r.key; ts = r.timestamp; origin = r.origin; path = r.path; r.in_handler = False"]
    if c.context is not None:
        lines += ["ctx = context.fresh(); ctx.attempt = r.tries + 1"]
    lines += [*_missing(stateful), "value = copied(r.value)", *_arguments(c, stateful)]
    lines += ["r.in_handler = True", *_call(c), "r.in_handler = False", *_held(c)]
    raw = "encoded(state)" if c.context is None else "None if ctx._cleared else encoded(state)"
    lines += [f"return prepared, {f'state, {raw}' if stateful else 'None, None'}"]
    head = "async def run(r):" if c.shape.suspends else "def run(r):"
    return [head, *(f"    {line}" for line in lines)]


def _missing(stateful: bool) -> list[str]:
    if not stateful:
        return []
    return [
        "if key is None:",
        "    raise MissingKey()",
    ]


def _body(c: Compilation) -> list[str]:
    stateful = c.state_by is not StateBy.NONE
    body = _missing(stateful)
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
    onward = c.leads_on and c.careful
    if not c.suspends:
        return [
            "except Exception as error:",
            "    failed(r, error, phase == 1)",
            *(_onward(c) if onward else []),
        ]
    return [
        "except Exception as error:",
        "    if failed(r, error, phase == 1):",
        "        continue",
        "except CancelledError as error:",
        "    if failed(r, from_within(error), phase == 1):",
        "        continue",
        *(_onward(c) if onward else []),
        "finished(r.offset)",
    ]


def _onward(c: Compilation) -> list[str]:
    """Through the chain; an event that waits there is not finished."""
    return [
        "if passage is not None:",
        f"    pause = {'await passage.go()' if c.waits else 'passage.run()'}",
        "    if (pause is not None or passage.failures) and went(r, passage, pause):",
        "        continue",
    ]


def _arguments(c: Compilation, stateful: bool) -> list[str]:
    lines: list[str] = []
    if c.takes_event:
        id = f"f'{c.topic}/{c.lane}/{{r.offset}}'"
        if c.chained:
            id = f"f'{{origin.topic}}/{c.lane}/{{r.offset}}{{path}}'"
        headers = "dict(r.headers) if r.headers else NO_HEADERS"
        lines += [f"event = received(value, key, ts, {headers}, upstream, {id})"]
    if c.context is not None:
        lines += [
            "ctx.key_bytes = key; ctx.timestamp = ts; ctx._headers = r.headers; ctx._offset = r.offset",
            "ctx._cleared = False",
        ]
        if c.chained:
            lines += ["ctx.upstream = upstream; ctx._topic = origin.topic; ctx._path = path"]
    if stateful and c.chained and c.careful:
        lines += ["state = state_of(r)"]
    elif stateful:
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
    if c.leads_on and c.careful:
        return [*_held(c), *_begin(c, stateful)]
    fast = _is_fast(c)
    keep = _keep(c) if stateful and c.careful else []
    mark = _mark(c) if stateful and not c.careful else []
    if not c.leads:
        return [*(_undeclared(single)), *keep, *mark]
    path = "path" if c.chained else "''"
    deliver = f"enter(prepared, r, origin, {path})" if c.leads_on else "deliver(prepared)"
    if not fast:
        results = "(out,)" if single else "outs"
        return [f"prepared = prepare({results}, r, ts)", *keep, deliver, *mark]
    lines = [
        "if out is not None and not isinstance(out, Event):",
        *_indent(_prepare_inline(c.leads, checked=len(c.leads) > 1 or bool(keep))),
        *_indent(keep),
        *_indent(_append_inline(c.leads, path)),
        "else:",
        "    prepared = prepare((out,), r, ts)",
        *_indent(keep),
        f"    {deliver}",
    ]
    return lines + mark


def _is_fast(c: Compilation) -> bool:
    """Whether results can be written into the source as they come: one, and no named outputs."""
    return c.shape in (Shape.PLAIN, Shape.COROUTINE) and all(
        lead.output is None and (lead.channel is not None or lead.link is not None) for lead in c.leads
    )


def _held(c: Compilation) -> list[str]:
    """Results that are not delivered yet."""
    results = "(out,)" if c.shape in (Shape.PLAIN, Shape.COROUTINE) else "outs"
    if not c.leads or not _is_fast(c):
        return [f"prepared = prepare({results}, r, ts)"]
    lines = ["headers = list(r.headers) if r.headers else []"]
    if any(lead.when is not None for lead in c.leads):
        lines += ["prepared = []"]
        for i, lead in enumerate(c.leads):
            pad = "" if lead.when is None else "    "
            lines += [f"if on{i}:"] if pad else []
            lines += [f"{pad}prepared.append({_held_one(i, lead)})"]
    else:
        held = ", ".join(_held_one(i, lead) for i, lead in enumerate(c.leads))
        lines += [f"prepared = [{held}]"]
    return [
        "if out is not None and not isinstance(out, Event):",
        *_indent(_prepare_inline(c.leads, checked=True)),
        *_indent(lines),
        "else:",
        "    prepared = prepare((out,), r, ts)",
    ]


def _held_one(i: int, lead: Lead) -> str:
    if lead.link is not None:
        return f"(link{i}, ts, key, out, headers)"
    return f"(channel{i}, ts, k{i}, d{i}, headers)"


def _begin(c: Compilation, stateful: bool) -> list[str]:
    """Where stages are chained to it, results and state are held until those are through."""
    state = "state" if stateful else "None"
    cleared = "False" if c.context is None else "ctx._cleared"
    begun = f"begin(r, origin, prepared, {state}, {cleared})"
    return [f"return {begun}" if c.single else f"passage = {begun}"]


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
    first_encode = leads[0].encode if leads[0].when is None and leads[0].link is None else None
    for i, lead in enumerate(leads):
        pad = ""
        if lead.when is not None:
            lines += [f"on{i} = when{i}(out)", f"if on{i}:"]
            pad = "    "
        if lead.link is not None:
            lines += [f"{pad}pass"] if pad else []
            continue
        shared = i > 0 and lead.encode is first_encode
        lines += [f"{pad}d{i} = d0" if shared else f"{pad}d{i} = encode{i}(out)"]
        lines += [f"{pad}k{i} = key" if lead.key is None else f"{pad}k{i} = key{i}(out)"]
        if checked:  # with a single lead and nothing kept the append itself checks, before it has any effect
            large = f"len(d{i}) > 400_000 or (k{i} is not None and len(k{i}) > 400_000)"
            lines += [f"{pad}if {large}:", f"{pad}    check_size(k{i}, d{i})"]
    return lines


def _append_inline(leads: Sequence[Lead], path: str) -> list[str]:
    lines: list[str] = ["headers = r.headers"]
    for i, lead in enumerate(leads):
        pad = ""
        if lead.when is not None:
            lines += [f"if on{i}:"]
            pad = "    "
        if lead.link is not None:
            below = f"'/{lead.stage}/0'" if path == "''" else f"{path} + '/{lead.stage}/0'"
            lines += [f"{pad}enter{i}(out, r, ts, origin, {below})"]
            continue
        lines += [
            f"{pad}if headers:",
            f"{pad}    channel{i}.append(ts, k{i}, d{i}, list(headers))",
            f"{pad}else:",
            f"{pad}    p = parts{i}[k{i}] if k{i} is not None else channel{i}.place(None)",
            f"{pad}    b = builders{i}[p]",
            f"{pad}    if b is None or b.append(ts, k{i}, d{i}) is None:",
            f"{pad}        channel{i}.append_to(p, ts, k{i}, d{i})",
        ]
    return lines


def _indent(lines: Sequence[str]) -> list[str]:
    return ["    " + line for line in lines]

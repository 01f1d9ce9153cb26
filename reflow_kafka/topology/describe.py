"""A flow told to people and programs: tree, text, JSON, Mermaid, Graphviz."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Final, Literal

import orjson

from reflow_kafka.definition.spec import FlowSpec
from reflow_kafka.topology.view import EdgeView, FlowView, RetryView, StageView, view

Format = Literal["tree", "text", "json", "mermaid", "dot"]

_WRITTEN: Final = ("topic", "reply")
"""What sinks are whose topic is written by the stages before them."""


def describe(
    flow: FlowSpec, format: Format = "tree", counts: Mapping[str, int | None] = MappingProxyType({})
) -> str:
    """A checked flow in one of the formats (`counts`: of its external topics, as for `make_plan`).

    The JSON's shape is that of `view.FlowView`.
    """
    if format not in _FORMATS:
        raise ValueError(f"found format {format!r}, wanted one of {', '.join(_FORMATS)}")
    return _FORMATS[format](view(flow, counts))


# ---- tree


def _tree(flow: FlowView) -> str:
    """Every stage below the one it follows; one that follows several in full at the first, as ↑ at others."""
    shown: set[str] = set()
    rows: list[tuple[str, ...]] = []
    stages = {stage.name: stage for stage in flow.stages}

    def add(stage: StageView, edge: EdgeView | None, lead: str, indent: str) -> None:
        label = stage.name if edge is None or edge.output is None else f"({edge.output}) {stage.name}"
        if stage.name in shown:
            rows.append((f"{lead}{label} ↑", "", _travel(stage, edge), ""))
            return
        shown.add(stage.name)
        rows.append((f"{lead}{label}", stage.kind, _travel(stage, edge), ", ".join(_details(stage))))
        below = flow.out_of(stage.name)
        for following in below:
            last = following is below[-1]
            lead_below, indent_below = ("└─ ", "   ") if last else ("├─ ", "│  ")
            add(stages[following.stage], following, indent + lead_below, indent + indent_below)

    for stage in flow.stages:
        if not flow.into(stage.name):
            add(stage, None, "", "")
    for table in flow.tables:
        key = "" if table.key is None else f", key {table.key}"
        rows.append((table.name, "table", f"← {table.topic}", f"in every engine{key}"))
    lanes = "" if flow.lanes == flow.partitions else f", {_count(flow.lanes, 'lane')}"
    return "\n".join([f"{flow.flow}: {_count(flow.partitions, 'partition')}{lanes}", "", *_aligned(rows)])


def _travel(stage: StageView, edge: EdgeView | None) -> str:
    """How events come to a stage, or where a topic sink puts them."""
    if edge is None:
        return f"← {' + '.join(stage.topics) or stage.does}"
    if edge.chained:
        return "← in the same worker"
    topics = " + ".join(edge.topics)
    if stage.does in _WRITTEN:
        return f"→ {topics}"
    return f"← {topics} ×{edge.partitions}" if edge.internal else f"← the same ×{edge.partitions}, directly"


def _details(stage: StageView) -> Iterator[str]:
    """What is special about a stage, in few words."""
    if stage.kind == "sink" and stage.does not in (*_WRITTEN, stage.name, f"{stage.name}()"):
        yield f"to {stage.does}"
    if stage.key is not None:
        yield f"key {stage.key}"
    if stage.timestamp is not None:
        yield f"timestamp {stage.timestamp}"
    if stage.out_of_orderness:
        yield f"out of order by {_time(stage.out_of_orderness)}"
    if stage.when is not None:
        yield f"when {stage.when}"
    if stage.state is not None:
        yield f"state {stage.state}"
    if stage.outputs:
        yield f"outputs {' '.join(stage.outputs)}"
    if stage.partitions is not None:
        yield _count(stage.partitions, "partition")
    yield from (f"{name} {fact}" for name, fact in _running(stage).items() if fact is not None)


def _running(stage: StageView) -> dict[str, str | None]:
    """How its handler is run, as far as that is not the usual way."""
    batch, rate, retry = stage.batch, stage.rate, stage.retry
    per_key = " of one key" if batch is not None and batch.per_key else ""
    return {
        "run in": None if stage.run_in == "loop" else stage.run_in,
        "concurrency": None if stage.concurrency == 1 else str(stage.concurrency),
        "batch": None if batch is None else f"{batch.max_events}{per_key} within {_time(batch.within)}",
        "timeout": None if stage.timeout is None else _time(stage.timeout),
        "rate": None if rate is None else f"{rate.events} per {_time(rate.per)}",
        "retry": None if retry is None else _attempts(retry),
    }


def _attempts(retry: RetryView) -> str:
    """``5 attempts on OSError``."""
    attempts = "for ever" if retry.attempts is None else _count(retry.attempts, "attempt")
    return attempts if retry.on == ("Exception",) else f"{attempts} on {' '.join(retry.on)}"


def _waits(retry: RetryView) -> str:
    """``0.1 s, ×2, up to 30 s``."""
    return f"{_time(retry.backoff)}, ×{retry.factor:g}, up to {_time(retry.max_backoff)}"


def _time(seconds: float) -> str:
    return f"{seconds:g} s"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines, their columns below each other."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


# ---- text


def _text(flow: FlowView) -> str:
    """One paragraph per stage, one fact per line."""
    blocks = [
        [f"flow {flow.flow}", *_facts(partitions=flow.partitions, lanes=flow.lanes, group=flow.group)],
        *([f"{stage.kind} {stage.name}", *_stage_facts(flow, stage)] for stage in flow.stages),
        *(
            [f"global table {table.name}", *_facts(topic=table.topic, type=table.type, key=table.key)]
            for table in flow.tables
        ),
        ["topics", *_aligned([(f"  {t.name}", t.kind, f"×{t.partitions}") for t in flow.topics])],
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def _stage_facts(flow: FlowView, stage: StageView) -> list[str]:
    reads = [topic for edge in flow.into(stage.name) for topic in edge.topics if stage.does not in _WRITTEN]
    writes = [topic for edge in flow.out_of(stage.name) if stage.lanes for topic in edge.topics]
    after = [_upstream(edge) for edge in flow.into(stage.name)]
    followed = [
        f"{edge.output}: {edge.stage}" if edge.output else edge.stage for edge in flow.out_of(stage.name)
    ]
    return _facts(
        defined=stage.where,
        runs=stage.does if stage.lanes and stage.does != stage.name else None,
        lanes=stage.lanes or "none: a neighbour does its work",
        after=", ".join(after),
        followed=", ".join(followed),
        topic=", ".join(stage.topics),
        reads=", ".join(reads),
        writes=", ".join(dict.fromkeys(writes)),
        key=stage.key,
        timestamp=stage.timestamp,
        when=stage.when,
        state=stage.state,
        changelog=stage.changelog,
        outputs=", ".join(stage.outputs),
        partitions=stage.partitions,
        chained=None if stage.host is None else f"in the worker of {stage.host}",
        **_running(stage),
        waits=None if stage.retry is None or stage.retry.attempts == 1 else _waits(stage.retry),
    )


def _facts(**facts: object) -> list[str]:
    return [f"  {name:<11}  {fact}" for name, fact in facts.items() if fact not in (None, "")]


def _upstream(edge: EdgeView) -> str:
    return edge.upstream if edge.output is None else f"{edge.upstream}.{edge.output}"


# ---- for programs


def _json(flow: FlowView) -> str:
    return orjson.dumps(asdict(flow), option=orjson.OPT_INDENT_2).decode()


_MERMAID_SHAPES: Final = {"source": ('(["', '"])'), "stage": ('["', '"]'), "sink": ('[/"', '"/]')}


def _mermaid(flow: FlowView) -> str:
    lines = ["flowchart LR"]
    for stage in flow.stages:
        left, right = _MERMAID_SHAPES[stage.kind]
        text = "<br/>".join(_escaped(part) for part in (stage.name, *stage.topics, *_details(stage)))
        # A prefix, because "end" and some others mean something to Mermaid.
        lines.append(f"  s_{stage.name}{left}{text}{right}")
    for edge in flow.edges:
        label = f'|"{edge.output}"|' if edge.output else ""
        arrow = "==>" if edge.chained else "-->"
        lines.append(f"  s_{edge.upstream} {arrow}{label} s_{edge.stage}")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    for found, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(found, entity)
    return text


_DOT_SHAPES: Final = {"source": "cds", "stage": "box", "sink": "note"}


def _dot(flow: FlowView) -> str:
    lines = [f"digraph {_quoted(flow.flow)} {{", "  rankdir=LR;", '  node [fontname="sans-serif"];']
    for stage in flow.stages:
        label = _quoted("\n".join([stage.name, *stage.topics, *_details(stage)]))
        lines.append(f"  {_quoted(stage.name)} [shape={_DOT_SHAPES[stage.kind]}, label={label}];")
    for edge in flow.edges:
        how = [f"label={_quoted(edge.output)}"] if edge.output else []
        how += ["style=bold"] if edge.chained else []
        styled = f" [{', '.join(how)}]" if how else ""
        lines.append(f"  {_quoted(edge.upstream)} -> {_quoted(edge.stage)}{styled};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


_FORMATS: Final[Mapping[str, Callable[[FlowView], str]]] = {
    "tree": _tree,
    "text": _text,
    "json": _json,
    "mermaid": _mermaid,
    "dot": _dot,
}

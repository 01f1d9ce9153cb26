"""What an event costs, in counts that are the same on every machine.

Seconds belong in `benchmarks/`. Here calls, serialisations and writes are counted, so that a change which
makes the hot path do more per event fails the build wherever it is built.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any
from unittest import mock

import orjson
import pytest

from reflow_kafka import Engine, Flow, State
from reflow_kafka.definition.spec import Handler
from reflow_kafka.lane.compile import Compilation, compile_stage
from reflow_kafka.lane.emitter import Emitter, Lead
from reflow_kafka.lane.outbox import Channel
from reflow_kafka.log.api import OutRecord, Record, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.local.records import LocalBuilder, LocalRecord
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.serde.typed import edge_codec, state_codec
from reflow_kafka.state.cache import StateCache
from reflow_kafka.state.memory import MemoryBackend

EVENTS = 10_000
KEYS = 100


def records(count: int = EVENTS) -> list[Record]:
    return [
        LocalRecord(i, 1_000 + i, b"s-%d" % (i % KEYS), orjson.dumps({"id": i, "t": i % 37}), [])
        for i in range(count)
    ]


def calls(run: Callable[[], Any]) -> Counter[str]:
    """How many Python and C functions are called."""
    counted: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        counted[event] += 1

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return counted


def lead(key: Callable[[Any], bytes] | None = None) -> Lead:
    channel = Channel("out", 8, lambda: LocalBuilder(1 << 20))
    return Lead(None, "next", None, key, edge_codec(dict).encode, channel)


def fail(record: Record, error: Exception) -> None:
    raise AssertionError from error


def compiled(flow: Flow, stage: str, leads: Sequence[Lead], cache: StateCache | None = None) -> Any:
    handler = flow.spec().stage(stage).handler
    assert isinstance(handler, Handler)
    return compile_stage(
        Compilation(
            name=stage,
            topic="in",
            upstream="source",
            lane=0,
            decode=edge_codec(dict).decode,
            read=edge_codec(dict).read,
            emitter=Emitter(leads, ("error",)),
            leads=leads,
            failed=fail,
            handler=handler.target,
            state_by=handler.state_by,
            cache=cache,
        )
    )


def per_event(run: Any) -> tuple[float, float]:
    """Calls of Python and of C functions for each event, once everything is warm."""
    events = records()
    run(events)
    counted = calls(lambda: run(events))
    return counted["call"] / EVENTS, counted["c_call"] / EVENTS


def test_a_stateless_stage() -> None:
    flow = Flow("f")

    @flow.stage(after=flow.source("source", topic="in"))
    def convert(reading: dict[str, Any]) -> dict[str, Any]:
        reading["f"] = reading["t"] * 1.8 + 32
        return reading

    flow.sink("out", after=convert, topic="out")
    python, c = per_event(compiled(flow, "convert", [lead()]))
    # Python: handler, encode, append; C: JSON twice, isinstance, the builder's three.
    assert python < 3.01
    assert c < 6.01


def test_a_stage_with_state() -> None:
    flow = Flow("f")

    @flow.stage(after=flow.source("source", topic="in"), state=list)
    def collect(seen: list[int], reading: dict[str, Any]) -> dict[str, Any]:
        seen[:] = [reading["t"]]
        return reading

    flow.sink("out", after=collect, topic="out")
    codec = state_codec(list)
    stores = MemoryBackend().open("f", 0, ["collect"])
    cache = StateCache("collect", stores, encode=codec.encode, decode=codec.decode, factory=list, boxed=False)
    python, c = per_event(compiled(flow, "collect", [lead()], cache))
    assert python < 3.01, "finding and marking the state calls no Python function"
    assert c < 7.01, "it costs one more look-up in a dict"


@dataclass
class Counts:
    """What a run did."""

    state_encodes: int = 0
    store_writes: int = 0
    changes: int = 0
    commits: int = 0
    outputs: int = 0


async def run_counted(events: int) -> Counts:
    flow = Flow("counted", partitions=1)

    @flow.stage(after=flow.source("numbers", topic="numbers"), state=int)
    def add(total: State[int], n: int) -> int:
        total.value += n
        return total.value

    flow.sink("totals", after=add, topic="totals")
    log, backend, counts = MemoryLog(), MemoryBackend(), Counts()
    await log.start()
    await log.ensure_topics([TopicSpec("numbers", 1, TopicKind.EXTERNAL)])
    await log.publish("numbers", 0, [OutRecord(b"k%d" % (i % KEYS), b"1", 1) for i in range(events)])
    encode, write = StateCache.encoded, type(backend.open("counted", 0, ["add"])).write

    def counting_encode(self: StateCache, state: Any) -> bytes | None:
        counts.state_encodes += 1
        return encode(self, state)

    def counting_write(self: Any, changes: Any, mark: Any) -> None:
        listed = {store: list(pairs) for store, pairs in changes.items()}
        counts.store_writes += bool(listed)
        counts.changes += sum(map(len, listed.values()))
        write(self, listed, mark)

    with (
        mock.patch.object(StateCache, "encoded", counting_encode),
        mock.patch.object(type(backend.open("counted", 0, ["add"])), "write", counting_write),
    ):
        async with Engine(flow, log=log, state=backend) as engine:
            await engine.wait(until_end=True)
            counts.commits = engine.statistics().flows["counted"].commits
    counts.outputs = await count(log, "totals")
    return counts


async def count(log: MemoryLog, topic: str) -> int:
    tp = TopicPartition(topic, 0)
    reader, end, seen = log.reader(), (await log.end_offsets([tp]))[tp], 0
    reader.assign({tp: 0})
    while reader.position(tp) < end:
        seen += sum(len(r) for r in (await reader.fetch()).values())
    return seen


async def test_state_is_written_once_per_key_and_commit() -> None:
    counts = await run_counted(EVENTS)
    assert counts.outputs == EVENTS
    assert counts.state_encodes == counts.changes, "a state is encoded once for changelog and store"
    assert counts.changes <= KEYS * counts.commits, "however many events changed it"
    assert counts.store_writes <= counts.commits, "one write to the store per commit"
    assert counts.commits <= 12, "a backlog is not committed event by event"


@pytest.mark.parametrize("events", [1, 1000])
async def test_a_commit_makes_as_many_batches_whatever_is_in_it(events: int) -> None:
    made: list[int] = []
    build = LocalBuilder.__init__

    def counting(self: LocalBuilder, *arguments: Any, **named: Any) -> None:
        made.append(1)
        build(self, *arguments, **named)

    with mock.patch.object(LocalBuilder, "__init__", counting):
        counts = await run_counted(events)
    # Outputs, changelog and lane record of each commit; the input, and the mark of the end.
    assert len(made) <= 3 * counts.commits + 3

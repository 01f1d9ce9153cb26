"""Keys that are prefixes of each other, hold separators, are empty, long, no text: each has its own state."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reflow_kafka import Event, Flow, clock
from reflow_kafka.engine.engine import Engine
from reflow_kafka.log.access import Access
from reflow_kafka.log.api import Headers, Log, OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.embedded import EmbeddedLog
from reflow_kafka.log.kafka.log import KafkaLog
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.serde.keys import encode_key, partition_of
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.rocks import RocksBackend
from tests.fuzz.effort import examples

DEADLINE = 60.0
PARTITIONS = 2
LONG = 64 * 1024

EXTREME = [
    *(b"", b"\0", b"\0\0", b"a", b"aa", b"a\0", b"a\0a", b"a/b", b"a.b", b"a:b", b"a|b", b"ab"),
    *(b"\xff", b"\xff\xff"),
    *(b"\xc3", b"\xc3\xa9", b"\xed\xa0\x80", b"lane", b"run", b"mark", b"null", b'"a"', b" ", b"\n"),
    *(b"x" * LONG, b"x" * (LONG - 1), b"x" * (LONG - 1) + b"\xff", b"\xff" * LONG),
]  # fmt: skip
HEADERS: Headers = [
    *[("twice", b"1"), ("twice", None), ("none", None), ("", b""), ("raw", b"\xff\xfe")],
    *[("reflow.correlation-id", b"\xff" * 10), ("reflow.reply-to", b"elsewhere/7")],
    *[("reflow.error.stage", b"\xff"), ("reflow.reply-from", b"\xff")],
]

keys = st.lists(st.sampled_from([b"a", b"\0", b"\xff", b"/", b".", b"\xc3", b""]), max_size=4).map(b"".join)


def keyed(name: str, source: str, *, fails: bool = False, concurrency: int = 1) -> Flow:
    """Counts per key, over an edge; then again under a key that the value holds."""
    flow = Flow(name, partitions=PARTITIONS)

    async def count(state: dict[str, Any], event: Event[dict[str, int]]) -> Event[dict[str, Any]]:
        state["n"] = state.get("n", 0) + 1
        state["key"] = (encode_key(event.key) or b"").hex()
        if fails and event.value["n"] % 3 == 0:
            raise ValueError("a third of them")
        return Event({"n": event.value["n"], "count": state["n"], "hex": state["key"]})

    def again(state: dict[str, int], event: Event[dict[str, Any]]) -> Event[dict[str, Any]]:
        state["n"] = state.get("n", 0) + 1
        return Event({**event.value, "again": state["n"], "twice": len(event.headers)}, key=event.key_bytes)

    counted = flow.stage(
        count, after=flow.source("read", topic=source), state=dict, concurrency=concurrency, on_error="skip"
    )
    flow.stage(again, after=counted, state=dict, key=lambda value: bytes.fromhex(value["hex"]))
    flow.sink("out", after="again", topic=f"{name}-out")
    return flow


async def write(log: Access, topic: str, found: list[bytes], first: int, headers: Headers) -> None:
    now = clock.now()  # what is older than a topic's retention may be gone before it is looked at
    for n, key in enumerate(found, first):
        record = OutRecord(key, orjson.dumps({"n": n}), now + n, headers)
        await log.publish(topic, partition_of(key, PARTITIONS), [record])


async def outputs(log: Log, topic: str) -> dict[bytes, list[dict[str, Any]]]:
    """Per key, in order; a key lies where every client of Kafka would look for it."""
    tps = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    ends, reader = await log.end_offsets(tps), log.reader(committed=True)
    reader.assign(await log.start_offsets(tps))
    found: dict[bytes, list[dict[str, Any]]] = defaultdict(list)
    while any(reader.position(tp) < ends[tp] for tp in tps):
        for tp, records in (await reader.fetch(timeout=0.5)).items():
            for r in records:
                assert r.key is not None
                assert partition_of(r.key, PARTITIONS) == tp.partition
                found[r.key].append(orjson.loads(r.value or b""))
    await reader.close()
    return found


async def run(log: Log, flow: Flow, state: Any) -> None:
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=state) as engine:
        await engine.wait(until_end=True)


async def check(
    log: Log,
    name: str,
    found: list[bytes],
    data: Path,
    headers: Headers,
    **options: Any,
) -> None:
    """Two runs, between which the state is restored from the changelogs."""
    source = f"{name}-in"
    await log.ensure_topics([TopicSpec(t, PARTITIONS, TopicKind.EXTERNAL) for t in (source, f"{name}-out")])
    state: Any = MemoryBackend()
    for turn in range(2):
        await write(log, source, found, turn * len(found), headers)
        if turn:
            state = RocksBackend(data)  # empty: restored in full
        engines = KafkaLog(log._bootstrap) if isinstance(log, KafkaLog) else log
        try:
            await run(engines, keyed(name, source, **options), state)
        finally:
            if engines is not log:
                await engines.stop()
    result = await outputs(log, f"{name}-out")
    given = [(key, n) for turn in range(2) for n, key in enumerate(found, turn * len(found))]
    good = [(key, n) for key, n in given if not options.get("fails") or n % 3]
    assert {key: [v["n"] for v in values] for key, values in result.items()} == _by_key(good)
    for key, values in result.items():
        wanted = list(range(1, len(values) + 1))
        assert [v["count"] for v in values] == wanted
        assert [v["again"] for v in values] == wanted
        assert {v["twice"] for v in values} <= {len(dict(headers))}
        assert {v["hex"] for v in values} == {key.hex()}
    # The same once more, from the local state alone.
    stores = {lane: state.open(name, lane, ["count", "again"]) for lane in range(PARTITIONS)}
    for key, number in Counter(key for key, _ in good).items():
        raw = stores[partition_of(key, PARTITIONS)].get("count", key)
        assert raw is not None
        assert orjson.loads(raw) == {"n": number, "key": key.hex()}
    for each in stores.values():
        each.close()


def _by_key(events: list[tuple[bytes, int]]) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = defaultdict(list)
    for key, n in events:
        found[key].append(n)
    return found


@pytest.mark.parametrize(("fails", "concurrency"), [(False, 1), (True, 4)])
@examples(4)
@example(found=EXTREME)
@given(found=st.lists(keys, min_size=1, max_size=20))
def test_in_memory(
    fails: bool, concurrency: int, tmp_path_factory: pytest.TempPathFactory, found: list[bytes]
) -> None:
    async def main() -> None:
        log = MemoryLog()
        await log.start()
        data = tmp_path_factory.mktemp("state")
        await check(log, "keys", found, data, HEADERS, fails=fails, concurrency=concurrency)
        shutil.rmtree(data)

    asyncio.run(main())


async def test_on_the_embedded_log(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log", serve=False)
    await log.start()
    try:
        await check(log, "keys", EXTREME * 2, tmp_path / "state", HEADERS)
    finally:
        await log.stop()


@pytest.mark.kafka
async def test_on_kafka(kafka_bootstrap: str, unique: str, tmp_path: Path) -> None:
    log = KafkaLog(kafka_bootstrap)
    await log.start()
    try:
        await check(log, unique, EXTREME * 2, tmp_path / "state", HEADERS)
    finally:
        await log.stop()

"""Plans meet topics: growth, shapes that change, edges that would be forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from reflow_kafka import Flow, Session, TopologyMismatch, Tumbling
from reflow_kafka.engine.engine import Engine
from reflow_kafka.engine.preparation import prepare
from reflow_kafka.log.api import OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from tests.support.waiting import until


async def started(partitions: int) -> MemoryLog:
    log = MemoryLog()
    await log.start()
    await log.ensure_topics([TopicSpec("numbers", partitions, TopicKind.EXTERNAL)])
    return log


async def run(flow: Flow, log: MemoryLog) -> None:
    async with Engine(flow, log=log, state=MemoryBackend()) as engine:
        await engine.wait(until_end=True)


async def publish(log: MemoryLog, partition: int, *values: int) -> None:
    await log.publish("numbers", partition, [OutRecord(b"%d" % n, b"%d" % n, 1000) for n in values])


async def outputs(log: MemoryLog, topic: str) -> int:
    count = (await log.partition_counts([topic]))[topic] or 0
    partitions = [TopicPartition(topic, p) for p in range(count)]
    reader = log.reader()
    reader.assign(dict.fromkeys(partitions, 0))
    ends = await log.end_offsets(partitions)
    seen = 0
    while any(reader.position(tp) < end for tp, end in ends.items()):
        seen += sum(map(len, (await reader.fetch()).values()))
    return seen


def doubling() -> Flow:
    flow = Flow("doubling", partitions=2)
    numbers = flow.source("numbers", topic="numbers")

    @flow.stage(after=numbers)
    def double(n: int) -> int:
        return 2 * n

    flow.sink("doubled", after=double, topic="doubled")
    return flow


async def test_a_stateless_flow_takes_the_lanes_of_a_topic_that_grew() -> None:
    log = await started(2)
    await publish(log, 1, 1, 2)
    await run(doubling(), log)
    await log.grow_topic("numbers", 4)
    await publish(log, 3, 3)
    await run(doubling(), log)
    assert await outputs(log, "doubled") == 3
    assert await log.partition_counts(["doubling.progress"]) == {"doubling.progress": 4}


async def test_state_cannot_follow_a_topic_that_grew() -> None:
    flow = Flow("summing", partitions=2)
    numbers = flow.source("numbers", topic="numbers")

    @flow.stage(after=numbers, state=list)
    def collect(seen: list[int], n: int) -> None:
        seen.append(n)

    log = await started(2)
    await publish(log, 0, 1)
    await run(flow, log)
    await log.grow_topic("numbers", 3)
    refusal = r"'numbers' has 3 partitions.*'collect' started when it had 2"
    with pytest.raises(TopologyMismatch, match=refusal):
        await prepare(flow.spec(), log)


async def test_nor_can_the_state_of_a_chained_stage() -> None:
    flow = doubling()
    log = await started(2)
    await run(flow, log)

    @flow.stage(after="double", chain=True, state=list)
    def collect(seen: list[int], n: int) -> None:
        seen.append(n)

    await log.grow_topic("numbers", 3)
    with pytest.raises(TopologyMismatch, match=r"stage 'collect' started when it had 2.*Give 'double' a key"):
        await prepare(flow.spec(), log)


def two_stages() -> Flow:
    flow = Flow("shape", partitions=2)
    numbers = flow.source("numbers", topic="numbers", key=str)

    @flow.stage(after=numbers)
    def first(n: int) -> int:
        return n

    flow.sink("firsts", after=first, topic="firsts")
    return flow


def other_stages() -> Flow:
    flow = Flow("shape", partitions=2)
    numbers = flow.source("numbers", topic="numbers", key=str)

    @flow.stage(after=numbers)
    def second(n: int) -> int:
        return n

    flow.sink("seconds", after=second, topic="seconds")
    return flow


async def test_an_edge_with_a_backlog_is_not_forgotten_by_accident() -> None:
    log = await started(2)
    await publish(log, 0, *range(5))
    await run(two_stages(), log)
    edge = "shape.numbers.first"
    await log.publish(edge, 0, [OutRecord(b"1", b"1", 1000)] * 4)  # as if a crash had left them unread
    with pytest.raises(TopologyMismatch, match=rf"{edge} \(about 4\).*--drop-edge {edge}"):
        await prepare(other_stages().spec(), log)
    await prepare(other_stages().spec(), log, drop_edges=[edge])


async def test_an_edge_without_backlog_may_go() -> None:
    log = await started(2)
    await publish(log, 0, *range(5))
    await run(two_stages(), log)
    await run(other_stages(), log)
    assert await outputs(log, "firsts") == 5


def keeping(**options: Any) -> Flow:
    flow = Flow("keeping", partitions=2)
    flow.source("numbers", topic="numbers")

    def collect(seen: list[int], n: int) -> None:
        seen.append(n)

    flow.stage(collect, after="numbers", state=list, **options)
    return flow


KINDS: dict[str, dict[str, Any]] = {
    "states of keys": {},
    "windows of Tumbling": {"window": Tumbling(60)},
    "windows of Session": {"window": Session(60, merge=lambda one, other: one + other)},
}


@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("after", KINDS)
async def test_what_was_kept_is_not_read_as_something_else(before: str, after: str) -> None:
    log = await started(2)
    await publish(log, 1, 1)
    async with Engine(keeping(**KINDS[before]), log=log, state=MemoryBackend()) as engine:
        await until(lambda: engine.statistics().flows["keeping"].stages["collect"].events == 1, "the event")
    await run(keeping(**KINDS[before]), log)
    if after == before:
        await run(keeping(**KINDS[after]), log)
        return
    refusal = (
        f"'collect' has kept {before} in keeping.collect.changelog; .* as {after}: give the stage another"
    )
    with pytest.raises(TopologyMismatch, match=refusal):
        await prepare(keeping(**KINDS[after]).spec(), log)
    await prepare(doubling().spec(), log)


async def test_states_with_timers_or_a_time_to_live_are_read_as_states() -> None:
    log = await started(2)
    await publish(log, 1, 1)
    for options in ({}, {"ttl": 60}, {"on_timer": lambda state, timer: None}, {"stores": {"one": int}}, {}):
        await run(keeping(**options), log)


async def test_a_stage_that_has_kept_nothing_may_keep_anything() -> None:
    log = await started(2)
    for options in KINDS.values():
        await run(keeping(**options), log)

"""Events that fail, and positions that do not fit: what becomes of them, and of everything else."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from reflow_kafka import BrokerUnavailable, DataLoss, Event, Flow, FlowStopped, Reject, State
from reflow_kafka.engine.engine import Engine
from reflow_kafka.errors import LogDoubt
from reflow_kafka.lane import serial, worker
from reflow_kafka.lane.pace import Pace
from reflow_kafka.log.api import Commit, CommittedPosition, TopicPartition
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import (
    DEADLINE,
    error_of,
    new_log,
    numbers,
    others,
    put,
    records,
    run,
    until_seen,
    values,
)


def failing(shape: str = "def", **options: Any) -> Flow:
    """Sums the numbers of each key; 13 fails after it was added, 7 is rejected."""
    flow = Flow("f", partitions=2)
    read = flow.source("read", topic="in")

    def add(sum: State[int], value: dict[str, int]) -> dict[str, int]:
        sum.value += value["n"]
        if value["n"] == 13:
            raise ValueError("unlucky")
        if value["n"] == 7:
            raise Reject("no sevens")
        return {"sum": sum.value}

    async def add_async(sum: State[int], value: dict[str, int]) -> dict[str, int]:
        await asyncio.sleep(0)
        return add(sum, value)

    handle = flow.stage(
        add if shape == "def" else add_async,
        name="add", after=read, state=lambda: 0, **options,
    )  # fmt: skip
    flow.sink("out", after=handle, topic="out")
    return flow


def sums(numbers: list[int]) -> list[dict[str, int]]:
    return [{"sum": sum(numbers[: at + 1])} for at in range(len(numbers))]


@pytest.mark.parametrize("shape", ["def", "async def"])
async def test_a_failing_event_leaves_nothing_but_its_dead_letter(shape: str) -> None:
    log = await new_log("in")
    await put(log, "in", *numbers(20, "a"))
    engine = await run(log, failing(shape))
    assert await values(log, "out") == sums([n for n in range(20) if n not in (7, 13)])
    rejected, failed = await records(log, "f.dead-letters")
    assert (rejected.key, rejected.value, rejected.timestamp) == (b"a", b'{"n":7}', 1_000)
    assert error_of(rejected, "type") == "reflow_kafka.errors.Reject"
    assert (failed.key, failed.value) == (b"a", b'{"n":13}')
    facts = ("flow", "stage", "topic", "offset", "type", "message")
    assert [error_of(failed, fact) for fact in facts] == ["f", "add", "in", "13", "ValueError", "unlucky"]
    assert "in add" in error_of(failed, "traceback")
    assert engine.statistics().flows["f"].stages["add"].events == 20


async def test_skipped_events_are_forgotten_but_rejected_ones_are_not() -> None:
    log = await new_log("in")
    await put(log, "in", *numbers(20, "a"))
    await run(log, failing(on_error="skip"))
    assert await values(log, "out") == sums([n for n in range(20) if n not in (7, 13)])
    assert await values(log, "f.dead-letters") == [{"n": 7}]


async def test_a_function_says_what_becomes_of_failing_events() -> None:
    log = await new_log("in")
    await put(log, "in", *numbers(15, "a"))

    def instead(error: Exception, event: Event[Any]) -> dict[str, Any]:
        return {"instead": event.value["n"] * len(str(error)) * len(event.key)}

    await run(log, failing(on_error=instead))
    assert (await values(log, "out"))[12:] == [{"instead": 13 * 7}, {"sum": 85}]
    assert await values(log, "f.dead-letters") == [{"n": 7}]


async def test_a_function_that_fails_itself_makes_a_dead_letter() -> None:
    log = await new_log("in")
    await put(log, "in", ("a", {"n": 13}), ("a", {"n": 1}))
    await run(log, failing(on_error=lambda error, event: 1 / 0))
    assert await values(log, "out") == [{"sum": 1}]
    (letter,) = await records(log, "f.dead-letters")
    assert error_of(letter, "type") == "ZeroDivisionError"
    assert "unlucky" in error_of(letter, "traceback")


async def test_failing_events_go_to_the_error_output_if_something_follows_it() -> None:
    log = await new_log("in")
    await put(log, "in", *numbers(15, "a"))
    flow = failing()
    flow.sink("failed", after="add.error", topic="failed")
    await run(log, flow)
    assert await values(log, "failed") == [{"n": 7}, {"n": 13}]
    assert error_of((await records(log, "failed"))[1], "message") == "unlucky"
    assert await values(log, "f.dead-letters") == []


async def test_a_stage_can_stop_the_flow() -> None:
    log = await new_log("in")
    await put(log, "in", *((("a", {"n": n})) for n in (1, 2, 13, 4)))
    with pytest.raises(FlowStopped, match=r"'add' stopped the flow.*unlucky.*in\[\d\]@2"):
        await run(log, failing(on_error="stop"))
    assert await values(log, "f.dead-letters") == []
    assert not others()


async def test_what_cannot_be_processed_is_kept_as_it_came() -> None:
    log = await new_log("in")
    await put(log, "in", ("a", b"{no json"), (None, {"n": 1}), ("a", {"n": 2}), ("a", b"x" * 1_010_000))
    await run(log, failing())
    assert await values(log, "out") == [{"sum": 2}]
    letters = {error_of(r, "offset") + error_of(r, "type").rpartition(".")[2]: r for r in
               await records(log, "f.dead-letters")}  # fmt: skip
    found = {name: letter.value for name, letter in letters.items()}
    partition = next(int(error_of(r, "partition")) for r in letters.values() if r.key == b"a")
    first, second, last = (0, 0, 2) if partition else (0, 1, 3)
    assert found == {
        f"{first}DecodeError": b"{no json",
        f"{second}MissingKey": b'{"n":1}',
        f"{last}DecodeError": None,  # no topic surely takes it a second time
    }
    assert error_of(letters[f"{last}DecodeError"], "omitted") == "1010001"


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("sinks", [1, 2])
async def test_an_oversized_result_fails_its_event(suspends: bool, sinks: int) -> None:
    log = await new_log("in")
    await put(log, "in", ("a", {"n": 1}), ("a", {"n": 1_000_001}), ("a", {"n": 2}))
    flow = Flow("f", partitions=2)

    def grow(sizes: list[int], value: dict[str, int]) -> dict[str, Any]:
        sizes.append(value["n"])
        return {"sizes": [*sizes], "text": "x" * value["n"]}

    async def grow_async(sizes: list[int], value: dict[str, int]) -> dict[str, Any]:
        return grow(sizes, value)

    handle = flow.stage(
        grow_async if suspends else grow, name="grow", after=flow.source("read", topic="in"), state=list
    )
    for n in range(sinks):
        flow.sink(f"out{n}", after=handle, topic=f"out{n}")
    await run(log, flow)
    for n in range(sinks):
        assert [value["sizes"] for value in await values(log, f"out{n}")] == [[1], [1, 2]]
    (letter,) = await records(log, "f.dead-letters")
    assert error_of(letter, "type").endswith("OversizedOutput")


@pytest.mark.parametrize("dirty", [0, 20_000])
async def test_the_event_that_made_state_unencodable_is_found(
    dirty: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MAX_DIRTY", dirty)  # 0: the worker waits for a commit between two slices
    monkeypatch.setattr(serial, "SLICE", 0.0)  # and slices shrink to one event
    log = await new_log("in", partitions=1)
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), state=list)
    def collect(seen: list[Any], value: dict[str, int]) -> dict[str, Any]:
        seen.append(object() if value["n"] in (5, 11) else value["n"])
        return {"seen": [n for n in seen if isinstance(n, int)]}

    flow.sink("out", after=collect, topic="out")
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()):
        await put(log, "in", ("a", {"n": 0}))
        await until_seen(log, "out", 1)
        await put(log, "in", *((f"{n % 4}", {"n": n}) for n in range(1, 40)))
        await until_seen(log, "out", 38)
    assert await values(log, "f.dead-letters") == [{"n": 5}, {"n": 11}]
    last = {(r.key or b"").decode(): r.value for r in await records(log, "f.collect.changelog")}
    wanted = {str(k): [n for n in range(1, 40) if n % 4 == k and n not in (5, 11)] for k in range(4)}
    assert last == {"a": b"[0]", **{k: str(ns).replace(" ", "").encode() for k, ns in wanted.items()}}
    assert len(await values(log, "out")) == 38


async def test_a_run_does_not_end_before_its_last_events_are_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until then a worker may have to go back: here over the last event, whose state cannot be encoded."""
    monkeypatch.setattr(Pace, "due", lambda self, **_: None if self._since is None else self._since + 1.0)
    log = await new_log("in", partitions=1)
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), state=list)
    def collect(seen: list[Any], value: dict[str, int]) -> dict[str, int]:
        seen.append(value["n"] if value["n"] < 3_000 else object())
        return value

    flow.sink("out", after=collect, topic="out")
    await put(log, "in", *numbers(3_001, "abcdef"))
    await run(log, flow)
    assert [value["n"] for value in await values(log, "out")] == list(range(3_000))
    assert await values(log, "f.dead-letters") == [{"n": 3_000}]


async def commit_position(log: MemoryLog, topic: str, at: int) -> None:
    """What an operator does with Kafka's tools."""
    writer = await log.take_over("f", 0)
    await writer.commit(Commit({}, {TopicPartition(topic, 0): CommittedPosition(at)}))
    await writer.close()


async def test_an_operator_may_move_positions(caplog: pytest.LogCaptureFixture) -> None:
    log, disk = await new_log("in", partitions=1), MemoryBackend()
    await put(log, "in", *numbers(4, "a"))
    await run(log, failing(), state=disk)
    await commit_position(log, "in", 2)
    await run(log, failing(), state=disk)
    assert await values(log, "out") == sums([0, 1, 2, 3, 2, 3])
    assert "somebody moved it" in caplog.text


async def test_events_lost_between_stages_stop_the_flow() -> None:
    log = await new_log("in", partitions=1)
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), key="n")
    def add(value: dict[str, int]) -> dict[str, int]:
        return value

    flow.sink("out", after=add, topic="out")
    await put(log, "in", *numbers(4, "a"))
    await run(log, flow)
    await commit_position(log, "f.read.add", 9)
    with pytest.raises(DataLoss, match=r"position 9 of f\.read\.add\[0\]"):
        await run(log, flow)


@pytest.mark.parametrize(("reset", "wanted"), [("earliest", [6, 7]), ("none", None)])
async def test_events_that_a_source_no_longer_has(reset: Any, wanted: list[int] | None) -> None:
    log = await new_log("in", partitions=1)
    flow = Flow("f", partitions=1)
    flow.sink("out", after=flow.source("read", topic="in", auto_offset_reset=reset), topic="out")
    await put(log, "in", *numbers(8, "a"))
    await commit_position(log, "in", 2)
    await log.trim({TopicPartition("in", 0): 6})
    if wanted is None:
        with pytest.raises(DataLoss, match="position 2"):
            await run(log, flow)
    else:
        await run(log, flow)
        assert [value["n"] for value in await values(log, "out")] == wanted


async def test_topics_that_nobody_tells_of_are_told_as_brokers_that_are_away() -> None:
    class Silent(MemoryLog):
        async def partition_counts(self, topics: Collection[str]) -> dict[str, int | None]:
            raise LogDoubt("asking for topics did not finish within 15 s")

    with pytest.raises(BrokerUnavailable, match="the flow cannot start: asking for topics did not finish"):
        await Engine(failing(), log=Silent(), state=MemoryBackend()).__aenter__()

"""Stages that a program drives: what a step changes counts as a whole, and what time brings comes once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from reflow_kafka import Event, Flow, Reject, Retry, State, Tumbling, Window
from reflow_kafka.definition.handlers import read_handler
from reflow_kafka.definition.operators import Operator
from reflow_kafka.definition.place import callers_place
from reflow_kafka.definition.spec import FlowSpec
from reflow_kafka.engine.engine import Engine
from reflow_kafka.engine.statistics import StageStatistics
from reflow_kafka.lane import due, timed
from reflow_kafka.lane.programs import Materials, make_program
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.ordered import number, read_number, read_text, text
from reflow_kafka.timed.program import Act, Call, Due, Emit, Incoming, Program
from tests.engine.memory import by_key, error_of, new_log, put, records, run, until_seen
from tests.support.waiting import until

WITHIN = 10
"""Milliseconds after its first event at which a key is settled."""


@dataclass(frozen=True, slots=True)
class Tallied(Operator):
    """Sums the values of a key until the watermark is `WITHIN` past the first of them."""


class Tally:
    """Calls the handler with the value of each event, and ``on_close`` with the sum at the end."""

    def __init__(self, materials: Materials) -> None:
        self.sums = materials.shelf(b"s", lambda n: b"%d" % n, int)
        self.dues = materials.shelf(b"d", bytes, bytes)

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        key = incoming.key or b""
        if incoming.timestamp + WITHIN <= watermark:
            yield Emit(Event(incoming.value, to="late"), key, incoming.timestamp, incoming.headers)
            return
        total = self.sums.get(key)
        if total is None:
            total = 0
            self.dues.put(number(incoming.timestamp + WITHIN) + text(key), b"")
        self.sums.put(key, total + incoming.value)  # before the call: a failure must undo it
        yield Call((incoming.value,), key, incoming.timestamp, incoming.headers)

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        for id in self.dues.keys():  # noqa: SIM118
            at = read_number(id)
            if at > watermark:
                return None
            if id not in put_off:
                key, _ = read_text(id, 8)
                return Due(id, at, self._close(id, at, key), key)
        return None

    def _close(self, id: bytes, at: int, key: bytes) -> Iterator[Act]:
        total = self.sums.get(key)
        self._forget(id, key)
        yield Call((total,), key, at, code="on_close")

    def _forget(self, id: bytes, key: bytes) -> None:
        self.sums.delete(key)
        self.dues.delete(id)

    def wake(self, now: int) -> int | None:
        return None

    def tell(self, id: bytes) -> str:
        return f"total at {read_number(id)}"

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        key, _ = read_text(id, 8)
        total = self.sums.get(key)
        self._forget(id, key)
        return key, total

    def holds(self, watermark: int) -> int:
        return watermark

    def pending(self) -> bool:
        return self.dues.first() is not None

    def rewound(self) -> None:
        pass


@make_program.register
def _(operator: Tallied, materials: Materials) -> Program:
    return Tally(materials)


def closed(total: int) -> dict[str, int]:
    return {"total": total}


class TimedFlow(Flow):
    """A flow whose stage ``tally`` is timed."""

    on_close: Callable[..., Any] = staticmethod(closed)

    def spec(self) -> FlowSpec:
        spec = super().spec()
        code = read_handler(self.on_close, ("total",), stage="tally", place=callers_place())
        return replace(
            spec,
            stages=tuple(
                replace(s, operator=Tallied(), codes={"on_close": replace(code, by_name=())})
                if s.name == "tally"
                else s
                for s in spec.stages
            ),
        )


def flow_of(handler: Callable[..., Any], on_close: Callable[..., Any] = closed, **options: Any) -> TimedFlow:
    flow = TimedFlow("sums", partitions=2)
    flow.on_close = on_close  # type: ignore[method-assign]
    flow.source("numbers", topic="numbers")
    flow.stage(handler, name="tally", after="numbers", key=None, **options)
    flow.sink("out", after="tally", topic="out")
    return flow


def quiet(value: int):  # type: ignore[no-untyped-def]
    return None


async def numbers(log: MemoryLog, *events: tuple[str, int, int]) -> None:
    """Events as (key, value, timestamp)."""
    for key, value, timestamp in events:
        await put(log, "numbers", (key, value), timestamp=timestamp)


def stage(engine: Engine) -> StageStatistics:
    return engine.statistics().flows["sums"].stages["tally"]


async def test_the_end_of_a_run_brings_what_was_left() -> None:
    log = await new_log("numbers", "out")
    await numbers(log, ("a", 1, 100), ("b", 5, 100), ("a", 2, 105))
    await run(log, flow_of(quiet))
    assert await by_key(log, "out") == {"a": [{"total": 3}], "b": [{"total": 5}]}


async def test_the_watermark_closes_and_what_comes_later_is_late() -> None:
    log = await new_log("numbers", "out", "late")
    flow = flow_of(lambda value: {"seen": value}, outputs=["late"])
    flow.sink("late", after="tally.late", topic="late")
    await numbers(log, ("a", 1, 100), ("a", 2, 120), ("a", 4, 90), ("a", 8, 111))
    await run(log, flow)
    assert (await by_key(log, "out"))["a"] == [
        {"seen": 1},
        {"seen": 2},
        {"total": 3},
        {"seen": 8},
        {"total": 8},
    ]
    assert await by_key(log, "late") == {"a": [4]}


@pytest.mark.parametrize("waits", [False, True])
async def test_a_failing_handler_leaves_no_trace(waits: bool) -> None:
    log = await new_log("numbers", "out")
    failures = [0]

    def fail_once(value: int) -> Any:
        if value == 2 and failures[0] < 2:
            failures[0] += 1
            raise OSError("away")
        if value == 3:
            raise Reject("bad")

    async def fail_later(value: int) -> Any:
        await asyncio.sleep(0)
        fail_once(value)

    flow = flow_of(fail_later if waits else fail_once, retry=Retry(attempts=3, backoff=0.01))
    await numbers(log, ("a", 1, 100), ("a", 2, 101), ("a", 3, 102), ("a", 4, 103), ("b", 9, 500))
    await run(log, flow)
    assert failures == [2]
    assert await by_key(log, "out") == {"a": [{"total": 7}], "b": [{"total": 9}]}
    (letter,) = await records(log, "sums.dead-letters")
    assert (letter.value, error_of(letter, "message")) == (b"3", "bad")


@pytest.mark.parametrize("waits", [False, True])
async def test_what_fails_when_its_time_has_come_is_tried_again_and_given_up(waits: bool) -> None:
    log = await new_log("numbers", "out")
    tries: list[int] = []

    def close(total: int) -> dict[str, int]:
        tries.append(total)
        if total == 1 or (total == 2 and tries.count(2) < 3):
            raise OSError("away")
        return {"total": total}

    async def close_later(total: int) -> dict[str, int]:
        await asyncio.sleep(0)
        return close(total)

    flow = flow_of(quiet, close_later if waits else close, retry=Retry(attempts=3, backoff=0.01))
    await numbers(log, ("a", 1, 100), ("b", 2, 100), ("c", 3, 100))
    await run(log, flow)
    assert await by_key(log, "out") == {"b": [{"total": 2}], "c": [{"total": 3}]}
    (letter,) = await records(log, "sums.dead-letters")
    assert (letter.key, letter.value, error_of(letter, "attempts")) == (b"a", b"1", "3")
    assert sorted(tries) == [1, 1, 1, 2, 2, 2, 3]


async def test_nothing_closes_while_an_event_waits_that_may_belong_there() -> None:
    log = await new_log("numbers", "out", partitions=1)
    away = asyncio.Event()

    async def handler(value: int) -> Any:
        if value == 2 and not away.is_set():
            raise OSError("away")

    flow = flow_of(handler, retry=Retry(attempts=None, backoff=0.01, max_backoff=0.01))
    await numbers(log, ("a", 1, 100), ("a", 2, 105), ("b", 7, 1_000), ("b", 8, 2_000))
    async with Engine(flow, log=log, state=MemoryBackend()) as engine:
        await until(lambda: stage(engine).retries > 3, "three tries")
        assert await by_key(log, "out") == {}
        away.set()
        await until_seen(log, "out", 2)
    assert await by_key(log, "out") == {"a": [{"total": 3}], "b": [{"total": 15}]}


async def test_after_a_restart_it_goes_on_where_it_was() -> None:
    log, state = await new_log("numbers", "out", partitions=1), MemoryBackend()
    await numbers(log, ("a", 1, 100), ("b", 2, 105))
    async with Engine(flow_of(quiet), log=log, state=state) as engine:
        await until(lambda: stage(engine).events == 2, "both events")
    assert await by_key(log, "out") == {}
    await numbers(log, ("a", 4, 103), ("c", 8, 112))
    async with Engine(flow_of(quiet), log=log, state=state) as engine:
        await until_seen(log, "out", 1)
    assert await by_key(log, "out") == {"a": [{"total": 5}]}


async def test_what_is_due_is_done_even_if_a_slice_is_over_before_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "SLICE", -1.0)  # as if the machine had done something else
    log = await new_log("numbers", "out")
    await numbers(log, *((key, 1, 100) for key in "abc"))
    await run(log, flow_of(quiet))
    assert await by_key(log, "out") == {key: [{"total": 1}] for key in "abc"}


async def test_more_comes_due_at_once_than_may_wait_for_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed, "MAX_DIRTY", 1)
    log = await new_log("numbers", "out")
    await numbers(log, *((key, 1, 100) for key in "abcdefgh"))
    await run(log, flow_of(quiet))
    assert await by_key(log, "out") == {key: [{"total": 1}] for key in "abcdefgh"}


async def test_what_a_waiting_step_changes_does_not_count_before_its_end() -> None:
    """While the end of a window is told of, commits take what else there is."""
    log = await new_log("numbers", "out", partitions=1)
    released = asyncio.Event()
    ends: list[int] = []

    async def told(total: State[int], window: Window) -> dict[str, int]:
        ends.append(window.end)
        await released.wait()
        return {"total": total.value}

    def add(total: State[int], value: int) -> None:
        total.value += value

    flow = Flow("sums", partitions=1)
    flow.source("numbers", topic="numbers")
    flow.stage(
        add, name="tally", after="numbers", key=lambda value: "all",
        window=Tumbling(0.1), state=lambda: 0, on_close=told,
    )  # fmt: skip
    flow.sink("out", after="tally", topic="out")
    await numbers(log, ("a", 1, 100), ("a", 2, 200))
    async with Engine(flow, log=log, state=MemoryBackend()) as engine:
        await until(lambda: stage(engine).in_progress == 1, "the end of the first window")
        before = engine.statistics().flows["sums"].commits
        await numbers(log, ("a", 4, 250))
        await until(lambda: engine.statistics().flows["sums"].commits > before, "a commit of something else")
        released.set()
        await numbers(log, ("a", 8, 300))
        await until_seen(log, "out", 2)
    assert await by_key(log, "out") == {"all": [{"total": 1}, {"total": 6}]}
    assert ends == [200, 300]

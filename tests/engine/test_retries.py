"""Events that are tried again, on the memory log: which, how often, in which order, and what follows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest

from reflow_kafka import Batch, Context, Event, Flow, FlowStopped, Reject, Retry, RetryLater, State
from reflow_kafka.engine.engine import Engine
from reflow_kafka.lane import serial
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import (
    DEADLINE,
    by_key,
    error_of,
    new_log,
    others,
    put,
    records,
    run,
    until_seen,
    values,
)
from tests.engine.service import Tries, mark

SOON = Retry(3, backoff=0)
FOR_EVER = Retry(None, backoff=0)
SHAPES = ["def", "generator", "async", "async generator", "overlapping"]
"""How a handler may be written and run; the rules are the same for all."""


def trying(shape: str, tries: Callable[[int, int], None], **options: Any) -> Flow:
    """Sums the numbers of each key. Each event is tried as `tries` says, after it was added."""
    flow = Flow("f", partitions=1)

    def work(sum: State[int], value: dict[str, int], ctx: Context) -> dict[str, int]:
        sum.value += value["n"]
        tries(value["n"], ctx.attempt)
        return {**value, "sum": sum.value}

    def generator(sum: State[int], value: dict[str, int], ctx: Context) -> Iterator[dict[str, int]]:
        yield work(sum, value, ctx)

    async def coroutine(sum: State[int], value: dict[str, int], ctx: Context) -> dict[str, int]:
        await asyncio.sleep(0)
        return work(sum, value, ctx)

    async def async_generator(
        sum: State[int], value: dict[str, int], ctx: Context
    ) -> AsyncIterator[dict[str, int]]:
        await asyncio.sleep(0)
        yield work(sum, value, ctx)

    handlers = {
        "def": work,
        "generator": generator,
        "async": coroutine,
        "async generator": async_generator,
        "overlapping": coroutine,
    }
    if shape == "overlapping":
        options["concurrency"] = 4
    read = flow.source("read", topic="in")
    handler: Any = handlers[shape]
    stage = flow.stage(handler, name="add", after=read, state=lambda: 0, **({"retry": SOON} | options))
    flow.sink("out", after=stage, topic="out")
    return flow


def sums(numbers: Sequence[int]) -> list[dict[str, int]]:
    return [{"n": n, "sum": sum(numbers[: at + 1])} for at, n in enumerate(numbers)]


def alternating(count: int) -> list[tuple[str, dict[str, int]]]:
    """Even numbers under one key, odd ones under another."""
    return [("ab"[n % 2], {"n": n}) for n in range(count)]


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_event_that_succeeds_later_leaves_no_trace_of_its_failures(shape: str) -> None:
    log = await new_log("in", partitions=1)
    tries = Tries({4: [ValueError(), OSError()], 6: [ValueError()]})
    await put(log, "in", *alternating(12))
    engine = await run(log, trying(shape, tries))
    assert await by_key(log, "out") == {"a": sums(range(0, 12, 2)), "b": sums(range(1, 12, 2))}
    assert tries.attempts[4] == [1, 2, 3]
    assert tries.attempts[6] == [1, 2]
    assert await values(log, "f.dead-letters") == []
    assert engine.statistics().flows["f"].stages["add"].retries == 3


@pytest.mark.parametrize("shape", SHAPES)
async def test_while_an_event_waits_only_its_key_waits(shape: str) -> None:
    log, failing = await new_log("in", partitions=1), {4}

    def tries(n: int, attempt: int) -> None:
        if n in failing:
            raise OSError("away")

    await put(log, "in", *alternating(20))
    flow = trying(shape, tries, retry=Retry(None, backoff=0.01, max_backoff=0.01))
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "out", 12)
        assert await by_key(log, "out") == {"a": sums([0, 2]), "b": sums(range(1, 20, 2))}
        failing.clear()
        await until_seen(log, "out", 20)
    assert await by_key(log, "out") == {"a": sums(range(0, 20, 2)), "b": sums(range(1, 20, 2))}


@pytest.mark.parametrize("shape", SHAPES)
async def test_tries_used_up(shape: str) -> None:
    log = await new_log("in", partitions=1)
    tries = Tries({4: [ValueError(f"{n}") for n in range(9)]})
    await put(log, "in", *alternating(12))
    await run(log, trying(shape, tries))
    (letter,) = await records(log, "f.dead-letters")
    assert (letter.key, letter.value) == (b"a", b'{"n":4}')
    assert error_of(letter, "attempts") == "3"
    assert error_of(letter, "message") == "2"
    assert tries.attempts[4] == [1, 2, 3]
    assert await by_key(log, "out") == {"a": sums([0, 2, 6, 8, 10]), "b": sums(range(1, 12, 2))}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("retry", "errors", "attempts"),
    [
        (Retry(1), [ValueError()], [1]),
        (Retry(5, backoff=0, on=OSError), [ValueError()], [1]),
        (Retry(5, backoff=0, on=(OSError, KeyError)), [KeyError(), TimeoutError(), ValueError()], [1, 2, 3]),
        (Retry(5, backoff=0), [Reject()], [1]),
        (Retry(5, backoff=0), [ValueError(), Reject()], [1, 2]),
        (Retry(2, backoff=0), [ValueError(), RetryLater(0), RetryLater(0), ValueError()], [1, 2, 2, 2]),
        (Retry(1), [RetryLater(0), RetryLater(0), ValueError()], [1, 1, 1]),
    ],
)  # fmt: skip
async def test_which_failures_are_tried_again(
    shape: str, retry: Retry, errors: list[Exception], attempts: list[int]
) -> None:
    log, tries = await new_log("in", partitions=1), Tries({2: list(errors)})
    await put(log, "in", *alternating(6))
    await run(log, trying(shape, tries, retry=retry))
    (letter,) = await records(log, "f.dead-letters")
    assert tries.attempts[2] == attempts
    assert error_of(letter, "attempts") == str(attempts[-1])
    assert error_of(letter, "type").endswith(type(errors[-1]).__name__)
    assert await by_key(log, "out") == {"a": sums([0, 4]), "b": sums([1, 3, 5])}


@pytest.mark.parametrize("shape", SHAPES)
async def test_tried_for_ever(shape: str, caplog: pytest.LogCaptureFixture) -> None:
    log, tries = await new_log("in", partitions=1), Tries({2: [OSError("away") for _ in range(50)]})
    await put(log, "in", *alternating(6))
    await run(log, trying(shape, tries, retry=FOR_EVER))
    assert tries.attempts[2] == list(range(1, 52))
    assert await by_key(log, "out") == {"a": sums([0, 2, 4]), "b": sums([1, 3, 5])}
    told = [r.getMessage() for r in caplog.records if "again in" in r.getMessage()]
    assert 1 <= len(told) <= 4, "an outage must not fill the log"
    assert "event in[0]@2 failed (OSError: away), try 1; again in 0.0 s" in told[0]


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_becomes_of_an_event_whose_tries_are_used_up(shape: str) -> None:
    def failing() -> Tries:
        return Tries({2: [ValueError("bad") for _ in range(9)]})

    def instead(error: Exception, event: Event[dict[str, int]]) -> dict[str, Any]:
        return {**event.value, "sum": -len(str(error))}

    async def outcome(follow: bool = False, **options: Any) -> MemoryLog:
        log = await new_log("in", partitions=1)
        await put(log, "in", *alternating(6))
        flow = trying(shape, tries := failing(), **options)
        if follow:
            flow.sink("failed", after="add.error", topic="failed")
        await run(log, flow)
        assert tries.attempts[2] == [1, 2, 3]
        return log

    log = await outcome(on_error="skip")
    assert await by_key(log, "out") == {"a": sums([0, 4]), "b": sums([1, 3, 5])}
    assert await values(log, "f.dead-letters") == []
    log = await outcome(on_error=instead)
    assert (await by_key(log, "out"))["a"] == [*sums([0]), {"n": 2, "sum": -3}, *sums([0, 4])[1:]]
    log = await outcome(follow=True)
    (failed,) = await records(log, "failed")
    assert (failed.value, error_of(failed, "attempts")) == (b'{"n":2}', "3")
    with pytest.raises(FlowStopped, match=r"'add' stopped the flow.*bad"):
        await outcome(on_error="stop")
    assert not others()


async def test_what_fails_outside_the_handler_is_not_tried_again() -> None:
    log, calls = await new_log("in", partitions=1), []
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("read", topic="in"), retry=SOON)
    def convert(value: dict[str, int]) -> object:
        calls.append(value["n"])
        return object() if value["n"] == 1 else value

    flow.sink("out", after=convert, topic="out")
    await put(log, "in", ("a", {"n": 0}), ("a", b"{no json"), ("a", {"n": 1}), ("a", {"n": 2}))
    await run(log, flow)
    assert calls == [0, 1, 2]
    assert [error_of(r, "attempts") for r in await records(log, "f.dead-letters")] == ["1", "1"]


@pytest.mark.parametrize("first", [Reject("never"), ValueError("not one to try again")])
async def test_one_event_of_a_batch_takes_no_tries_from_the_others(first: Exception) -> None:
    """The batch is given up at once for its sake; the others have failed once, or not even that."""
    flow, tries = Flow("f", partitions=1), Tries({0: [first] * 9, 1: [OSError()], 2: [OSError(), OSError()]})

    @flow.stage(
        after=flow.source("read", topic="in"),
        batch=Batch(4, within=0.01),
        retry=Retry(3, backoff=0, on=OSError),
    )
    def work(numbers: list[int], ctx: Context) -> list[int]:
        for n in numbers:
            tries(n, ctx.attempt)
        return numbers

    flow.sink("out", after=work, topic="out")
    log = await new_log("in", partitions=1)
    await put(log, "in", *((f"key-{n}", n) for n in range(4)))
    await run(log, flow)
    assert await values(log, "f.dead-letters") == [0]
    assert await values(log, "out") == [1, 2, 3]
    assert tries.attempts[2] == [1, 2, 3]


@pytest.mark.parametrize("per_key", [False, True])
async def test_an_event_of_a_batch_that_waits_holds_up_its_key_only(per_key: bool) -> None:
    flow, healthy = Flow("f", partitions=1), asyncio.Event()

    @flow.stage(
        after=flow.source("read", topic="in"),
        batch=Batch(8, within=0.01, per_key=per_key),
        retry=Retry(None, backoff=0.01, max_backoff=0.01, on=OSError),
    )
    async def work(events: list[dict[str, int]]) -> list[dict[str, int]]:
        if not healthy.is_set() and any(event["n"] == 6 for event in events):
            raise OSError("away") if len(events) == 1 else ValueError("one of them")
        return events

    flow.sink("out", after=work, topic="out")
    log = await new_log("in", partitions=1)
    await put(log, "in", *alternating(40))
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()) as engine:
        await until_seen(log, "out", 23)  # all of the other key, and those before it
        healthy.set()
        await engine.wait(until_end=True)
    odd, even = ([{"n": n} for n in range(first, 40, 2)] for first in (1, 0))
    assert await by_key(log, "out") == {"a": even, "b": odd}


async def test_a_retry_does_not_wait_for_all_that_has_been_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "SLICE", 0.0)
    log, tried = await new_log("in", partitions=1), []
    await put(log, "in", *((f"key-{n}", {"n": n}) for n in range(200)))

    def tries(n: int, attempt: int) -> None:
        tried.append((n, attempt))
        if (n, attempt) == (0, 1):
            raise OSError("away")

    await run(log, trying("def", tries, retry=SOON))
    assert tried.index((0, 2)) < 50
    assert len(await values(log, "out")) == 200


async def test_the_flow_says_how_its_stages_are_tried() -> None:
    log, tries = await new_log("in", partitions=1), Tries({0: [ValueError() for _ in range(9)]})
    flow = Flow("f", partitions=1, retry=Retry(5, backoff=0), on_error="skip")

    @flow.stage(after=flow.source("read", topic="in"))
    def convert(value: dict[str, int], ctx: Context) -> None:
        tries(value["n"], ctx.attempt)

    await put(log, "in", *alternating(2))
    await run(log, flow)
    assert tries.attempts == {0: [1, 2, 3, 4, 5], 1: [1]}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("keep", [True, False])
async def test_a_restart_loses_no_event_that_waits_and_keeps_its_place(shape: str, keep: bool) -> None:
    log, disk, away = await new_log("in", partitions=1), MemoryBackend(keep=keep), [True]
    calls: list[int] = []

    def tries(n: int, attempt: int) -> None:
        calls.append(n)
        if n == 4 and away:
            raise OSError("away")

    await put(log, "in", *alternating(20))
    retry = Retry(None, backoff=60, max_backoff=60)
    async with asyncio.timeout(DEADLINE):
        async with Engine(trying(shape, tries, retry=retry), log=log, state=disk) as engine:
            await until_seen(log, "out", 12)
            engine.abort()
    assert await mark(log, "in") == Mark(4, tuple((n, n + 1) for n in range(5, 20, 2)))
    calls.clear()
    away.clear()
    await run(log, trying(shape, tries, retry=retry), state=disk)
    assert calls == list(range(4, 20, 2)), "all that was not finished, and nothing else"
    assert await by_key(log, "out") == {"a": sums(range(0, 20, 2)), "b": sums(range(1, 20, 2))}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_stop_does_not_wait_for_retries(shape: str) -> None:
    log, tries = await new_log("in", partitions=1), Tries({4: [OSError("away") for _ in range(99)]})
    await put(log, "in", *alternating(20))
    flow = trying(shape, tries, retry=Retry(None, backoff=600, max_backoff=600))
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()):
        await until_seen(log, "out", 12)
    assert (await mark(log, "in")).position == 4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(6))
async def test_any_mixture_of_failures_leads_to_the_same_sums(shape: str, seed: int) -> None:
    """Keys at random, a tenth of the events failing at random, engines abandoned now and then."""
    chance = random.Random(f"{shape} {seed}")
    log, disk = await new_log("in", partitions=1), MemoryBackend(keep=chance.random() < 0.5)
    events = [(chance.choice("abcdefgh"), {"n": n}) for n in range(300)]
    kinds: list[list[type[Exception]]] = [
        [OSError],
        [OSError, OSError],
        [RetryLater],
        [Reject],
        [OSError, OSError, OSError],
    ]
    plan = {n: chance.choice(kinds) for n in range(300) if chance.random() < 0.1}
    bad = {n for n, errors in plan.items() if Reject in errors or len(errors) == 3}

    def tries(n: int, attempt: int) -> None:
        kind = plan.get(n, ())
        if RetryLater in kind and chance.random() < 0.5:
            raise RetryLater(chance.choice((0, 0.002)))
        if kind and RetryLater not in kind and attempt <= len(kind):
            raise kind[attempt - 1]("fails")

    retry = Retry(3, backoff=0.001)
    for _ in range(3):
        await put(log, "in", *events[:75])
        del events[:75]
        flow = trying(shape, tries, retry=retry)
        async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=disk) as engine:
            await until_seen(log, "out", chance.randrange(1, 75))
            engine.abort()
    await put(log, "in", *events)
    await run(log, trying(shape, tries, retry=retry), state=disk)
    given: dict[str, list[int]] = {}
    for r in await records(log, "in"):
        n = int((r.value or b"")[5:-1])
        if n not in bad:
            given.setdefault((r.key or b"").decode(), []).append(n)
    assert await by_key(log, "out") == {key: sums(found) for key, found in given.items()}
    assert sorted(v["n"] for v in await values(log, "f.dead-letters")) == sorted(bad)
    state = {r.key: r.value for r in await records(log, "f.add.changelog")}
    assert state == {key.encode(): b"%d" % sum(found) for key, found in given.items()}

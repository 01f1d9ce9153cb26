"""Chained stages: the same flow with and without chains leaves the same behind, whatever happens."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflow_kafka import Batch, Context, Event, Flow, Reject, Retry, RetryLater, State
from reflow_kafka.engine.engine import Engine
from reflow_kafka.errors import FlowStopped
from reflow_kafka.log.api import OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.embedded import open_client
from reflow_kafka.serde.keys import partition_of
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import DEADLINE, by_key, error_of, new_log, numbers, put, records, run, values
from tests.support.waiting import until

# ---- any flow


Stage = dict[str, Any]

stages = st.lists(
    st.fixed_dictionaries(
        {
            "parent": st.integers(0, 3),
            "output": st.sampled_from([None, None, None, "side", "error"]),
            "chain": st.booleans(),
            "shape": st.sampled_from(["def", "async def", "generator", "async generator"]),
            "state": st.sampled_from([None, "object", "box"]),
            "event": st.booleans(),
            "when": st.booleans(),
            "attempts": st.integers(1, 3),
            "on_error": st.sampled_from(["dead-letter", "dead-letter", "skip", "function"]),
            "concurrency": st.sampled_from([1, 1, 4]),
            "batch": st.sampled_from([None, None, 3]),
            "fails": st.sampled_from([0, 3, 10]),
        }
    ),
    min_size=2,
    max_size=5,
)
events = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(0, 99)), max_size=25)


def make(plan: list[Stage], *, chained: bool) -> Flow:
    flow = Flow("f", partitions=2)
    flow.source("source", topic="in")
    for number, stage in enumerate(plan):
        name = f"s{number}"
        parent = f"s{min(stage['parent'], number - 1)}" if number else "source"
        output = stage["output"] if number else None
        chains = bool(number) and stage["chain"]
        options: dict[str, Any] = {"chain": chained} if chains else {}
        if not chains and stage["batch"] and stage["state"] is None:
            options["batch"] = Batch(stage["batch"], within=0.001)
        elif not chains and "async" in stage["shape"]:
            options["concurrency"] = stage["concurrency"]
        if stage["state"] is not None:
            options["state"] = (lambda: 0) if stage["state"] == "box" else (lambda: {"n": 0, "seen": []})
        if stage["when"]:
            options["when"] = _enters
        on_error = stage["on_error"]
        flow.stage(
            handler(name, stage, batch="batch" in options),
            name=name,
            after=parent if output is None else f"{parent}.{output}",
            outputs=["side"],
            retry=Retry(stage["attempts"], backoff=0.001),
            on_error=_instead if on_error == "function" else on_error,
            **options,
        )
        flow.sink(f"{name}_out", after=name, topic=f"out-{name}")
    return flow


def _enters(value: dict[str, Any]) -> bool:
    return bool(value["n"] % 3)


def _instead(error: Exception, event: Event[Any]) -> dict[str, Any]:
    return {"n": event.value["n"], "path": ["instead of", event.value["path"], str(error)]}


def handler(name: str, stage: Stage, *, batch: bool) -> Callable[..., Any]:
    """Counts, changes what it is given, emits what it holds, and fails as planned by the numbers."""

    def work(state: Any, given: Any, ctx: Context) -> list[Any]:
        value = given.value if isinstance(given, Event) else given
        n = value["n"]
        if isinstance(state, State):
            state.value += 1
        elif state is not None:
            state["n"] += 1
            state["seen"] = [*state["seen"], value][-2:]
        value["path"].append([name, ctx.key, ctx.timestamp, ctx.upstream, sorted(ctx.headers)])
        if stage["fails"] and n % stage["fails"] == 1:
            if n % 4 == 0:
                raise Reject("not this one")
            if n % 4 == 1 and ctx.attempt <= n % 3:
                raise OSError(f"try {ctx.attempt}")
            if n % 4 == 2:
                raise ValueError("never")
        if n % 17 == 4 and state is not None:
            ctx.clear_state()
        held = state.value if isinstance(state, State) else state
        out = {"n": n, "path": value["path"], "held": held}
        if n % 5 == 1:
            return [Event(out, timestamp=n, headers={"own": b"%d" % n})]
        if n % 5 == 2:
            return [None]
        if n % 5 == 3:
            return [Event(out, to="side")]
        return [out, {"n": n + 1, "path": [], "held": held}]

    return _shaped(work, stage, batch=batch)


def _shaped(
    work: Callable[[Any, Any, Context], list[Any]], stage: Stage, *, batch: bool
) -> Callable[..., Any]:
    async def pause() -> None:
        await asyncio.sleep(0)

    shape, event = stage["shape"], stage["event"]
    single = shape in ("def", "async def")

    def first(state: Any, value: Any, ctx: Context) -> Any:
        return work(state, value, ctx)[0]

    handle: Any
    if batch:
        # A batch is tried again as a whole, so what it does to its first events must not be seen.
        def handle(items: list[dict[str, Any]], *, ctx: Context) -> list[Any]:
            return [{"n": v["n"], "path": [*v["path"], "batch"], "held": None} for v in items]

    elif stage["state"] is not None:
        given, held = Event[Any] if event else dict, State[int] if stage["state"] == "box" else dict
        if shape == "def":

            def handle(state: Any, value: Any, *, ctx: Context) -> Any:
                return first(state, value, ctx)

        elif shape == "async def":

            async def handle(state: Any, value: Any, *, ctx: Context) -> Any:
                await pause()
                result = first(state, value, ctx)
                await pause()
                return result

        elif shape == "generator":

            def handle(state: Any, value: Any, *, ctx: Context) -> Iterator[Any]:
                yield from work(state, value, ctx)

        else:

            async def handle(state: Any, value: Any, *, ctx: Context) -> AsyncIterator[Any]:
                for result in work(state, value, ctx):
                    await pause()
                    yield result

        handle.__annotations__.update(state=held, value=given)
    else:
        given = Event[Any] if event else dict
        if single and shape == "def":

            def handle(value: Any, *, ctx: Context) -> Any:
                return first(None, value, ctx)

        elif single:

            async def handle(value: Any, *, ctx: Context) -> Any:
                await pause()
                return first(None, value, ctx)

        elif shape == "generator":

            def handle(value: Any, *, ctx: Context) -> Iterator[Any]:
                yield from work(None, value, ctx)

        else:

            async def handle(value: Any, *, ctx: Context) -> AsyncIterator[Any]:
                for result in work(None, value, ctx):
                    await pause()
                    yield result

        handle.__annotations__.update(value=given)
    return handle  # type: ignore[no-any-return]


FACTS = ("stage", "attempts", "type", "message")


async def leave(plan: list[Stage], given: list[tuple[Any, int]], *, chained: bool, crash: int = 0) -> Any:
    """What a flow leaves in the log: results, dead letters and state."""
    log, disk = await new_log("in", *(f"out-s{n}" for n in range(len(plan)))), MemoryBackend()
    for number, (key, n) in enumerate(given):
        raw = None if key is None else key.encode()
        partition = number % 2 if raw is None else partition_of(raw, 2)
        value = orjson.dumps({"n": n, "path": [number]})
        await log.publish("in", partition, [OutRecord(raw, value, 1_000 + number, [("h", b"1")])])
    if crash:
        async with asyncio.timeout(DEADLINE), Engine(make(plan, chained=chained), log=log, state=disk) as e:
            for _ in range(crash):
                await asyncio.sleep(0)
            e.abort()
        if crash % 2:
            disk = MemoryBackend()
    await run(log, make(plan, chained=chained), state=disk)
    left: dict[str, Any] = {}
    for number in range(len(plan)):
        found = defaultdict(list)
        for r in await records(log, f"out-s{number}"):
            headers = [h for h in r.headers if not h[0].startswith("reflow.")]
            found[r.key].append([orjson.loads(r.value or b"null"), r.timestamp, headers])
        found[None].sort(key=repr)  # those without key have no order
        left[f"s{number}"] = dict(found)
        if plan[number]["state"] is not None:
            changes = {r.key: r.value for r in await records(log, f"f.s{number}.changelog")}
            left[f"state of s{number}"] = {key: value for key, value in changes.items() if value}
    left["dead"] = sorted(
        [repr(r.key), repr(r.value), repr(r.timestamp), *(error_of(r, fact) for fact in FACTS)]
        for r in await records(log, "f.dead-letters")
    )
    return left


class Same:
    """Runs both flows, and tells where they differ."""

    def __call__(self, plan: list[Stage], given: list[tuple[Any, int]], crash: int) -> None:
        wanted = asyncio.run(leave(plan, given, chained=False))
        found = asyncio.run(leave(plan, given, chained=True, crash=crash))
        for what, value in wanted.items():
            assert found[what] == value, what


relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(relaxed, max_examples=40)
@given(stages, events, st.just(0) | st.integers(1, 120))
def test_a_chain_changes_nothing_but_the_topics(
    plan: list[Stage], given: list[tuple[Any, int]], crash: int
) -> None:
    Same()(plan, given, crash)


@pytest.mark.slow
@settings(relaxed, max_examples=600)
@given(stages, events, st.just(0) | st.integers(1, 120))
def test_a_chain_changes_nothing_but_the_topics_at_length(
    plan: list[Stage], given: list[tuple[Any, int]], crash: int
) -> None:
    Same()(plan, given, crash)


# ---- single cases


HOSTS = ["def", "async def", "concurrency", "thread"]
"""Where the first stage runs, and with it what is chained to it."""


def host(flow: Flow, where: str, work: Callable[[dict[str, Any]], Any], **options: Any) -> None:
    async def waits(value: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return work(value)

    more = {"concurrency": {"concurrency": 3}, "thread": {"run_in": "thread"}}.get(where, {})
    handler = work if where in ("def", "thread") else waits
    flow.stage(handler, name="host", after=flow.source("source", topic="in"), **more, **options)


@pytest.mark.parametrize("where", HOSTS)
async def test_a_retry_resumes_at_the_stage_that_failed(where: str) -> None:
    flow, calls = Flow("f", partitions=1, retry=Retry(3, backoff=0.01)), []
    host(flow, where, lambda v: calls.append(("host", v["n"])) or {**v, "list": [1]})

    @flow.stage(after="host", chain=True, state=lambda: 0)
    def before(count: State[int], value: dict[str, Any]) -> dict[str, Any]:
        calls.append(("before", value["n"]))
        count.value += 1
        return {**value, "count": count.value}

    @flow.stage(after=before, chain=True, state=lambda: 0)
    def fails(count: State[int], value: dict[str, Any], *, ctx: Context) -> dict[str, Any]:
        calls.append(("fails", value["n"], ctx.attempt))
        count.value += 1
        value["list"].append(2)
        if value["n"] == 3 and ctx.attempt < 3:
            raise OSError("away")
        return {**value, "mine": count.value}

    flow.sink("out", after=fails, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", *numbers(6))
    engine = await run(log, flow)
    assert await by_key(log, "out") == {
        key: [{"n": n, "list": [1, 2], "count": n // 2 + 1, "mine": n // 2 + 1} for n in range(at, 6, 2)]
        for at, key in enumerate("ab")
    }
    tries = [call for call in calls if call[1] == 3]
    assert tries[-3:] == [("fails", 3, attempt) for attempt in (1, 2, 3)]
    assert calls.count(("host", 3)) == (2 if where == "def" else 1), "at full speed it had to go back first"
    counts = engine.statistics().flows["f"].stages
    assert [counts[name].events for name in ("host", "before", "fails")] == [6, 6, 6]
    assert [counts[name].retries for name in ("host", "before", "fails")] == [0, 0, 2]


@pytest.mark.parametrize("where", HOSTS)
async def test_while_a_chained_stage_waits_only_its_key_waits_and_nothing_of_the_event_is_seen(
    where: str,
) -> None:
    flow = Flow("f", partitions=1, retry=Retry(None, backoff=60, max_backoff=60))
    host(flow, where, lambda v: v)
    flow.sink("direct", after="host", topic="direct")
    away = {"a"}

    @flow.stage(after="host", chain=True, state=lambda: 0)
    async def ask(count: State[int], value: dict[str, Any], *, ctx: Context) -> dict[str, Any]:
        count.value += 1
        if ctx.key in away and value["n"] >= 4:
            raise OSError("away")
        return {**value, "count": count.value}

    flow.sink("out", after=ask, topic="out")
    log, disk = await new_log("in", "out", "direct", partitions=1), MemoryBackend()
    await put(log, "in", *numbers(10))
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=disk) as engine:
        await until(lambda: engine.statistics().flows["f"].stages["ask"].events == 7, "all but key a")
    assert {key: len(found) for key, found in (await by_key(log, "out")).items()} == {"a": 2, "b": 5}
    assert {key: len(found) for key, found in (await by_key(log, "direct")).items()} == {"a": 2, "b": 5}
    assert {r.key: r.value for r in await records(log, "f.ask.changelog")} == {b"a": b"2", b"b": b"5"}
    away.clear()
    await run(log, flow, state=disk)
    for topic in ("out", "direct"):
        assert [v["n"] for v in (await by_key(log, topic))["a"]] == [0, 2, 4, 6, 8]
    assert {r.key: r.value for r in await records(log, "f.ask.changelog")} == {b"a": b"5", b"b": b"5"}


@pytest.mark.parametrize("where", HOSTS)
async def test_only_what_failed_becomes_a_dead_letter(where: str) -> None:
    flow = Flow("f", partitions=1, retry=Retry(1))
    host(flow, where, lambda v: {**v, "host": True})

    @flow.stage(after="host", chain=True)
    def good(value: dict[str, Any]) -> dict[str, Any]:
        return {**value, "good": True}

    @flow.stage(after="host", chain=True, state=lambda: 0)
    def bad(count: State[int], value: dict[str, Any]) -> None:
        count.value += 1
        value["spoiled"] = True
        if value["n"] % 2:
            raise ValueError("odd")

    flow.sink("goods", after=good, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", *numbers(6))
    engine = await run(log, flow)
    assert len(await values(log, "out")) == 6
    letters = await records(log, "f.dead-letters")
    assert sorted(orjson.loads(r.value or b"")["n"] for r in letters) == [1, 3, 5]
    for letter in letters:
        assert orjson.loads(letter.value or b"").keys() == {"n", "host"}
        assert letter.key == b"b"
        assert error_of(letter, "stage") == "bad"
        assert error_of(letter, "topic") == "in"
    assert {r.key: r.value for r in await records(log, "f.bad.changelog")} == {b"a": b"3"}
    assert engine.statistics().flows["f"].stages["bad"].dead_letters == 3


@pytest.mark.parametrize("where", HOSTS)
async def test_failed_events_of_the_host_go_into_a_chain(where: str) -> None:
    flow = Flow("f", partitions=1, retry=Retry(2, backoff=0.001))

    def work(value: dict[str, Any]) -> dict[str, Any]:
        if value["n"] % 2:
            raise ValueError("odd")
        return value

    host(flow, where, work)

    @flow.stage(after="host.error", chain=True, state=lambda: 0)
    async def mend(count: State[int], event: Event[dict[str, Any]], *, ctx: Context) -> dict[str, Any]:
        count.value += 1
        if event.value["n"] == 3 and ctx.attempt == 1:
            raise OSError("once more")
        cause = event.headers["reflow.error.message"].decode()
        return {**event.value, "count": count.value, "cause": cause}

    flow.sink("out", after=mend, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", *numbers(6))
    await run(log, flow)
    assert await values(log, "out") == [{"n": n, "count": n // 2 + 1, "cause": "odd"} for n in (1, 3, 5)]
    assert await records(log, "f.dead-letters") == []


async def test_another_key_in_a_chain_fails_the_event_and_says_what_to_do() -> None:
    flow = Flow("f", partitions=1)
    host(flow, "def", lambda v: Event(v, key="a" if v["n"] < 2 else "other"))

    @flow.stage(after="host", chain=True)
    def chained(value: dict[str, Any]) -> dict[str, Any]:
        return value

    flow.sink("out", after=chained, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", *numbers(3, keys="a"))
    await run(log, flow)
    assert [v["n"] for v in await values(log, "out")] == [0, 1]
    (letter,) = await records(log, "f.dead-letters")
    assert error_of(letter, "stage") == "host"
    assert error_of(letter, "attempts") == "1"
    assert "Take chain=True out of 'chained'" in error_of(letter, "message")


async def test_every_event_in_a_chain_has_an_id_of_its_own() -> None:
    flow, seen = Flow("f", partitions=1), []

    @flow.stage(after=flow.source("source", topic="in"))
    def several(value: dict[str, Any], *, ctx: Context) -> Iterator[dict[str, Any]]:
        seen.append(ctx.id)
        yield value
        yield value

    @flow.stage(after=several, chain=True)
    def middle(value: dict[str, Any], *, ctx: Context) -> dict[str, Any]:
        seen.append(ctx.id)
        assert (ctx.stage, ctx.upstream) == ("middle", "several")
        return value

    @flow.stage(after=middle, chain=True)
    def last(event: Event[dict[str, Any]]) -> None:
        seen.append(event.id)
        if event.value["n"] == 1:
            raise Reject("here it works careful")

    log = await new_log("in", partitions=1)
    await put(log, "in", ("a", {"n": 0}), ("a", {"n": 1}), ("a", {"n": 2}))
    await run(log, flow)
    for n in range(3):
        ids = {id for id in seen if id.startswith(f"in/0/{n}")}
        ways = ["", "/middle/0", "/middle/1", "/middle/0/last/0", "/middle/1/last/0"]
        assert ids == {f"in/0/{n}{way}" for way in ways}


async def test_classes_resources_and_time_outs_in_a_chain() -> None:
    flow, life = Flow("f", partitions=1, retry=Retry(2, backoff=0.001)), []

    @flow.resource
    def service() -> Iterator[str]:
        yield "answer"

    class Asks:
        def __init__(self, service: str) -> None:
            self.service = service

        async def open(self) -> None:
            life.append("open")

        def close(self) -> None:
            life.append("close")

        async def __call__(self, value: dict[str, Any]) -> dict[str, Any]:
            if value["n"] == 1:
                await asyncio.sleep(60)
            return {**value, "said": self.service}

    host(flow, "def", lambda v: v)
    flow.stage(Asks, name="asks", after="host", chain=True, timeout=0.01)
    flow.sink("out", after="asks", topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", *numbers(3))
    await run(log, flow)
    assert await values(log, "out") == [{"n": n, "said": "answer"} for n in (0, 2)]
    (letter,) = await records(log, "f.dead-letters")
    assert error_of(letter, "attempts") == "2"
    assert error_of(letter, "type").endswith("TimedOut")
    assert life == ["open", "close"]


async def test_values_that_cannot_be_written_are_handed_over_and_told_of_in_dead_letters() -> None:
    flow = Flow("f", partitions=1, retry=Retry(1))
    host(flow, "def", lambda v: {"n": v["n"], "complex": complex(0, 1)})

    @flow.stage(after="host", chain=True)
    def square(value: dict[str, Any]) -> dict[str, Any]:
        if value["n"] == 1:
            raise ValueError("bad")
        return {"n": value["n"], "square": (value["complex"] ** 2).real}

    flow.sink("out", after=square, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", *numbers(2))
    await run(log, flow)
    assert await values(log, "out") == [{"n": 0, "square": -1.0}]
    (letter,) = await records(log, "f.dead-letters")
    assert letter.value is None
    assert dict(letter.headers)["reflow.unwritable-value"] == b"{'n': 1, 'complex': 1j}"


@pytest.mark.parametrize("where", ["def", "async def", "concurrency"])
async def test_a_sink_in_a_chain_finds_its_topics(where: str) -> None:
    flow = Flow("f", partitions=1)
    host(flow, where, lambda v: v)

    @flow.stage(after="host", chain=True)
    def chained(value: dict[str, Any]) -> dict[str, Any]:
        return value

    flow.sink("out", after=chained, topic=lambda v: f"out-{v['n'] % 3}")
    log = await new_log("in", partitions=1)
    await put(log, "in", *numbers(9))
    await run(log, flow)
    for n in range(3):
        assert [v["n"] for v in await values(log, f"out-{n}")] == [n, n + 3, n + 6]


async def test_a_record_that_the_log_refuses_is_that_of_the_whole_event() -> None:
    flow = Flow("f", partitions=1)
    host(flow, "def", lambda v: v)

    @flow.stage(after="host", chain=True, state=dict)
    def blow_up(state: dict[str, Any], value: dict[str, Any]) -> None:
        state["text"] = "x" * (5_000 if value["n"] == 6 else 5)

    log = await new_log("in", "out", partitions=1, max_record_bytes=4_000)
    flow.sink("out", after="host", topic="out")
    await put(log, "in", *numbers(8))
    await run(log, flow)
    assert sorted(v["n"] for v in await values(log, "out")) == [0, 1, 2, 3, 4, 5, 7]
    (letter,) = await records(log, "f.dead-letters")
    assert error_of(letter, "stage") == "host"


async def test_too_many_dead_letters_of_a_chained_stage_stop_the_flow() -> None:
    flow = Flow("f", partitions=1, retry=Retry(1))
    host(flow, "def", lambda v: v)

    @flow.stage(after="host", chain=True)
    def broken(value: dict[str, Any]) -> None:
        raise ConnectionError("the service is away")

    log = await new_log("in", partitions=1)
    await put(log, "in", *numbers(1_000))
    with pytest.raises(FlowStopped, match="'broken' stopped the flow"):
        await run(log, flow)
    assert len(await records(log, "f.dead-letters")) <= 101


async def test_later_is_no_failure_and_stop_stops() -> None:
    flow, calls = Flow("f", partitions=1, retry=Retry(1)), []
    host(flow, "def", lambda v: v)

    @flow.stage(after="host", chain=True, on_error="stop")
    def chained(value: dict[str, Any], *, ctx: Context) -> dict[str, Any]:
        calls.append((value["n"], ctx.attempt))
        if value["n"] == 1 and calls.count((1, 1)) < 4:
            raise RetryLater(0.001)
        if value["n"] == 5:
            raise ValueError("no way")
        return value

    flow.sink("out", after=chained, topic="out")
    log = await new_log("in", "out", partitions=1)
    await put(log, "in", *numbers(5))
    await run(log, flow)
    assert sorted(v["n"] for v in await values(log, "out")) == [0, 1, 2, 3, 4]
    await put(log, "in", ("b", {"n": 5}))
    with pytest.raises(FlowStopped, match="'chained' stopped the flow"):
        await run(log, flow)


async def test_a_chain_on_the_embedded_log_goes_on_after_a_crash(tmp_path: Path) -> None:
    away = {"a"}

    def make_chain() -> Flow:
        flow = Flow("f", partitions=1, retry=Retry(None, backoff=60, max_backoff=60))
        host(flow, "def", lambda v: v)

        @flow.stage(after="host", chain=True, state=lambda: 0)
        def count(seen: State[int], value: dict[str, Any], *, ctx: Context) -> dict[str, Any]:
            seen.value += 1
            return {**value, "count": seen.value}

        @flow.stage(after=count, chain=True, state=lambda: {"ns": []})
        def gather(state: dict[str, Any], value: dict[str, Any], *, ctx: Context) -> dict[str, Any]:
            state["ns"].append(value["n"])
            if ctx.key in away and value["n"] == 6:
                raise OSError("away")
            return {**value, **state}

        flow.sink("out", after=gather, topic="out")
        return flow

    async with open_client(tmp_path) as client:
        await client.ensure_topics([TopicSpec(topic, 1, TopicKind.EXTERNAL) for topic in ("in", "out")])
        sent = [OutRecord(key.encode(), orjson.dumps(value), 1_000) for key, value in numbers(20)]
        await client.publish("in", 0, sent)
    async with asyncio.timeout(DEADLINE), Engine(make_chain(), data_dir=tmp_path) as engine:
        await until(lambda: engine.statistics().flows["f"].stages["gather"].events == 13, "all but key a")
        engine.abort()
    away.clear()
    async with asyncio.timeout(DEADLINE), Engine(make_chain(), data_dir=tmp_path) as engine:
        await engine.wait(until_end=True)
    found, at = [], 0
    async with open_client(tmp_path) as client:
        (end,) = (await client.end_offsets([TopicPartition("out", 0)])).values()
        while at < end:
            page = await client.read("out", 0, at, timeout=0)
            found += page.records
            at = page.next_offset
    for key, first in ((b"a", 0), (b"b", 1)):
        ns = list(range(first, 20, 2))
        wanted = [{"n": n, "count": seen + 1, "ns": ns[: seen + 1]} for seen, n in enumerate(ns)]
        assert [orjson.loads(r.value or b"") for r in found if r.key == key] == wanted

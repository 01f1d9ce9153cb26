"""Queries about state, in the program and over HTTP, on one and two engines and the memory log."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest
from yarl import URL

from reflow_kafka import (
    Context,
    Count,
    Flow,
    Hopping,
    KeyValue,
    Session,
    Sliding,
    State,
    StateUnavailable,
    Tumbling,
    UsageError,
    Window,
)
from reflow_kafka.engine import http, owners
from reflow_kafka.engine.engine import Engine
from reflow_kafka.engine.http import HOP
from reflow_kafka.engine.queries import Lookup
from reflow_kafka.log.api import OutRecord
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.serde.keys import partition_of
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import DEADLINE, new_log, put
from tests.support.waiting import until

LANES = 4


@dataclass
class Visitor:
    name: str = ""
    visits: int = 0


def visiting(name: str = "f") -> Flow:
    flow = Flow(name, partitions=LANES)

    @flow.stage(after=flow.source("visits", topic="visits"), key="name", state=Visitor)
    def visitor(state: Visitor, visit: dict[str, Any]) -> None:
        state.name = visit["name"]
        state.visits += 1

    return flow


def names(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


async def visited(log: MemoryLog, *visitors: str) -> None:
    await put(log, "visits", *((None, {"name": name}) for name in visitors))


async def found(engine: Engine, stage: str, key: object, wanted: Any = None, **more: Any) -> Lookup:
    """What is found of a key, once something is (or this value)."""
    while True:
        lookup = await engine.lookup(stage, key, **more)
        if lookup.found and wanted in (None, lookup.value):
            return lookup
        await asyncio.sleep(0.01)


async def runs(engine: Engine, lanes: int) -> None:
    """Wait until it has so many lanes."""
    await until(lambda: engine.statistics().flows["f"].running >= lanes, f"{lanes} lanes")


@asynccontextmanager
async def engines(
    log: MemoryLog, count: int, flow: Any = visiting, **options: Any
) -> AsyncIterator[list[Engine]]:
    """So many engines, each with lanes of its own, and answering."""
    started: list[Engine] = []
    async with asyncio.timeout(DEADLINE), AsyncExitStack() as stack:
        for _ in range(count):
            engine = Engine(flow(), log=log, state=MemoryBackend(), http="0", **options)
            started.append(await stack.enter_async_context(engine))
        for engine in started:
            await runs(engine, LANES // count)
        yield started


@dataclass
class Answered:
    status: int
    body: Any
    headers: Any


async def get(engine: Engine, path: str, **headers: str) -> Answered:
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(f"http://{engine.http}{path}", encoded=True), headers=headers) as response,
    ):
        return Answered(response.status, orjson.loads(await response.read()), response.headers)


# ---- answers


async def test_every_engine_answers_for_every_key() -> None:
    log = await new_log("visits")
    await visited(log, *names(20), "n0")
    async with engines(log, 2) as both:
        for engine in both:
            for name in names(20):
                expected = Visitor(name, 2 if name == "n0" else 1)
                await found(engine, "visitor", name, expected)
                assert await engine.query("visitor", name) == expected
                answer = await get(engine, f"/state/visitor/{name}")
                assert answer.status == 200
                assert answer.body["value"] == {"name": name, "visits": expected.visits}
                assert answer.body["as_of"]["lane"] == partition_of(name.encode(), LANES)
                assert answer.headers["Content-Type"].startswith("application/json")


async def test_a_key_without_state() -> None:
    log = await new_log("visits")
    async with engines(log, 2) as both:
        for engine in both:
            assert await engine.query("visitor", "nobody") is None
            lookup = await engine.lookup("visitor", "nobody")
            assert (lookup.found, lookup.value) == (False, None)
            answer = await get(engine, "/state/visitor/nobody")
            assert (answer.status, answer.body["found"], answer.body["value"]) == (404, False, None)


async def test_an_answer_is_what_was_committed_and_says_as_of_when() -> None:
    """Whenever it is asked for: the count is that of the events before the position in the same answer."""
    log = await new_log("rows", partitions=1)
    flow = Flow("f", partitions=1)

    @flow.stage(after=flow.source("rows", topic="rows"), state=int)
    async def count(seen: State[int], row: dict[str, int]) -> None:
        seen.value += 1
        await asyncio.sleep(0)

    async def feed() -> None:
        for _ in range(0, total, 100):
            await put(log, "rows", *[("key", {})] * 100)
            await asyncio.sleep(0.01)

    total, counts = 3_000, list[int]()
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()) as engine:
        feeding = asyncio.create_task(feed())
        while not counts or counts[-1] < total:
            lookup = await engine.lookup("count", "key")
            assert (lookup.value or 0) == lookup.positions["rows"]
            counts.append(lookup.value or 0)
            await asyncio.sleep(0)
        await feeding
    assert counts == sorted(counts)
    assert len(set(counts)) > 2


async def test_keys_are_bytes() -> None:
    log = await new_log("visits", partitions=2)
    keys = [
        b"plain",
        b"a/b",
        b"a b",
        "zürich".encode(),
        b"\xff\xfe",
        b"..",
        b".",
        b"50%",
        b"a+b?c=d#e&f",
        b"",
        b"/",
    ]
    flow = Flow("f", partitions=LANES)

    @flow.stage(after=flow.source("visits", topic="visits"), key=lambda v: keys[v["n"]], state=int)
    def count(seen: State[int], visit: dict[str, int]) -> None:
        seen.value = visit["n"] + 1

    await put(log, "visits", *((None, {"n": n}) for n in range(len(keys))))
    async with engines(log, 2, lambda: flow) as both:
        for engine in both:
            for n, key in enumerate(keys):
                await found(engine, "count", key, n + 1)
                encoded = "".join(f"%{byte:02X}" for byte in key)
                in_path = await get(engine, f"/state/count/{encoded}")
                assert (in_path.status, in_path.body["value"]) == (200, n + 1)
                in_query = await get(engine, f"/state/count?key={encoded}")
                assert in_query.body == in_path.body


async def test_a_topic_that_others_have_written_may_hold_its_keys_anywhere() -> None:
    log = await new_log("rows", partitions=LANES)
    elsewhere = (partition_of(b"key", LANES) + 1) % LANES
    await log.publish("rows", elsewhere, [OutRecord(b"key", b"{}", 1)])
    flow = Flow("f", partitions=LANES)

    @flow.stage(after=flow.source("rows", topic="rows"), state=int)
    def count(seen: State[int], row: dict[str, int]) -> None:
        seen.value += 1

    async with engines(log, 2, lambda: flow) as both:
        for engine in both:
            lookup = await found(engine, "count", "key")
            assert (lookup.value, lookup.lane) == (1, elsewhere)


async def test_chained_stages_and_timed_ones_are_asked_alike() -> None:
    log = await new_log("visits")
    flow = Flow("f", partitions=LANES)
    visits = flow.source("visits", topic="visits")

    @flow.stage(after=visits, key="name", state=int)
    def first(seen: State[int], visit: dict[str, Any]) -> dict[str, Any]:
        seen.value += 1
        return visit

    @flow.stage(after=first, chain=True, state=int)
    def chained(seen: State[int], visit: dict[str, Any]) -> None:
        seen.value += 10

    @flow.stage(after=visits, key="name", state=int, ttl=3600)
    def timed(seen: State[int], visit: dict[str, Any]) -> None:
        seen.value += 100

    await visited(log, "n1", "n1")
    async with asyncio.timeout(DEADLINE), Engine(flow, log=log, state=MemoryBackend()) as engine:
        for stage, value in (("first", 2), ("chained", 20), ("timed", 200)):
            lookup = await found(engine, stage, "n1", value)
            assert lookup.positions
            assert lookup.offset > 0


@pytest.mark.parametrize(
    ("window", "states"),
    [
        (Tumbling(10), {(0, 10_000): 2}),
        (Hopping(10, every=5), {(-5_000, 5_000): 2, (0, 10_000): 2}),
        (Sliding(10), {(-9_000, 1_000): 1, (-8_000, 2_000): 2, (1_001, 11_001): 1}),
        (Session(10, merge=lambda one, other: one + other), {(1_000, 2_000): 2}),
        (Count(5), {(1_000, 2_000): 2}),
    ],
    ids=["tumbling", "hopping", "sliding", "session", "count"],
)
async def test_open_windows(window: Any, states: dict[tuple[int, int], int]) -> None:
    """Those of one key, whichever others there are, wherever it is asked for."""
    log = await new_log("visits")
    for timestamp in (1_000, 2_000):
        for name in names(9):
            await put(log, "visits", (None, {"name": name}), timestamp=timestamp)

    def flow() -> Flow:
        flow = Flow("f", partitions=LANES)

        @flow.stage(after=flow.source("rows", topic="visits"), key="name", state=int, window=window)
        def visits(seen: State[int], visit: dict[str, Any]) -> None:
            seen.value += 1

        return flow

    async with engines(log, 2, flow) as both:
        for engine in both:
            for name in names(9):
                expected = {Window(start, end, name): state for (start, end), state in states.items()}
                await found(engine, "visits", name, expected)
                answer = await get(engine, f"/state/visits/{name}")
                rows = [
                    {"start": start, "end": end, "state": states[start, end]} for start, end in sorted(states)
                ]
                assert answer.body["value"] == rows
            assert await engine.query("visits", "nobody") is None


async def test_named_stores() -> None:
    """Their keys are what the handler has chosen, in the lane of the event."""
    log = await new_log("visits")
    await visited(log, *names(9))

    def flow() -> Flow:
        flow = Flow("f", partitions=LANES)

        @flow.stage(
            after=flow.source("rows", topic="visits"),
            key="name",
            stores={"pages": KeyValue(int), "dates": KeyValue(Visitor, ttl=3600)},
        )
        def visits(visit: dict[str, Any], ctx: Context) -> None:
            ctx.store("pages").put(f"last of {ctx.key}", 7)
            ctx.store("dates").put("/", Visitor(ctx.key, 1))

        return flow

    async with engines(log, 2, flow) as both:
        for engine in both:
            for name in names(9):
                await found(engine, "visits", f"last of {name}", 7, store="pages")
            lookup = await found(engine, "visits", "/", store="dates")
            assert lookup.value.visits == 1
            answer = await get(engine, "/state/visits/last%20of%20n1?store=pages")
            assert (answer.status, answer.body["value"]) == (200, 7)
            assert (await get(engine, "/state/visits/last%20of%20n1?store=dates")).status == 404
            for path, error in (
                ("/state/visits/n1", "found no stage 'visits' with state, there is none"),
                ("/state/visits/n1?store=x", "found no stage 'visits' with a store 'x', there is none"),
            ):
                answer = await get(engine, path)
                assert (answer.status, answer.body["error"]) == (404, error)


# ---- what cannot be answered


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/state/visits/n1", 404, "found no stage 'visits' with state, there is visitor"),
        ("/state/nothing/n1", 404, "found no stage 'nothing' with state, there is visitor"),
        ("/state/visitor/n1?flow=g", 404, "found no flow 'g', there is f"),
        ("/state/visitor", 400, "wanted one key"),
        ("/state/visitor/n1?key=n1", 400, "wanted one key"),
        ("/state/visitor?key=n1&key=n2", 400, "wanted one key"),
        ("/state/visitor/n1?lane=1", 400, "unknown parameter 'lane'; there is flow, key, store"),
        ("/state/visitor/n1?lane", 400, "wanted name=value"),
    ],
)
async def test_what_is_wrong_with_a_request(path: str, status: int, error: str) -> None:
    log = await new_log("visits")
    async with engines(log, 1) as (engine,):
        answer = await get(engine, path)
        assert answer.status == status
        assert error in answer.body["error"]


async def test_flows_that_have_a_stage_of_the_same_name() -> None:
    log = await new_log("visits")
    await visited(log, "n1")
    flows = (visiting("f"), visiting("g"))
    async with asyncio.timeout(DEADLINE), Engine(*flows, log=log, state=MemoryBackend(), http="0") as engine:
        await found(engine, "visitor", "n1", flow="g")
        with pytest.raises(UsageError, match=r"several flows \(f, g\): say flow="):
            await engine.query("visitor", "n1")
        assert (await get(engine, "/state/visitor/n1")).status == 400
        assert (await get(engine, "/state/visitor/n1?flow=g")).status == 200


async def test_what_the_program_may_not_ask() -> None:
    log = await new_log("visits")
    engine = Engine(visiting(), log=log, state=MemoryBackend())
    with pytest.raises(UsageError, match="does not run"):
        await engine.query("visitor", "n1")
    async with engine:
        with pytest.raises(UsageError, match="found no stage 'nothing' with state, there is visitor"):
            await engine.query("nothing", "n1")
        with pytest.raises(UsageError, match="without key there is no state"):
            await engine.query("visitor", None)
    with pytest.raises(UsageError, match="does not run"):
        await engine.query("visitor", "n1")


async def test_a_host_that_only_leads_here_is_refused() -> None:
    """What is bound to this machine is not for a page in a browser whose name was made to lead here."""
    log = await new_log("visits")
    async with engines(log, 1) as (engine,):
        assert (await get(engine, "/state/visitor/n1", Host="localhost:1")).status == 404
        answer = await get(engine, "/state/visitor/n1", Host="evil.example")
        assert answer.status == 400
        assert "found host 'evil.example'" in answer.body["error"]


# ---- engines and lanes that come and go


def of_lane(lane: int) -> str:
    return next(name for name in names(1_000) if partition_of(name.encode(), LANES) == lane)


async def test_an_engine_without_an_address_is_told_of() -> None:
    log = await new_log("visits")
    async with engines(log, 1) as (engine,), Engine(visiting(), log=log, state=MemoryBackend()) as silent:
        await runs(silent, 2)
        theirs = [
            lane
            for lane in range(LANES)
            if (await get(engine, f"/state/visitor/{of_lane(lane)}")).status == 503
        ]
        assert len(theirs) == 2
        for one in (engine, silent):
            queries = [one.query("visitor", of_lane(lane), timeout=0) for lane in range(LANES)]
            outcomes = await asyncio.gather(*queries, return_exceptions=True)
            errors = [str(each) for each in outcomes if isinstance(each, StateUnavailable)]
            assert ["http=" in error for error in errors] == [True, True]
            assert outcomes.count(None) == 2


async def test_a_lane_that_moves_is_found_again() -> None:
    log = await new_log("visits")
    await visited(log, *names(20))
    async with engines(log, 1) as (stays,):
        for _ in range(2):
            async with Engine(visiting(), log=log, state=MemoryBackend(), http="0") as goes:
                await runs(goes, 2)
                for name in names(20):
                    await found(goes, "visitor", name)
                    assert await goes.query("visitor", name) == await stays.query("visitor", name)
            for name in names(20):
                await found(stays, "visitor", name)


async def test_while_no_lane_runs_it_says_when_to_ask_again() -> None:
    log = await new_log("visits")
    async with engines(log, 1) as (engine,):
        engine.stop()
        await engine.wait()
        answer = await get(engine, "/state/visitor/n1")
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert "moves, or restores its state" in answer.body["error"]


async def test_a_query_of_another_engine_is_answered_here_or_not_at_all() -> None:
    log = await new_log("visits")
    async with engines(log, 2) as both:
        one, other = both
        lane = min(running(one))
        incarnation = running(one)[lane]
        path = f"/state/visitor?key={of_lane(lane)}&flow=f&lane={lane}&incarnation="
        assert (await get(one, path + incarnation, **{HOP: "1"})).status == 404  # no state yet
        for engine, told in ((one, "another"), (other, incarnation)):
            answer = await get(engine, path + told, **{HOP: "1"})
            assert (answer.status, answer.body["error"]) == (421, f"lane {lane} of 'f' does not run here")
        assert (await get(one, f"/state/visitor?key=x&flow=f&lane={lane}", **{HOP: "1"})).status == 400


def running(engine: Engine) -> dict[int, str]:
    """Lanes that run in an engine, and their incarnations."""
    sessions = [place.lane._session for runner in engine._runners for place in runner._places.values()]
    return {s.lane: s.own.record.incarnation for s in sessions if s is not None}


def elsewhere(log: MemoryLog, port: int) -> Engine:
    """An engine that says it is to be reached at another port."""
    return Engine(visiting(), log=log, state=MemoryBackend(), http="0", http_advertise=f"127.0.0.1:{port}")


async def test_an_owner_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.05)
    silence = asyncio.Event()
    log = await new_log("visits")

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silence.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with engines(log, 1) as (engine,):
        async with elsewhere(log, port) as other:
            await runs(other, 2)
            statuses = [
                (await get(engine, f"/state/visitor/{of_lane(lane)}")).status for lane in range(LANES)
            ]
            assert sorted(statuses) == [404, 404, 504, 504]
            with pytest.raises(StateUnavailable, match=r"did not answer within 0\.05 s"):
                await engine.query("visitor", of_lane(statuses.index(504)), timeout=0.1)
        silence.set()
        server.close()
        await server.wait_closed()


async def test_an_owner_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, unused_port: int) -> None:
    monkeypatch.setattr(owners, "AGAIN", 0.0)
    log = await new_log("visits")
    async with engines(log, 1) as (engine,), elsewhere(log, unused_port) as other:
        await runs(other, 2)
        statuses = [(await get(engine, f"/state/visitor/{of_lane(lane)}")).status for lane in range(LANES)]
        assert sorted(statuses) == [404, 404, 503, 503]


async def test_an_owner_that_went_and_its_successor_that_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setattr(owners, "AGAIN", 0.0)
    log = await new_log("visits")
    async with engines(log, 1) as (engine,):
        async with Engine(visiting(), log=log, state=MemoryBackend(), http="0") as first:
            await runs(first, 2)
            theirs = running(first).keys()
            assert [await engine.query("visitor", of_lane(lane)) for lane in theirs] == [None, None]
        await runs(engine, LANES)
        async with elsewhere(log, unused_port) as second:
            await runs(second, 2)
            assert running(second).keys() == theirs
            for lane in theirs:
                answer = await get(engine, f"/state/visitor/{of_lane(lane)}")
                assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port at which nobody listens, and which nobody else is given."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# ---- addresses


async def test_an_address_that_is_taken(unused_port: int) -> None:
    log = await new_log("visits")
    with pytest.raises(UsageError, match=f"cannot listen for queries at 127.0.0.1:{unused_port}"):
        async with Engine(visiting(), log=log, state=MemoryBackend(), http=str(unused_port)):
            raise AssertionError


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"http": "host"}, "found http='host', wanted HOST:PORT"),
        ({"http": "0", "http_advertise": ":"}, "found http_advertise=':', wanted HOST:PORT"),
        ({"http_advertise": "host:1"}, "wanted http= with it"),
    ],
)
def test_addresses_that_are_none(options: dict[str, Any], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        Engine(visiting(), **options)

"""A flow of everything that the library has, and what its output has to be."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from reflow_kafka import ConnectorContext, Event, Flow, Reject, Retry, RetryLater, State
from reflow_kafka.errors import LaneLost
from reflow_kafka.log.api import Headers, OutRecord
from reflow_kafka.serde.keys import partition_of
from reflow_kafka.topology.replies import CORRELATION_ID, REPLY_FROM, REPLY_TO, header, reply_address
from tests.simulation.hosts import RECORD_LIMIT, Found, Topics

LANES = 3
TICKS = 30
IN_TALLY = ("tally", "reject", "unencodable", "large")
IN_ECHO = ("echo", "echo-unencodable")
IN_GROUP = ("group", "group-large", "group-oversized")
TOO_MUCH = {"large": 2 * RECORD_LIMIT, "group-large": 2 * RECORD_LIMIT, "group-oversized": 1_000_001}


@dataclass
class Total:
    count: int = 0
    sum: int = 0
    last: list[int] = field(default_factory=list)

    def add(self, number: int) -> None:
        self.count += 1
        self.last = [*self.last, number][-3:]
        self.sum += number


@dataclass
class Table:
    """A table elsewhere that keeps each lane's position together with its rows."""

    rng: random.Random
    faults: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    positions: dict[int, Any] = field(default_factory=dict)

    async def open(self, ctx: ConnectorContext) -> TableWriter:
        self.may_fail()
        return TableWriter(self, ctx.lane, self.positions.get(ctx.lane))

    def may_fail(self) -> None:
        if self.rng.random() < self.faults:
            raise OSError("the table is away")


class TableWriter:
    def __init__(self, table: Table, lane: int, expected: Any) -> None:
        self.table, self.lane, self.expected = table, lane, expected
        self.waiting: list[dict[str, Any]] = []

    async def position(self) -> Any:
        return self.expected

    async def write(self, events: Sequence[Event[Any]]) -> None:
        await asyncio.sleep(0)
        self.table.may_fail()
        self.waiting += [event.value for event in events]

    async def flush(self, position: Any) -> None:
        await asyncio.sleep(self.table.rng.choice((0.0, 0.05)))
        self.table.may_fail()
        if self.table.positions.get(self.lane) != self.expected:
            raise LaneLost("somebody else has written to the table")
        self.table.rows += self.waiting
        self.table.positions[self.lane] = self.expected = position
        self.waiting = []
        self.table.may_fail()  # done, but nobody knows

    async def close(self) -> None:
        self.waiting = []


@dataclass(frozen=True)
class Ways:
    """How the same flow is run."""

    concurrency: int
    retry: Retry
    chain: bool
    """Stages run in the worker of the one before them where they can."""
    echo_waits: bool


class Everything:
    """The flow, its input, and what it may meet."""

    name = "sim"
    lanes = LANES
    exactly_once = True

    def __init__(self, rng: random.Random, *, events: int) -> None:
        self._rng = rng
        self._table = Table(rng, faults=rng.choice((0.0, 0.1)))
        self._ways = Ways(
            concurrency=rng.choice((1, 2, 5)),
            retry=rng.choice((Retry(), Retry(2, backoff=1.0), Retry(1))),
            chain=rng.random() < 0.5,
            echo_waits=rng.random() < 0.5,
        )
        self._input = make_input(rng, events)

    def calm(self) -> None:
        """From now on nothing goes wrong that need not."""
        self._table.faults = 0.0

    def flow(self) -> Flow:
        return make_flow(self._rng, self._table, self._ways)

    def records(self) -> Iterator[tuple[int, OutRecord]]:
        for reading in self._input:
            key = reading["station"].encode()
            yield partition_of(key, LANES), OutRecord(key, orjson.dumps(reading), 1_000, request(reading))

    def check(self, topics: Topics) -> None:
        check(
            self._input, {name: [(k, v) for k, v, _ in found] for name, found in topics.items()}, self._table
        )
        check_answers(self._input, topics["sim.replies"])


def make_flow(rng: random.Random, table: Table, ways: Ways) -> Flow:
    flow = Flow("sim", partitions=LANES, retry=ways.retry)
    readings = flow.source("readings", topic="in")

    @flow.stage(after=readings, state=Total)
    def tally(total: Total, reading: dict[str, Any]) -> Iterator[dict[str, Any]]:
        total.add(reading["n"])
        _may_be_early(rng, reading)
        if reading["fails"] == "tally":
            raise ValueError("tally fails")
        if reading["fails"] == "reject":
            raise Reject("tally rejects")
        if reading["fails"] == "unencodable":
            total.sum = object()  # type: ignore[assignment]
        padding = "x" * TOO_MUCH.get(reading["fails"], 0) if reading["fails"] in IN_TALLY else ""
        yield {**reading, "seq": total.count, "sum": total.sum, "padding": padding}

    @flow.stage(after=tally, key="group", state=lambda: 0, concurrency=ways.concurrency)
    async def group(count: State[int], reading: dict[str, Any]) -> dict[str, Any]:
        if rng.random() < 0.3:
            await asyncio.sleep(rng.choice((0.0, 0.01, 0.2)))
        before, count.value = count.value, count.value + 1_000
        if rng.random() < 0.2:
            await asyncio.sleep(rng.choice((0.0, 0.03)))
        _may_be_early(rng, reading)
        if reading["fails"] == "group":
            raise ValueError("group fails")
        count.value = before + 1
        return {**reading, "place": count.value, "padding": "x" * TOO_MUCH.get(reading["fails"], 0)}

    def echo(count: State[int], reading: dict[str, Any]) -> dict[str, Any]:
        count.value += 1
        _may_be_early(rng, reading)
        if reading["fails"] == "echo":
            raise ValueError("echo fails")
        if reading["fails"] == "echo-unencodable":
            count.value = object()  # type: ignore[assignment]
        reading["padding"] += "echo"
        return {**reading, "count": count.value}

    async def echo_later(count: State[int], reading: dict[str, Any]) -> dict[str, Any]:
        if rng.random() < 0.2:
            await asyncio.sleep(rng.choice((0.0, 0.01)))
        return echo(count, reading)

    handler: Any = echo_later if ways.echo_waits else echo
    flow.stage(handler, name="echo", after=tally, state=lambda: 0, chain=ways.chain)

    @flow.stage(after=tally, when=lambda reading: reading["n"] % 2, chain=ways.chain)
    def odd(reading: dict[str, Any]) -> dict[str, Any]:
        return reading

    @flow.source(state=lambda: 0)
    async def ticks(position: State[int]) -> AsyncIterator[dict[str, int]]:
        while position.value < TICKS:
            position.value += 1
            yield {"tick": position.value}
            await asyncio.sleep(0.05)

    flow.reply(after=group)
    flow.sink("groups", after=group, topic="groups")
    flow.sink("echoes", after="echo", topic="echoes")
    flow.sink("odds", after=odd, topic="odds")
    flow.sink("ticked", after="ticks", topic="ticked", key=lambda _: "tick")
    flow.sink("table", table, after=tally)
    return flow


def _may_be_early(rng: random.Random, reading: dict[str, Any]) -> None:
    """One in ten events is sent away now and then, whatever becomes of it later."""
    if reading["id"] % 10 == 3 and rng.random() < 0.6:
        raise RetryLater(rng.choice((0.0, 0.01, 0.3, 2.0)))


def make_input(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Readings of a few stations; one in a hundred or so will fail somewhere."""
    share = rng.choice((0.0, 0.02, 0.1))
    return [
        {
            "id": id,
            "station": rng.choice("abcdefgh"),
            "group": rng.choice("xyz"),
            "n": rng.randrange(1_000),
            "fails": rng.choice(IN_TALLY + IN_ECHO + IN_GROUP) if rng.random() < share else "",
        }
        for id in range(count)
    ]


def request(reading: dict[str, Any]) -> Headers:
    """Half of the readings ask for an answer; not those that would get one and an error."""
    if reading["id"] % 2 or reading["fails"] in IN_ECHO:
        return []
    id = b"%d" % reading["id"]
    return [(CORRELATION_ID, id), (REPLY_TO, reply_address("sim.replies", reading["id"] % LANES))]


def check_answers(given: Sequence[dict[str, Any]], answers: Sequence[Found]) -> None:
    """Whether each that asked was answered once, with the result or with the error."""
    found: dict[int, bool] = {}
    for _, value, headers in answers:
        id = int(header(headers, CORRELATION_ID) or b"")
        assert id not in found, f"{id} was answered twice"
        found[id] = header(headers, REPLY_FROM) == b"group"
        assert not found[id] or value["id"] == id
    assert found == {r["id"]: not r["fails"] for r in given if request(r)}


def check(given: Sequence[dict[str, Any]], topics: dict[str, list[Any]], table: Table) -> None:
    """Whether the output follows from the input, each event counted exactly once."""
    totals: dict[str, Total] = defaultdict(Total)
    tallied: dict[int, dict[str, Any]] = {}
    for reading in given:
        if reading["fails"] not in IN_TALLY:
            total = totals[reading["station"]]
            total.add(reading["n"])
            tallied[reading["id"]] = {**reading, "seq": total.count, "sum": total.sum, "padding": ""}
    _check_order("odds", [v for v in tallied.values() if v["n"] % 2], [v for _, v in topics["odds"]])
    _check_order("table", list(tallied.values()), table.rows)
    echoed: dict[str, int] = defaultdict(int)
    echoes = []
    for value in tallied.values():
        if value["fails"] not in IN_ECHO:
            echoed[value["station"]] += 1
            echoes.append({**value, "padding": "echo", "count": echoed[value["station"]]})
    _check_order("echoes", echoes, [v for _, v in topics["echoes"]])
    passed = [value for value in tallied.values() if value["fails"] not in IN_GROUP]
    grouped = [value for _, value in topics["groups"]]
    _check_order("groups", passed, [{k: v for k, v in value.items() if k != "place"} for value in grouped])
    places: dict[str, int] = defaultdict(int)
    for value in grouped:
        places[value["group"]] += 1
        assert value["place"] == places[value["group"]], f"groups: {value} at {places}"
    ticked = [value["tick"] for _, value in topics["ticked"]]
    assert ticked == list(range(1, TICKS + 1)), f"ticks: {ticked}"
    dead = sorted(value["id"] for _, value in topics["sim.dead-letters"])
    assert dead == [r["id"] for r in given if r["fails"]], f"dead letters: {dead}"
    assert _state(topics["sim.tally.changelog"]) == {
        station: {"count": total.count, "sum": total.sum, "last": total.last}
        for station, total in totals.items()
    }
    assert _state(topics["sim.echo.changelog"]) == dict(echoed)
    assert _state(topics["sim.group.changelog"]) == dict(places)


def _check_order(what: str, wanted: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> None:
    """What belongs together in the order of the input, nothing missing and nothing twice."""
    for way in itertools.product("abcdefgh", "xyz" if what == "groups" else [None]):
        theirs, ours = (
            [v for v in values if v["station"] == way[0] and way[1] in (v["group"], None)]
            for values in (wanted, found)
        )
        assert ours == theirs, f"{what} of {way}: {[v['id'] for v in ours]} != {[v['id'] for v in theirs]}"


def _state(changelog: Sequence[tuple[bytes | None, Any]]) -> dict[str, Any]:
    last = {(key or b"").decode(): value for key, value in changelog}
    return {key: value for key, value in last.items() if value is not None}

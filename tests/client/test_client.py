"""Asking a running flow, on every log."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reflow_kafka import (
    BrokerUnavailable,
    Client,
    Engine,
    Flow,
    RequestFailed,
    TopologyMismatch,
    UsageError,
)
from reflow_kafka.client import client as module
from reflow_kafka.errors import LogDoubt, LogError
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.serde.keys import partition_of
from reflow_kafka.state.memory import MemoryBackend
from tests.client.flows import Bill, Order, shop

DEADLINE = 40
Open = Callable[..., contextlib.AbstractAsyncContextManager[Client]]


class Place:
    """A log, and how engines and clients of it are made."""

    def __init__(self, kind: str, folder: Path, bootstrap: str | None) -> None:
        self.kind = kind
        self._folder = folder
        self._bootstrap = bootstrap
        self.log = MemoryLog() if kind == "memory" else None

    def engine(self, flow: Flow, **options: Any) -> Engine:
        if self.log is not None:
            return Engine(flow, log=self.log, state=MemoryBackend(), **options)
        return Engine(flow, bootstrap=self._bootstrap, data_dir=self._folder, **options)

    def client(self, flow: Flow) -> Client:
        if self.log is not None:
            return Client(flow, log=self.log)
        return Client(flow, self._bootstrap, data_dir=self._folder)


@pytest.fixture(params=["memory", "embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def somewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    bootstrap = request.getfixturevalue("kafka_bootstrap") if request.param == "kafka" else None
    return Place(request.param, tmp_path, bootstrap)


@pytest.fixture
async def place(somewhere: Place) -> AsyncIterator[Place]:
    place = somewhere
    if place.log is not None:
        await place.log.start()
    async with asyncio.timeout(DEADLINE):
        yield place
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert {task for task in left if not task.done()} == set(), "something was left running"
    if place.log is not None:
        await place.log.stop()


@pytest.fixture
def flow(unique: str) -> Flow:
    return shop(unique, f"{unique}-orders")


async def test_a_request_is_answered(place: Place, flow: Flow) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    async with place.engine(flow), place.client(flow) as client:
        bill = await client.request("orders", Order("pen", 2))
        assert isinstance(bill, Bill), "typed as its stage emitted it"
        assert (bill.item, bill.total, bill.nth) == ("pen", 6, 1)
        assert before < bill.at < datetime.now(UTC) + timedelta(seconds=1)
        again = await client.request(flow["orders"], {"item": "pen"}, timeout=timedelta(seconds=20))
        assert (again.nth, again.total) == (2, 3)
        assert await client.request("orders", None, key="pen") is None, "a tombstone"
        assert (await client.request("orders", Order("pen"))).nth == 1


async def test_thousands_at_once(place: Place, flow: Flow) -> None:
    """Each gets its own answer; those of one key are processed in the order in which they were asked."""
    count = 2_000
    async with place.engine(flow), place.client(flow) as one, place.client(flow) as other:
        asked = [Order(f"item {n % 100}", n) for n in range(count)]
        clients = [(one, other)[n % 2] for n in range(count)]  # an item always goes to the same client
        bills = await asyncio.gather(
            *(c.request("orders", order, timeout=30) for c, order in zip(clients, asked, strict=True))
        )
    assert [(bill.item, bill.total) for bill in bills] == [(o.item, 3 * o.pieces) for o in asked]
    assert [bill.nth for bill in bills] == [n // 100 + 1 for n in range(count)]


async def test_a_dead_letter_is_an_error_at_once_and_others_go_on(place: Place, flow: Flow) -> None:
    async with place.engine(flow), place.client(flow) as client:
        good = [client.request("orders", Order("pen", n)) for n in range(20)]
        with pytest.raises(RequestFailed) as caught:
            await client.request("orders", Order("pen", -1), timeout=20)
        assert (caught.value.stage, caught.value.type) == ("count", "reflow_kafka.errors.Reject")
        assert caught.value.message == "-1 pieces"
        assert str(caught.value) == "stage 'count' failed: reflow_kafka.errors.Reject: -1 pieces"
        assert sorted(bill.total for bill in await asyncio.gather(*good)) == [3 * n for n in range(20)]


async def test_no_answer_in_time_names_source_and_seconds(place: Place, flow: Flow) -> None:
    async with place.engine(flow), place.client(flow) as client:
        await client.request("orders", Order("pen"))
        began = time.monotonic()
        message = f"source 'orders' of flow '{flow.name}': no answer within 0.3 s"
        with pytest.raises(TimeoutError, match=message):
            await client.request("orders", Order("silent"), timeout=0.3)
        assert time.monotonic() - began < 10
        # The late answer finds nobody, and the next one its own.
        with pytest.raises(TimeoutError):
            await client.request("orders", Order("slow", 1), timeout=0.1)
        assert (await client.request("orders", Order("slow", 0), timeout=20)).nth == 2


async def test_sending_asks_for_nothing(place: Place, flow: Flow) -> None:
    async with place.engine(flow), place.client(flow) as client:
        for n in range(10):
            await client.send("orders", Order("pen", n))
        assert (await client.request("orders", Order("pen"))).nth == 11


async def test_a_request_can_be_sent_before_the_flow_runs(place: Place, flow: Flow) -> None:
    async with place.client(flow) as client:
        first = asyncio.create_task(client.request("orders", Order("pen"), timeout=30))
        await client.send("orders", Order("book"))
        async with place.engine(flow):
            assert (await first).nth == 1
        second = asyncio.create_task(client.request("orders", Order("pen"), timeout=30))
        await asyncio.sleep(0.1)
        async with place.engine(flow):
            assert (await second).item == "pen"


async def test_closing_tells_those_who_wait(place: Place, flow: Flow) -> None:
    async with place.client(flow) as client:
        await client.send("orders", Order("pen"))
        waiting = [asyncio.create_task(client.request("orders", Order("pen"))) for _ in range(3)]
        await asyncio.sleep(0.05)
    for task in waiting:
        with pytest.raises(UsageError, match="the client was closed before"):
            await task
    for call in (client.request("orders", Order("pen")), client.send("orders", Order("pen"))):
        with pytest.raises(UsageError, match="the client was closed before"):
            await call


async def test_a_client_has_to_be_opened(flow: Flow) -> None:
    client = Client(flow)
    for call in (client.request("orders", Order("pen")), client.send("orders", Order("pen"))):
        with pytest.raises(UsageError, match="found a client that is not open, wanted: async with"):
            await call


async def test_what_cannot_be_asked(place: Place, unique: str) -> None:
    flow = Flow(unique, partitions=2)

    @flow.stage(after=flow.source("orders", topic=f"{unique}-orders", type=Order))
    def count(order: Order) -> int:
        return 1

    async with place.client(flow) as client:
        await client.send("orders", Order("pen"))
        with pytest.raises(UsageError, match=rf"flow '{unique}' answers nobody: give it flow\.reply\(after"):
            await client.request("orders", Order("pen"))
        with pytest.raises(UsageError, match="'count' is a stage of flow"):
            await client.send(flow[count], Order("pen"))
        with pytest.raises(UsageError, match="has no source 'order'; did you mean 'orders'"):
            await client.send("order", Order("pen"))
        with pytest.raises(UsageError, match=r"source 'orders' does not take this value: .*pieces"):
            await client.send("orders", {"item": "pen", "pieces": "many"})
        with pytest.raises(UsageError, match="is not of flow"):
            await client.send(shop("other")["orders"], Order("pen"))


async def test_a_flow_of_another_shape_is_found_out(place: Place, flow: Flow) -> None:
    """The topic of replies has as many partitions as the flow."""
    async with place.engine(flow):
        pass
    other = Flow(flow.name, partitions=3)
    other.reply(after=other.source("orders", topic=f"{flow.name}-orders"))
    async with place.client(other) as client:
        with pytest.raises(TopologyMismatch, match=rf"{flow.name}\.replies"):
            await client.request("orders", {})


async def test_each_output_is_read_in_its_own_type(place: Place, unique: str) -> None:
    flow = Flow(unique, partitions=2)
    words = flow.source("words", topic=f"{unique}-words", type=str)

    @flow.stage(after=words, outputs=["raw"])
    def shout(word: str) -> str | Any:
        from reflow_kafka import Event

        return Event([word], to="raw") if word == "raw" else word.upper()

    @flow.stage(after=words, when=lambda word: word == "bytes")
    def encoded(word: str) -> bytes:
        return b"\xff"

    flow.reply(after=[encoded, "shout.raw"])
    flow.reply(after=shout, name="loud", when=lambda word: word != "BYTES")
    async with place.engine(flow), place.client(flow) as client:
        answers = [await client.request("words", word) for word in ("a", "raw", "bytes")]
    assert answers == ["A", ["raw"], b"\xff"]


async def test_a_failing_engine_does_not_lose_requests(place: Place, flow: Flow) -> None:
    """Those in flight are answered by whoever runs the flow next, in their order."""
    async with place.client(flow) as client:
        engine = place.engine(flow)
        with contextlib.suppress(asyncio.CancelledError):
            async with engine:
                await client.request("orders", Order("pen"), timeout=20)
                waiting = [
                    asyncio.create_task(client.request("orders", Order("pen"), timeout=35))
                    for _ in range(100)
                ]
                await asyncio.sleep(0.01)
                engine.abort()
        async with place.engine(flow):
            assert [bill.nth for bill in await asyncio.gather(*waiting)] == list(range(2, 102))


async def test_an_address_that_nobody_answers(unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from reflow_kafka.log.kafka import log

    monkeypatch.setattr(log.KafkaLog.__init__, "__kwdefaults__", {
        **log.KafkaLog.__init__.__kwdefaults__, "deadline": 0.5,
    })  # fmt: skip
    with pytest.raises(BrokerUnavailable, match="no Kafka broker answered"):
        async with Client(shop("f"), f"127.0.0.1:{unused_tcp_port}"):
            pass


async def test_a_log_that_is_closed_is_an_error() -> None:
    log = MemoryLog()
    await log.start()
    async with Client(shop("f"), log=log) as client:
        await log.stop()
        with pytest.raises(LogError, match="closed"):
            await client.request("orders", Order("pen"))


async def test_an_event_that_is_not_acknowledged_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog()
    await log.start()
    free = asyncio.Event()

    async def never(*_: object) -> None:
        await free.wait()

    monkeypatch.setattr(log, "publish", never)
    monkeypatch.setattr(module, "SEND_TIMEOUT", 0.1)
    message = "source 'orders' of flow 'f': not acknowledged within 0.1 s; the event may be written"
    async with Client(shop("f"), log=log) as client:
        sent = [client.send("orders", Order("pen")) for _ in range(10)]
        for outcome in await asyncio.gather(*sent, return_exceptions=True):
            assert isinstance(outcome, LogDoubt)
            assert str(outcome) == message
    await log.stop()


async def test_topics_that_grow_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    log = MemoryLog()
    await log.start()
    monkeypatch.setattr(module, "REFRESH", 0.0)
    key, partition = next((str(n), p) for n in range(99) if (p := partition_of(b"%d" % n, 9)) >= 4)
    async with Client(shop("f"), log=log) as client:
        await client.send("orders", Order(key))
        await log.grow_topic("orders", 9)
        await client.send("orders", Order(key))
    ends = await log.end_offsets(
        [TopicPartition("orders", p) for p in (partition_of(key.encode(), 4), partition)]
    )
    assert list(ends.values()) == [1, 1]
    await log.stop()

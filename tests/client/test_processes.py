"""Clients and workers in processes of their own, some of which are killed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from reflow_kafka import Client, Flow
from reflow_kafka.serde.keys import partition_of
from tests.client import asking
from tests.client.flows import Bill, Order, shop
from tests.support.waiting import wait_until
from tests.support.workers import Worker, Workers

DEADLINE = 60


@pytest.fixture
def flow(unique: str) -> Flow:
    return shop(unique, f"{unique}-orders")


@pytest.fixture
def embedded(tmp_path: Path, unique: str) -> Iterator[Workers]:
    with Workers(tmp_path, unique) as workers:
        yield workers


@pytest.fixture
def kafka(tmp_path: Path, unique: str, kafka_bootstrap: str) -> Iterator[Workers]:
    with Workers(tmp_path, unique, kafka_bootstrap) as workers:
        yield workers


async def ask(client: Client, count: int) -> list[Bill]:
    """Requests about one item, all at once: their answers are numbered in the order of the questions."""
    return await asyncio.gather(*(client.request("orders", Order("pen"), timeout=50) for _ in range(count)))


async def answered(client: Client, item: str) -> Bill:
    bill: Bill = await client.request("orders", Order(item), timeout=50)
    return bill


@pytest.mark.slow
async def test_workers_of_an_embedded_log_come_and_go_while_a_client_asks(
    embedded: Workers, flow: Flow
) -> None:
    """Before the first worker runs, through its socket, and across a kill -9: each is answered once."""
    async with asyncio.timeout(DEADLINE), Client(flow, data_dir=embedded.data_dir) as client:
        first = asyncio.create_task(ask(client, 10))
        await client.send("orders", Order("book"))
        worker = await asyncio.to_thread(embedded.start, "answers")
        assert [bill.nth for bill in await first] == list(range(1, 11))
        second = asyncio.create_task(ask(client, 300))
        await answered(client, "something else")
        await client.send("orders", Order("pen"))  # what was asked before it is written, too
        await asyncio.to_thread(worker.kill)
        worker = await asyncio.to_thread(embedded.start, "answers")
        assert [bill.nth for bill in await second] == list(range(11, 311))
        # The first may have answered all: the second is still to start then.
        await asyncio.to_thread(wait_until, worker.lanes, 40, "the second worker runs lanes")
        assert await asyncio.to_thread(worker.stop) == 0
        third = asyncio.create_task(ask(client, 10))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(embedded.start, "answers")
        assert [bill.nth for bill in await third] == list(range(312, 322))


@pytest.mark.kafka
async def test_a_client_that_is_killed_disturbs_nobody(
    kafka: Workers, flow: Flow, kafka_bootstrap: str
) -> None:
    """Its requests are processed, their answers wait for nobody; no lane is lost, stopped or slowed down."""
    worker = kafka.start("answers")
    async with asyncio.timeout(DEADLINE), Client(flow, kafka_bootstrap) as client:
        await answered(client, "pen")
        told = len(worker.warnings())
        taken = worker.lanes()
        for _ in range(3):
            await kill_one(worker, flow.name, kafka_bootstrap)
            bills = [await answered(client, "killed 7") for _ in range(3)]
            assert bills[0].nth < bills[1].nth < bills[2].nth
        assert worker.alive
        assert sum(worker_take_overs(worker).values()) == len(taken), "no lane was taken over again"
        assert worker.warnings()[told:] == []


def worker_take_overs(worker: Worker) -> dict[int, int]:
    found: dict[int, int] = {}
    for one in worker.take_overs():
        found[one.lane] = found.get(one.lane, 0) + 1
    return found


async def kill_one(worker: Worker, name: str, bootstrap: str) -> None:
    """A client with requests in flight."""
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-m", asking.__name__, name, bootstrap, stdout=subprocess.PIPE
    )
    assert victim.stdout is not None
    try:
        assert await victim.stdout.readline() == b"asking\n"
        await asyncio.sleep(0.1)  # somewhere in the middle of things
    finally:
        victim.kill()
        await victim.wait()


@pytest.mark.kafka
@pytest.mark.slow
async def test_requests_survive_the_worker_that_was_to_answer_them(
    kafka: Workers, flow: Flow, kafka_bootstrap: str
) -> None:
    lane = partition_of(b"pen", flow.partitions)
    for _ in range(2):
        kafka.start("answers")
    await asyncio.to_thread(wait_until, lambda: kafka.shares() == [2, 2], 40, "two workers share all lanes")
    async with asyncio.timeout(DEADLINE), Client(flow, kafka_bootstrap) as client:
        waiting = [asyncio.create_task(answered(client, "pen")) for _ in range(2_000)]
        await waiting[0]
        await asyncio.to_thread(kafka.owners()[lane].kill)
        assert not all(task.done() for task in waiting), "some were in flight"
        assert [bill.nth for bill in await asyncio.gather(*waiting)] == list(range(1, 2_001))


@pytest.mark.kafka
@pytest.mark.slow
async def test_a_topic_of_replies_that_was_deleted_is_made_again(
    kafka: Workers, flow: Flow, kafka_bootstrap: str
) -> None:
    """What was asked meanwhile is processed once, though its answer may be lost."""
    kafka.start("answers")
    async with asyncio.timeout(DEADLINE), Client(flow, kafka_bootstrap) as client:
        assert (await answered(client, "pen")).nth == 1
        admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
        (deleted,) = admin.delete_topics([f"{flow.name}.replies"]).values()
        await asyncio.to_thread(deleted.result, 30)
        with contextlib.suppress(TimeoutError):
            await client.request("orders", Order("pen"), timeout=0.5)
        async with Client(flow, kafka_bootstrap) as other:
            assert (await answered(other, "pen")).nth == 3
        assert (await answered(client, "pen")).nth == 4

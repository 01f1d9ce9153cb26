"""The same in `async def` tests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reflow_kafka import Flow, UsageError
from reflow_kafka.testing import AsyncFlowTest, FlowTest


def doubling() -> Flow:
    flow = Flow("doubling")
    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers", state=list)
    async def doubled(seen: list[int], n: int) -> int:
        await asyncio.sleep(1)
        if n < 0:
            raise ValueError(n)
        seen.append(n)
        return 2 * n

    flow.reply(after="doubled")
    return flow


async def test_everything_that_makes_something_happen_is_awaited() -> None:
    async with AsyncFlowTest(doubling(), start=0) as test:
        await test.send("numbers", 1, key="a")
        await test.send_all("numbers", [2])
        assert (test.outputs("doubled"), test.state("doubled", "a")) == ([2], [1])
        assert len(test.dead_letters()) == 1, "an event without a key"
        assert await test.request("numbers", 4, key="a") == 8
        before = test.now
        await test.advance(10)
        assert test.now == before + 10_000
        await test.restart(lose_state=True)
        assert test.state("doubled", "a") == [1, 4]
        await test.end()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_loop_of_the_test_goes_on_meanwhile() -> None:
    flow = Flow("meeting")
    flow.source("numbers", topic="numbers")
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[int] = asyncio.Queue()

    @flow.stage(after="numbers", run_in="thread")
    def passed_on(n: int) -> int:
        return asyncio.run_coroutine_threadsafe(answer(n), loop).result(30)

    async def answer(n: int) -> int:
        await asked.put(n)
        return n + 1

    async with AsyncFlowTest(flow) as test:
        await test.send("numbers", 1)
        assert (test.outputs("passed_on"), await asked.get()) == ([2], 1)


async def test_connections_of_handlers_are_waited_for() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.readline()
        await asyncio.sleep(0.05)
        writer.write(b"re: " + question)
        writer.close()
        await writer.wait_closed()

    flow = Flow("networked")
    flow.source("questions", topic="questions")

    @flow.stage(after="questions", timeout=30)
    async def asked(question: str, port: int) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{question}\n".encode())
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return answer.decode().strip()

    @flow.resource
    def port() -> int:
        raise AssertionError

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        async with AsyncFlowTest(flow, resources={"port": address[1]}) as test:
            before = test.now
            await test.send("questions", "why")
            assert (test.outputs("asked"), test.now) == (["re: why"], before)


async def test_the_plain_one_is_refused_where_a_loop_runs() -> None:
    with pytest.raises(UsageError, match="AsyncFlowTest"), FlowTest(doubling()):
        pass


async def test_what_keeps_the_flow_from_starting_is_raised() -> None:
    flow = doubling()

    @flow.resource
    def service() -> Any:
        raise OSError("away")

    flow.stage(lambda n, service: n, name="uses", after="doubled")
    with pytest.raises(OSError, match="away"):
        async with AsyncFlowTest(flow):
            pass

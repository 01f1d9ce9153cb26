"""Time that passes only when nothing can be done."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from reflow_kafka import clock
from reflow_kafka.lane.calls import from_outside
from reflow_kafka.testing.loop import VirtualClock, VirtualLoop


@contextmanager
def virtual(
    idle: Callable[[float], float | None] = lambda at: at, connected: Callable[[], bool] = lambda: False
) -> Iterator[VirtualLoop]:
    loop = VirtualLoop(idle, connected)
    try:
        yield loop
    finally:
        loop.close()


def test_sleeps_take_no_time_and_come_in_order() -> None:
    told: list[tuple[str, float]] = []
    with virtual() as loop:

        async def sleeper(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            told.append((name, round(loop.virtual, 3)))

        async def main() -> None:
            await asyncio.gather(sleeper("day", 86_400), sleeper("blink", 0.001), sleeper("hour", 3_600))

        loop.run_until_complete(main())
    assert told == [("blink", 0.001), ("hour", 3_600.0), ("day", 86_400.0)]


def test_it_stops_where_time_may_go_no_further_and_goes_on_from_there() -> None:
    asked: list[float] = []
    limit = 5.0

    def idle(at: float) -> float | None:
        asked.append(at)
        return limit if loop.virtual < limit else None

    with virtual(idle) as loop:
        fired: list[float] = []
        loop.call_later(3, lambda: fired.append(loop.virtual))
        loop.call_later(8, lambda: fired.append(loop.virtual))
        loop.run_forever()
        assert (loop.virtual, [round(at) for at in fired]) == (5.0, [3])
        limit = 20.0
        loop.run_forever()
        assert (loop.virtual, [round(at) for at in fired]) == (20.0, [3, 8])
    assert asked[-1] == math.inf, "nothing was left that would ever happen"


def test_a_wait_that_rounding_makes_endlessly_short_ends() -> None:
    with virtual() as loop:
        end = loop.time() + 1e-9

        def look() -> None:
            loop.call_soon(look) if loop.time() < end else loop.stop()

        look()
        loop.give_up_at = time.perf_counter() + 30
        loop.run_forever()
        assert loop.time() >= end


@pytest.mark.parametrize("how", ["thread", "executor"])
def test_what_a_thread_does_is_waited_for_and_the_time_of_day_stands_still(how: str) -> None:
    with virtual() as loop:

        async def main() -> str:
            asyncio.get_running_loop().call_later(3_600, lambda: None)
            if how == "executor":
                return await asyncio.to_thread(lambda: time.sleep(0.05) or "done")
            future = from_outside(loop)
            threading.Timer(0.05, lambda: loop.call_soon_threadsafe(future.set_result, "done")).start()
            return await future

        assert loop.run_until_complete(main()) == "done"
        assert loop.virtual == 0
        assert loop.time() < 3_600
        loop.run_until_complete(loop.shutdown_default_executor())


def test_time_outs_of_threads_pass_as_they_really_do() -> None:
    with virtual() as loop:

        async def main() -> None:
            async with asyncio.timeout(0.05):
                await from_outside(loop)

        with pytest.raises(TimeoutError):
            loop.run_until_complete(main())
        assert loop.virtual == 0


@pytest.mark.parametrize("waits", [True, False])
def test_an_open_connection_is_waited_for_if_somebody_waits_for_it(waits: bool) -> None:
    here, there = socket.socketpair()
    with here, there, virtual(connected=lambda: waits) as loop:
        here.setblocking(False)
        answering = threading.Timer(0.05, there.send, [b"!"])
        answering.start()

        async def main() -> str:
            try:
                async with asyncio.timeout(3_600):
                    return (await loop.sock_recv(here, 1)).decode()
            except TimeoutError:
                return "too late"

        assert loop.run_until_complete(main()) == ("!" if waits else "too late")
        assert loop.virtual == (0 if waits else pytest.approx(3_600))
        answering.join()


def test_it_gives_up_what_comes_to_no_end() -> None:
    with virtual() as loop:

        def again() -> None:
            loop.call_soon(again)

        again()
        loop.give_up_at = time.perf_counter() + 0.01
        loop.run_forever()
        assert time.perf_counter() > loop.give_up_at


def test_the_clock_of_a_context_holds_for_what_is_started_there() -> None:
    with virtual() as loop:
        told: list[int] = []

        async def later() -> None:
            await asyncio.sleep(1.5)
            told.append(clock.now())

        async def main() -> None:
            virtual = VirtualClock(loop, 1_000)
            clock.use(virtual)
            assert clock.current().runs is False
            await asyncio.sleep(5)
            assert clock.now() == 1_000, "it begins when it is told to"
            virtual.go()
            await asyncio.create_task(later())

        loop.run_until_complete(main())
    assert told == [2_500]
    assert clock.current().runs is True
    assert abs(clock.now() - time.time() * 1000) < 60_000

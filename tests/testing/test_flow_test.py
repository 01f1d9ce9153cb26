"""Flows of every kind, run step by step on the real engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reflow_kafka import (
    Batch,
    ConnectorContext,
    Context,
    Event,
    Flow,
    FlowStopped,
    Rate,
    ReflowError,
    Reject,
    RequestFailed,
    Retry,
    RetryLater,
    State,
    UsageError,
)
from reflow_kafka.testing import DeadLetter, FlowTest

START = 1_735_689_600_000


def counting() -> Flow:
    flow = Flow("shop")
    flow.source("orders", topic="orders", key="customer")

    @flow.stage(after="orders", state=lambda: 0)
    def total(state: State[int], order: dict[str, Any]) -> int:
        if order["n"] < 0:
            raise ValueError("negative")
        state.value += order["n"]
        return state.value

    flow.sink("totals", topic="totals", after="total", when=lambda n: n >= 10)
    return flow


def order(customer: str, n: int) -> dict[str, Any]:
    return {"customer": customer, "n": n}


# ---- what is seen


def test_outputs_of_stages_and_sinks_and_the_state_are_there_when_send_returns() -> None:
    with FlowTest(counting()) as test:
        test.send("orders", order("ada", 7))
        assert test.outputs("total") == [7]
        assert test.outputs("totals") == []
        test.send("orders", order("bob", 1))
        test.send("orders", order("ada", 5))
        assert test.outputs("total") == [7, 1, 12]
        assert test.outputs("totals") == [12]
        assert (test.state("total", "ada"), test.state("total", "bob")) == (12, 1)
        assert test.state("total", "eve") is None
        assert test.dead_letters() == []


def test_a_flow_can_be_tested_again_and_again() -> None:
    flow = counting()
    for _ in range(2):
        with FlowTest(flow) as test:
            test.send("orders", order("ada", 7))
            assert test.outputs("total") == [7]


def test_outputs_come_in_the_order_of_what_was_sent_whatever_their_keys() -> None:
    flow = Flow("many")
    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers")
    def spread(n: int) -> Iterator[Event[int]]:
        yield from (Event(n * 10 + i, key=str(i)) for i in range(10))

    with FlowTest(flow) as test:
        for n in range(5):
            test.send("numbers", n)
        assert test.outputs("spread") == list(range(50))


def test_named_outputs_and_all_that_an_event_has() -> None:
    flow = Flow("sizes")
    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers", outputs=["big"])
    def sized(n: int) -> Event[int] | int:
        return Event(n, key="k", timestamp=5, headers={"h": b"1"}, to="big") if n > 9 else n

    with FlowTest(flow, start=datetime(2030, 1, 1, tzinfo=UTC)) as test:
        test.send("numbers", 1, key="a")
        test.send("numbers", 10, key="b", timestamp=77)
        assert test.outputs("sized") == [1]
        assert test.outputs("sized.big") == [10]
        (small,), (big,) = test.events(sized), test.events("sized.big")
        assert (small.key, small.timestamp, small.headers) == ("a", 1_893_456_000_000, {})
        assert (big.key, big.timestamp, big.headers) == ("k", 5, {"h": b"1"})


def test_values_come_as_their_types_say() -> None:
    flow = Flow("typed")
    numbers = flow.source("numbers", topic="numbers", type=int)
    flow.stage(_visit, name="visit", after=numbers)
    flow.sink("visits", topic="visits", after="visit")
    with FlowTest(flow) as test:
        test.send(numbers, 3)
        assert test.outputs("visit") == [Visit("p3", 3)]
        assert test.outputs("visits") == [Visit("p3", 3)]


@dataclass
class Visit:
    page: str
    n: int


def _visit(n: int) -> Visit:
    return Visit(f"p{n}", n)


def test_what_nobody_has_to_write_is_seen_as_it_is() -> None:
    """In production results that nothing follows are dropped, whatever they are."""
    flow = Flow("odd")
    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers")
    def odd(n: int) -> Any:
        return object if n else lambda: 5

    with FlowTest(flow) as test:
        test.send("numbers", 1)
        assert test.outputs("odd") == [object]
        assert test.dead_letters() == []


def test_tombstones_and_bytes_as_they_are() -> None:
    flow = Flow("raw")
    flow.source("things", topic="things")
    flow.stage(lambda value: Event(None) if value is None else value, name="same", after="things")
    with FlowTest(flow) as test:
        test.send("things", None, key="a")
        test.send("things", b'{"a": 1}', key="b")
        test.send("things", b"no json", key="c")
        assert test.outputs("same") == [None, {"a": 1}]
        (letter,) = test.dead_letters()
        assert (letter.stage, letter.value, letter.key) == ("same", b"no json", "c")


# ---- failures


def test_a_failing_event_is_tried_again_in_no_time_and_then_a_dead_letter() -> None:
    with FlowTest(counting()) as test:
        began = time.perf_counter()
        test.send("orders", order("ada", 3))
        test.send("orders", order("ada", -1), timestamp=99)
        (letter,) = test.dead_letters()
        assert letter == DeadLetter(
            stage="total",
            error="ValueError",
            message="negative",
            value=order("ada", -1),
            key="ada",
            timestamp=99,
            headers={},
            attempts=3,
            traceback=letter.traceback,
        )
        assert 'raise ValueError("negative")' in letter.traceback
        assert test.state("total", "ada") == 3
        assert 200 <= test.now - START <= 300, "the back-offs of 0.1 and 0.2 s, less some jitter"
        assert time.perf_counter() - began < 30


def test_the_outage_of_a_fake_is_waited_out_as_long_as_it_lasts() -> None:
    flow = Flow("outage")
    flow.source("numbers", topic="numbers")
    tries: list[int] = []

    @flow.stage(after="numbers", retry=Retry(None, backoff=1, factor=1, jitter=0))
    def fetch(n: int, service: dict[str, int]) -> int:
        tries.append(n)
        return service["factor"] * n

    flow.resource(service)
    fake: dict[str, int] = {}
    with FlowTest(flow, resources={"service": fake}) as test:
        test.send("numbers", 4)
        assert len(tries) == 61, "a minute, then the test goes on"
        assert test.outputs("fetch") == []
        fake["factor"] = 2
        test.advance(1)
        assert test.outputs("fetch") == [8]


def service() -> Any:
    raise AssertionError("the test gives one")


def test_an_event_that_wants_to_come_back_much_later_waits_for_the_test_to_advance() -> None:
    flow = Flow("later")
    flow.source("numbers", topic="numbers")
    seen: list[int] = []

    @flow.stage(after="numbers")
    def later(n: int, ctx: Context) -> int:
        seen.append(n)
        if n and seen.count(n) == 1:
            raise RetryLater(timedelta(hours=1))
        return n

    with FlowTest(flow) as test:
        test.send("numbers", 1, key="a")
        test.send("numbers", 2, key="a")
        test.send("numbers", 0, key="b")
        assert test.now == START, "nothing is worth waiting for"
        assert test.outputs("later") == [0], "only the key waits"
        test.advance(3599.9)
        assert test.outputs("later") == [0]
        test.advance(0.1)
        assert (test.outputs("later"), test.now) == ([0, 1], START + 3_600_000)
        test.advance(timedelta(hours=1))
        assert test.outputs("later") == [0, 1, 2]


def test_rejected_events_and_the_error_output() -> None:
    flow = Flow("strict")
    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers")
    def strict(n: int) -> int:
        raise Reject("no")

    flow.stage(lambda n: -n, name="rescue", after="strict.error")
    with FlowTest(flow) as test:
        test.send("numbers", 1)
        assert test.outputs("rescue") == [-1]
        assert test.outputs("strict.error") == [1]
        assert test.dead_letters() == []
        assert test.now == START


def test_what_stops_the_flow_is_raised_where_it_happens() -> None:
    flow = Flow("stopping")
    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers", on_error="stop", retry=Retry(1))
    def fragile(n: int) -> float:
        return 1 / n

    with FlowTest(flow) as test:
        test.send("numbers", 1)
        with pytest.raises(FlowStopped, match="division by zero"):
            test.send("numbers", 0)
        assert test.outputs("fragile") == [1.0]
        with pytest.raises(UsageError, match="restart"):
            test.send("numbers", 2)


# ---- ways to run a handler


def test_chained_stages_are_seen_too() -> None:
    flow = Flow("chained")
    flow.source("numbers", topic="numbers")
    flow.stage(lambda n: n + 1, name="first", after="numbers")
    flow.stage(lambda n: n * 2, name="second", after="first", chain=True)
    flow.sink("out", topic="out", after="second")
    with FlowTest(flow) as test:
        test.send("numbers", 1)
        assert (test.outputs("first"), test.outputs("second"), test.outputs("out")) == ([2], [4], [4])


def batching() -> Flow:
    flow = Flow("batches", partitions=1)
    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers", batch=Batch(3, within=10))
    def summed(numbers: list[int]) -> list[list[int]]:
        return [numbers] * len(numbers)

    return flow


def test_a_batch_that_does_not_fill_is_waited_for() -> None:
    with FlowTest(batching()) as test:
        test.send("numbers", 1, key="a")
        assert (test.outputs("summed"), test.now) == ([[1]], START + 10_000)


def test_what_is_sent_together_fills_batches() -> None:
    with FlowTest(batching()) as test:
        test.send_all("numbers", [1, 2, 3])
        assert (test.outputs("summed"), test.now) == ([[1, 2, 3]] * 3, START)


def test_slow_handlers_take_no_time() -> None:
    flow = Flow("slow")
    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers", concurrency=10, timeout=5)
    async def slow(n: int) -> int:
        await asyncio.sleep(n)
        return n

    with FlowTest(flow) as test:
        test.send_all("numbers", [3, 1, 2])
        assert (test.outputs("slow"), test.now) == ([1, 2, 3], START + 3_000)
        test.send("numbers", 6)
        assert [(d.error, d.attempts) for d in test.dead_letters()] == [
            ("reflow_kafka.lane.calls.TimedOut", 3)
        ]


def test_threads_are_waited_for_and_the_wall_clock_meanwhile_stands_still() -> None:
    flow = Flow("threads")
    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers", run_in="thread", concurrency=4)
    def blocking(n: int) -> str:
        time.sleep(0.02)
        return threading.current_thread().name

    with FlowTest(flow) as test:
        for n in range(3):
            test.send("numbers", n)
        assert all(name.startswith("threads.blocking") for name in test.outputs("blocking"))
        assert len(test.outputs("blocking")) == 3
        assert test.now == START


def test_a_thread_that_hangs_runs_into_its_time_limit() -> None:
    flow = Flow("hanging")
    flow.source("numbers", topic="numbers")
    free = threading.Event()

    @flow.stage(after="numbers", run_in="thread", timeout=0.1, retry=Retry(1))
    def hanging(n: int) -> None:
        free.wait(60)

    with FlowTest(flow) as test:
        test.send("numbers", 1)
        assert [letter.attempts for letter in test.dead_letters()] == [1]
        free.set()


def test_processes() -> None:
    flow = Flow("processes")
    flow.source("numbers", topic="numbers")
    flow.stage(_squared, name="squared", after="numbers", run_in="process")
    with FlowTest(flow) as test:
        test.send("numbers", 3)
        test.send("numbers", 4)
        assert (test.outputs("squared"), test.now) == ([9, 16], START)


def _squared(n: int) -> int:
    return n * n


def test_a_rate_takes_virtual_time() -> None:
    flow = Flow("rated", partitions=1)
    flow.source("numbers", topic="numbers")
    flow.stage(lambda n: n, name="limited", after="numbers", rate=Rate(1, per=10))
    with FlowTest(flow) as test:
        test.send_all("numbers", [1, 2, 3])
        assert test.outputs("limited") == [1, 2, 3]
        assert START + 20_000 <= test.now <= START + 30_000


# ---- resources and requests


def test_resources_are_opened_once_and_closed_or_given() -> None:
    flow = Flow("resources")
    log: list[str] = []

    @flow.resource
    async def rates() -> AsyncIterator[dict[str, int]]:
        log.append("open")
        yield {"eur": 2}
        log.append("close")

    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers")
    def converted(n: int, rates: dict[str, int]) -> int:
        return n * rates["eur"]

    with FlowTest(flow) as test:
        test.send("numbers", 3)
        assert test.outputs("converted") == [6]
    assert log == ["open", "close"]
    with FlowTest(flow, resources={"rates": {"eur": 10}}) as test:
        test.send("numbers", 3)
        assert test.outputs("converted") == [30]
    assert log == ["open", "close"]


def test_requests_are_answered() -> None:
    flow = Flow("asked")
    flow.source("questions", topic="questions")

    @flow.stage(after="questions", retry=Retry(1))
    def answer(n: int) -> float:
        return 10 / n

    flow.reply(after="answer")
    with FlowTest(flow) as test:
        assert test.request("questions", 5) == 2
        with pytest.raises(RequestFailed, match="division"):
            test.request("questions", 0)
        test.send("questions", 2)
        assert test.outputs("reply") == [2, 5]
        assert test.now == START


# ---- connectors


class Forbidden:
    """A connector that must not be opened."""

    async def parts(self) -> Sequence[str]:
        raise AssertionError

    async def open(self, *arguments: Any) -> Any:
        raise AssertionError


def test_connectors_and_generators_are_replaced() -> None:
    flow = Flow("outside")
    flow.source("files", Forbidden(), key="id", timestamp="at")

    @flow.source()
    def endless() -> Iterator[dict[str, Any]]:
        raise AssertionError
        yield

    @flow.stage(after=["files", "endless"])
    def row(value: dict[str, Any]) -> int:
        return value["n"]

    flow.sink("elsewhere", Forbidden(), after="row")
    with FlowTest(flow) as test:
        test.send("files", {"id": "a", "at": 5, "n": 1})
        test.send(endless, {"n": 2}, key="b", timestamp=7)
        test.send("endless", {"n": 3})
        assert test.outputs("elsewhere") == [1, 2, 3]
        assert [(e.key, e.timestamp) for e in test.events("row")] == [("a", 5), ("b", 7), ("", START)]
        test.restart()
        test.send("files", {"id": "a", "at": 5, "n": 4})
        assert test.outputs("elsewhere") == [1, 2, 3, 4], "nothing is read twice"


class Shelf:
    """A sink that is as real as one in a test can be; its methods block, so they run in threads."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def open(self, ctx: ConnectorContext) -> Shelf:
        return self

    def write(self, events: Sequence[Event[Any]]) -> None:
        self.events += [event.value for event in events]

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_real_connectors_are_used_where_the_test_says_so() -> None:
    flow = Flow("real")

    @flow.source()
    def numbers() -> Iterator[int]:
        yield from (1, 2)

    shelf = Shelf()
    flow.sink("shelf", shelf, after="numbers")
    with FlowTest(flow, real=["numbers", "shelf"]) as test:
        test.end()
        assert test.outputs("shelf") == shelf.events == [1, 2]
    with pytest.raises(UsageError, match="shelv"):
        FlowTest(flow, real=["shelv"])


def test_schedules_fire_when_the_clock_gets_there() -> None:
    flow = Flow("scheduled")
    flow.source("beat", every=60)
    flow.stage(lambda beat: beat["tick"], name="ticks", after="beat")
    with FlowTest(flow) as test:
        test.advance(59)
        assert test.outputs("ticks") == []
        test.advance(1)
        assert test.outputs("ticks") == [1]
        test.advance(timedelta(minutes=3))
        assert test.outputs("ticks") == [1, 2, 3, 4]
        assert [event.timestamp for event in test.events("ticks")][:2] == [START + 60_000, START + 120_000]


def test_what_a_function_as_sink_was_given() -> None:
    flow = Flow("written")
    flow.source("numbers", topic="numbers")
    rows: list[int] = []

    @flow.sink(after="numbers", when=lambda n: n > 1)
    def store(n: int) -> None:
        rows.append(n)

    with FlowTest(flow) as test:
        test.send_all("numbers", [1, 2])
        assert test.outputs("store") == rows == [2]


# ---- the end, and another beginning


def test_a_restart_does_again_what_was_not_committed_and_nothing_else() -> None:
    flow = Flow("again")
    flow.source("numbers", topic="numbers", key=str)
    calls: list[int] = []
    down = [True]

    @flow.stage(after="numbers", state=lambda: 0, retry=Retry(None, backoff=3600, max_backoff=3600))
    def counted(state: State[int], n: int) -> int:
        calls.append(n)
        if n == 2 and down:
            raise OSError("down")
        state.value += 1
        return n

    with FlowTest(flow) as test:
        test.send("numbers", 1)
        test.send("numbers", 2)
        assert calls == [1, 2]
        down.clear()
        test.restart()
        assert calls == [1, 2, 2]
        test.restart(lose_state=True)
        test.send("numbers", 1)
        assert (calls, test.outputs("counted")) == ([1, 2, 2, 1], [1, 2, 1])
        assert (test.state("counted", "1"), test.state("counted", "2")) == (2, 1)


def test_the_end() -> None:
    with FlowTest(counting()) as test:
        test.send("orders", order("ada", 7))
        test.end()
        assert test.outputs("total") == [7]
        with pytest.raises(UsageError, match="ended"):
            test.send("orders", order("ada", 7))
        test.restart()
        test.send("orders", order("ada", 7))
        assert test.outputs("total") == [7, 14]


def test_nothing_is_left_behind() -> None:
    before = threading.active_count()
    with FlowTest(counting()) as test:
        test.send("orders", order("ada", 7))
        test.advance(timedelta(days=1))
        assert test.now == START + 86_400_000
    assert threading.active_count() == before


def test_named_stores() -> None:
    flow = Flow("visits", partitions=4)
    flow.source("visits", topic="visits", type=str)

    @flow.stage(after="visits", stores={"pages": int, "last": str})
    def count(page: str, *, ctx: Context) -> None:
        pages = ctx.store("pages")
        pages.put(f"{ctx.key}{page}", (pages.get(f"{ctx.key}{page}") or 0) + 1)
        ctx.store("last").put("page", page)

    with FlowTest(flow) as test:
        assert test.store("count", "pages") == {}
        for key, page in [("ada", "/tea"), ("ada", "/cup"), ("ada", "/tea"), ("eve", "/tea")]:
            test.send("visits", page, key=key)
        assert list(test.store(count, "pages").items()) == [("ada/cup", 1), ("ada/tea", 2), ("eve/tea", 1)]
        assert test.store(count, "pages", "eve") == {"eve/tea": 1}
        with pytest.raises(UsageError, match="'page' in store 'last' of several lanes"):
            test.store(count, "last")
        test.restart(lose_state=True)
        assert test.store(count, "last", "ada") == {"page": "/tea"}
        with pytest.raises(UsageError, match="did you mean 'pages'"):
            test.store(count, "page")


# ---- mistakes


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (lambda test: test.send("order", {}), "no source 'order'; did you mean 'orders'"),
        (lambda test: test.send("total", {}), "no source 'total'"),
        (lambda test: test.send("orders", object()), "does not take this value"),
        (lambda test: test.outputs("totl"), "no stage 'totl'; did you mean 'total'"),
        (lambda test: test.outputs("orders"), "is a source"),
        (lambda test: test.outputs("total.big"), "no output 'big'"),
        (lambda test: test.state("totals", "a"), "has no state"),
        (lambda test: test.state("nix", "a"), "no stage 'nix'"),
        (lambda test: test.state("total", None), "found no key"),
        (lambda test: test.store("total", "pages"), "has no store 'pages'"),
        (lambda test: test.timers("total", "a"), "has no timers"),
        (lambda test: test.advance(-1), "never go back"),
        (lambda test: test.advance("x"), r"found advance\('x'\), wanted seconds"),
        (lambda test: test.advance(event_time="x"), "found event_time='x', wanted epoch milliseconds"),
        (lambda test: test.send("orders", {}, timestamp="x"), "found timestamp='x', wanted epoch"),
    ],
)
def test_mistakes_are_told(mistake: Any, told: str) -> None:
    with FlowTest(counting()) as test, pytest.raises(UsageError, match=told):
        mistake(test)


def test_a_schedule_takes_no_events() -> None:
    flow = Flow("beats", partitions=1)
    flow.stage(print, after=flow.source("beat", every=1), name="told")
    with FlowTest(flow) as test, pytest.raises(UsageError, match=r"'beat' takes no events.*advance\("):
        test.send("beat", 1)
    with pytest.raises(UsageError, match="found start='x'"):
        FlowTest(flow, start="x").__enter__()  # type: ignore[arg-type]


def test_tests_that_are_not_open_or_open_twice() -> None:
    test = FlowTest(counting())
    with pytest.raises(UsageError, match="with FlowTest"):
        test.outputs("total")
    with test, pytest.raises(UsageError, match="a new one"):
        test.__enter__()
    with pytest.raises(UsageError, match="no_such"):
        FlowTest(counting(), resources={"no_such": 1})


def test_a_resource_that_cannot_be_opened_is_raised_by_with() -> None:
    flow = Flow("broken")
    flow.resource(service)
    flow.source("numbers", topic="numbers")
    flow.stage(lambda n, service: n, name="uses", after="numbers")
    with pytest.raises(AssertionError, match="the test gives one"), FlowTest(flow):
        pass


def test_a_stage_that_cannot_be_opened_stops_the_flow_as_it_does_in_production() -> None:
    flow = Flow("closed")
    flow.source("numbers", topic="numbers")

    @flow.stage(after="numbers")
    class Device:
        def open(self) -> None:
            raise OSError("no device")

        def __call__(self, n: int) -> int:
            return n

    with pytest.raises(FlowStopped, match="no device"), FlowTest(flow):
        pass


def test_an_engine_that_never_starts_is_told() -> None:
    flow = Flow("never")

    @flow.resource
    async def licence() -> None:
        await asyncio.Event().wait()

    flow.source("numbers", topic="numbers")
    flow.stage(lambda n, licence: n, name="uses", after="numbers")
    with pytest.raises(ReflowError, match="does not start"), FlowTest(flow):
        pass

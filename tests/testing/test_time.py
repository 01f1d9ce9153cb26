"""Both clocks under the hands of a test: windows, timers, joins, and what is late."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from reflow_kafka import Context, Flow, Retry, State, Timer
from reflow_kafka.lane import due
from reflow_kafka.testing import AsyncFlowTest, FlowTest
from reflow_kafka.windows import Tumbling, Window

START = 1_735_689_600_000


class Away:
    """A connector that is not there in a test."""

    async def parts(self) -> Sequence[str]:
        raise AssertionError

    async def open(self, *arguments: Any) -> Any:
        raise AssertionError


def visiting(*, connector: bool = False, close_on: str = "event-time") -> Flow:
    """Visits of pages are counted in windows of 10 s, two stages and a change of keys behind their source."""
    flow = Flow("visiting")
    if connector:
        flow.source("pages", Away(), timestamp="at")
    else:
        flow.source("pages", topic="pages", timestamp="at")

    @flow.stage(after="pages")
    def clean(page: dict[str, Any]) -> dict[str, Any]:
        return page

    def closed(count: State[int], window: Window) -> list[Any]:
        if window.key == "broken":
            raise ValueError("no such window")
        return [window.key, window.start, count.value]

    @flow.stage(
        after="clean",
        key="who",
        state=lambda: 0,
        window=Tumbling(10),
        on_close=closed,
        close_on=close_on,
        retry=Retry(2, backoff=1, jitter=0),
    )
    def visits(count: State[int], page: dict[str, Any]) -> None:
        count.value += 1

    return flow


def page(who: str, at: int) -> dict[str, Any]:
    return {"who": who, "at": at}


@pytest.mark.parametrize("connector", [False, True])
def test_windows_close_when_event_time_has_come_so_far(connector: bool) -> None:
    with FlowTest(visiting(connector=connector)) as test:
        for who, at in (("ada", 1_000), ("bob", 2_000), ("ada", 9_998)):
            test.send("pages", page(who, at))
        assert test.state("visits", "ada") == {Window(0, 10_000, "ada"): 2}
        test.advance(event_time=9_999)
        assert test.outputs("visits") == []
        test.advance(event_time=10_000)
        assert test.outputs("visits") == [["ada", 0, 2], ["bob", 0, 1]]
        assert [event.timestamp for event in test.events("visits")] == [9_999, 9_999]
        assert test.now == START
        test.send("pages", page("ada", 5_000))
        test.send("pages", page("ada", 15_000))
        assert test.outputs("visits.late") == [page("ada", 5_000)]
        assert test.state("visits", "ada") == {Window(10_000, 20_000, "ada"): 1}
        test.end()
        assert test.outputs("visits")[2:] == [["ada", 10_000, 1]]
        assert test.state("visits", "ada") == {}


def test_event_time_does_not_go_back_at_a_restart() -> None:
    with FlowTest(visiting()) as test:
        test.send("pages", page("ada", 1_000))
        test.advance(event_time=10_000)
        test.restart(lose_state=True)
        test.send("pages", page("ada", 2_000))
        assert test.outputs("visits") == [["ada", 0, 1]]
        assert test.outputs("visits.late") == [page("ada", 2_000)]


def test_open_windows_survive_a_restart() -> None:
    with FlowTest(visiting()) as test:
        test.send("pages", page("ada", 1_000))
        test.restart(lose_state=True)
        test.send("pages", page("ada", 2_000))
        test.advance(event_time=10_000)
        assert test.outputs("visits") == [["ada", 0, 2]]


@pytest.mark.parametrize("connector", [False, True])
def test_event_time_goes_on_with_the_wall_clock_when_traffic_has_ended(connector: bool) -> None:
    with FlowTest(visiting(connector=connector)) as test:
        test.send("pages", page("ada", 5_000))
        test.advance(30)  # idle_after of a source
        assert test.outputs("visits") == []
        test.advance(10)
        assert test.outputs("visits") == [["ada", 0, 1]]


@pytest.mark.parametrize("connector", [False, True])
def test_time_that_goes_on_with_the_wall_clock_goes_on_where_it_was_after_a_restart(connector: bool) -> None:
    with FlowTest(visiting(connector=connector)) as test:
        test.send("pages", page("ada", 1_000))
        test.advance(36)
        test.restart()
        test.advance(32)
        assert test.outputs("visits") == []
        test.advance(5)  # without what was told before, it would take 9 from then on
        assert test.outputs("visits") == [["ada", 0, 1]]


def test_windows_by_the_wall_clock_do_not_care_for_event_time() -> None:
    with FlowTest(visiting(close_on="wall-clock"), start=0) as test:
        test.send("pages", page("ada", 1_000))
        test.advance(event_time=3_600_000)
        test.advance(9.999)
        assert test.outputs("visits") == []
        test.advance(0.001)
        assert test.outputs("visits") == [["ada", 0, 1]]


def test_what_fails_at_its_time_is_tried_again_and_then_a_dead_letter() -> None:
    with FlowTest(visiting()) as test:
        test.send("pages", page("broken", 1_000))
        test.send("pages", page("fine", 1_000))
        test.advance(event_time=10_000)
        assert test.outputs("visits") == [["fine", 0, 1]]
        (letter,) = test.dead_letters()
        assert (letter.stage, letter.message, letter.attempts) == ("visits", "no such window", 2)
        assert test.now == START + 1_000


def test_both_clocks_at_once() -> None:
    with FlowTest(visiting()) as test:
        test.send("pages", page("ada", 1_000))
        test.advance(5, event_time=10_000)
        assert (test.outputs("visits"), test.now) == ([["ada", 0, 1]], START + 5_000)


def windowed() -> Flow:
    """Windows two hops away from the source."""
    flow = Flow("windowed", partitions=3)
    flow.source("clicks", topic="clicks", key="who", timestamp="at")
    flow.stage(lambda click: click, name="spread", after="clicks")

    def closed(count: State[int], window: Window) -> dict[str, Any]:
        return {"page": window.key, "from": window.start, "clicks": count.value}

    @flow.stage(after="spread", key="page", window=Tumbling(10), state=lambda: 0, on_close=closed)
    def count(count: State[int], click: dict[str, Any]) -> None:
        count.value += 1

    return flow


def test_event_time_reaches_stages_behind_others_and_survives_restarts() -> None:
    with FlowTest(windowed()) as test:
        for who, at in (("ada", 1_000), ("bob", 9_999), ("eve", 10_000)):
            test.send("clicks", {"who": who, "page": "home", "at": at})
        assert test.outputs("count") == []
        test.advance(event_time=9_999)
        assert test.outputs("count") == []
        test.restart()
        test.advance(event_time=10_000)
        assert test.outputs("count") == [{"page": "home", "from": 0, "clicks": 2}]
        test.send("clicks", {"who": "bob", "page": "home", "at": 9_000})
        assert test.outputs("count.late") == [{"who": "bob", "page": "home", "at": 9_000}]
        test.restart()
        test.send("clicks", {"who": "bob", "page": "home", "at": 9_000})
        assert len(test.outputs("count.late")) == 2
        test.advance(event_time=5_000)  # it does not go back
        test.end()
        assert test.outputs("count")[1:] == [{"page": "home", "from": 10_000, "clicks": 1}]


def test_windows_behind_other_stages_close_when_traffic_has_ended() -> None:
    with FlowTest(windowed()) as test:
        test.send("clicks", {"who": "ada", "page": "home", "at": 1_000})
        test.advance(30 + 8)
        assert test.outputs("count") == []
        test.advance(2)  # with something to spare: time that goes on alone is told ever more rarely
        assert test.outputs("count") == [{"page": "home", "from": 0, "clicks": 1}]


async def test_the_same_in_an_async_test() -> None:
    async with AsyncFlowTest(visiting()) as test:
        await test.send("pages", page("ada", 1_000))
        await test.advance(event_time=10_000)
        assert test.outputs("visits") == [["ada", 0, 1]]


# ---- timers


def reminding(clock: Any) -> Flow:
    flow = Flow("reminding", partitions=1)
    flow.source("carts", topic="carts", key="who")

    def remind(state: State[int], timer: Timer, ctx: Context) -> str:
        return f"{ctx.key} {timer.name} {state.value}"

    @flow.stage(after="carts", state=lambda: 0, on_timer=remind)
    def cart(state: State[int], event: dict[str, Any], ctx: Context) -> None:
        state.value += 1
        ctx.timer("soon", clock=clock, delay=60)
        if event.get("paid"):
            ctx.cancel_timer("soon")

    return flow


def test_timers_of_the_wall_clock_fire_when_it_gets_there() -> None:
    with FlowTest(reminding("wall-clock")) as test:
        test.send("carts", {"who": "ada"}, timestamp=0)
        assert test.timers("cart", "ada") == [Timer("soon", START + 60_000, "wall-clock")]
        assert test.timers("cart", "bob") == []
        test.advance(59.999)
        assert test.outputs("cart") == []
        test.restart(lose_state=True)
        test.advance(0.001)
        assert test.outputs("cart") == ["ada soon 1"]
        assert (test.timers("cart", "ada"), test.state("cart", "ada")) == ([], 1)
        test.send("carts", {"who": "bob"})
        test.send("carts", {"who": "bob", "paid": True})
        test.advance(timedelta(days=1))
        assert test.outputs("cart") == ["ada soon 1"]


def test_timers_of_event_time_fire_when_that_gets_there() -> None:
    with FlowTest(reminding("event-time")) as test:
        test.send("carts", {"who": "ada"}, timestamp=1_000)
        assert test.timers("cart", "ada") == [Timer("soon", 61_000, "event-time")]
        test.advance(event_time=60_999)
        assert test.outputs("cart") == []
        test.advance(event_time=61_000)
        assert [(e.value, e.timestamp) for e in test.events("cart")] == [("ada soon 1", 61_000)]


# ---- joins and gathering


def test_joins_give_up_waiting_when_event_time_has_passed() -> None:
    flow = Flow("joining")
    flow.source("orders", topic="orders", key="id")
    flow.source("payments", topic="payments", key="id")

    @flow.join("orders", "payments", how="left", within=60)
    def paid(order: dict[str, Any], payment: dict[str, Any] | None) -> list[Any]:
        return [order["id"], payment and payment["sum"]]

    with FlowTest(flow) as test:
        test.send("orders", {"id": "a"}, timestamp=1_000)
        test.send("orders", {"id": "b"}, timestamp=1_000)
        test.send("payments", {"id": "b", "sum": 5}, timestamp=2_000)
        assert test.outputs("paid") == [["b", 5]]
        test.advance(event_time=61_002)
        assert test.outputs("paid") == [["b", 5], ["a", None]]


def test_gathered_sets_that_stay_incomplete_time_out() -> None:
    flow = Flow("gathering")
    flow.source("parts", topic="parts")

    @flow.gather(after="parts", key="order", expect=2, within=60)
    def order(parts: list[dict[str, Any]]) -> list[int]:
        return [part["n"] for part in parts]

    with FlowTest(flow) as test:
        for name, n in (("a", 1), ("b", 2), ("a", 3)):
            test.send("parts", {"order": name, "n": n}, timestamp=1_000)
        assert test.outputs("order") == [[1, 3]]
        test.advance(120, event_time=121_000)
        assert len(test.outputs("order.timeout")) == 1
        assert test.outputs("order") == [[1, 3]]


def test_what_is_due_waits_in_peace_while_too_much_else_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer that may not be begun yet does not keep the stage awake."""
    monkeypatch.setattr(due, "MAX_PUT_OFF", 1)
    tries: list[str] = []

    def fire(timer: Timer, *, ctx: Context) -> str | None:
        tries.append(ctx.key or "")
        if len(tries) < 3:
            raise OSError("away")
        return ctx.key

    flow = Flow("reminding", partitions=1)
    flow.source("pages", topic="pages", key="who")

    @flow.stage(after="pages", on_timer=fire, retry=Retry(backoff=5, jitter=0))
    def remind(page: dict[str, Any], *, ctx: Context) -> None:
        ctx.timer("soon", delay=1, clock="wall-clock")

    with FlowTest(flow) as test:
        test.send("pages", page("ada", 1_000))
        test.send("pages", page("bob", 1_000))
        test.advance(30)
        assert sorted(test.outputs("remind")) == ["ada", "bob"]
        assert tries[:2] == [tries[0]] * 2


def merging(**idle_after: float) -> Flow:
    """Windows of a minute count what comes straight from `news` and, by two stages, from `rates`."""
    flow = Flow("merging", partitions=1)
    flow.source("news", topic="news", **idle_after)
    flow.source("rates", topic="rates", **idle_after)

    @flow.stage(after="rates")
    def clean(value: int) -> int:
        return value

    @flow.stage(after=clean)
    async def convert(value: int) -> int:
        await asyncio.sleep(value)
        return value

    def closed(count: State[int], window: Window) -> list[int]:
        return [window.start, count.value]

    @flow.stage(after=["news", convert], key=str, state=lambda: 0, window=Tumbling(60), on_close=closed)
    def merged(count: State[int], value: int) -> None:
        count.value += 1

    return flow


@pytest.mark.parametrize("rates", [[], [1_000]], ids=["nothing has ever come", "something came days ago"])
def test_a_source_without_traffic_holds_nothing_up_behind_stages_either(rates: list[int]) -> None:
    with FlowTest(merging()) as test:
        for at in rates:
            test.send("rates", 0, timestamp=at)
        test.send("news", 1, timestamp=600_000_000)
        test.advance(30)
        test.send("news", 2, timestamp=600_060_000)
        test.advance(1)
        assert test.outputs("merged") == [*([0, 1] for _ in rates), [600_000_000, 1]]
        test.advance(100)
        assert test.outputs("merged")[-1] == [600_060_000, 1]


def test_a_stage_is_not_idle_while_an_event_is_in_progress() -> None:
    """Its source is, again, and so is all the rest: time does not go on without it."""
    with FlowTest(merging(idle_after=1)) as test:
        test.send("news", 1, timestamp=57_000)
        test.send("rates", 0, timestamp=57_000)
        test.advance(2)
        test.send("rates", 4, timestamp=58_500)
        assert test.outputs("merged.late") == []
        test.advance(5)
        assert test.outputs("merged") == [[0, 1], [0, 1], [0, 1]]


def test_a_timer_that_failed_and_is_cancelled_holds_nothing_up() -> None:
    def fire(timer: Timer, *, ctx: Context) -> None:
        raise OSError("away")

    flow = Flow("reminding", partitions=1)
    flow.source("pages", topic="pages", key="who")

    @flow.stage(after="pages", on_timer=fire, retry=Retry(backoff=5, jitter=0))
    def remind(page: dict[str, Any], *, ctx: Context) -> None:
        if page["at"] == 1_000:
            ctx.timer("soon", delay=1, clock="wall-clock")
        else:
            ctx.cancel_timer("soon")

    with FlowTest(flow) as test:
        test.send("pages", page("ada", 1_000))
        test.advance(2)
        test.send("pages", page("ada", 2_000))
        test.advance(10)
        test.end()
        assert test.timers("remind", "ada") == []
        assert test.dead_letters() == []

"""Joins under test: both clocks are moved on, and what waits survives a restart."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from reflow_kafka import Context, Event, Flow, Retry, Table
from reflow_kafka.testing import AsyncFlowTest, FlowTest

T = 1_735_689_600_000


def ads(**options: Any) -> Flow:
    flow = Flow("ads", partitions=2, retry=Retry(attempts=2, backoff=0))
    flow.source("shown", topic="shown", key="ad", timestamp="at")
    flow.source("clicks", topic="clicks", key="ad", timestamp="at")

    @flow.join("shown", "clicks", within=(0, 10), **options)
    async def seen(shown: dict[str, Any] | None, click: dict[str, Any] | None, ctx: Context) -> Any:
        for event in (shown, click):
            if event is not None and event.get("bad"):
                raise ValueError(f"bad {event['at']}")
        return [ctx.key, ctx.timestamp - T, shown and shown["at"] - T, click and click["at"] - T]

    return flow


def event(at: int, ad: str = "a", **more: Any) -> dict[str, Any]:
    return {"ad": ad, "at": T + at, **more}


def test_what_stays_alone_comes_when_its_time_has_passed_once() -> None:
    with FlowTest(ads(how="left"), start=T) as test:
        test.send("shown", event(0))
        test.send("shown", event(5))
        test.restart()
        test.send("clicks", event(10_003))
        test.advance(event_time=T + 10_000)
        assert test.outputs("seen") == [["a", 10_003, 5, 10_003]]
        test.advance(event_time=T + 10_001)
        assert test.outputs("seen")[1:] == [["a", 0, 0, None]]
        test.restart(lose_state=True)
        test.send("clicks", event(10_000))
        test.advance(event_time=T + 30_000)
        test.end()
        assert len(test.outputs("seen")) == 2
        assert test.outputs("seen.late") == [event(10_000)]


def test_an_event_that_fails_with_one_partner_has_met_none() -> None:
    with FlowTest(ads(how="outer"), start=T) as test:
        for shown in (event(1), event(2, bad=True), event(3)):
            test.send("shown", shown)
        test.send("clicks", event(4))
        (letter,) = test.dead_letters()
        assert (letter.stage, letter.value, letter.attempts) == ("seen", event(4), 2)
        assert test.outputs("seen") == []
        test.advance(event_time=T + 20_000)
        assert test.outputs("seen") == [["a", 1, 1, None], ["a", 3, 3, None]]
        assert [letter.value for letter in test.dead_letters()] == [event(4), event(2, bad=True)]


@pytest.mark.parametrize("as_of", ["event-time", "latest"])
def test_the_row_of_a_time_or_of_now(as_of: Any) -> None:
    flow = Flow("shop", partitions=2)
    flow.source("orders", topic="orders", timestamp="at")
    flow.table("prices", topic="prices", key="item", timestamp="since")

    @flow.join("orders", "prices", how="left", on="item", as_of=as_of)
    def bill(order: dict[str, Any], price: dict[str, Any] | None) -> Any:
        return price and price["price"]

    with FlowTest(flow, start=T) as test:
        test.send("prices", {"item": "tea", "since": T, "price": 1})
        test.send("prices", {"item": "tea", "since": T + 100, "price": 2})
        test.send("orders", {"item": "tea", "at": T + 50}, key="o")
        assert test.outputs("bill") == ([] if as_of == "event-time" else [2])
        test.restart()
        test.advance(event_time=T + 51)
        assert test.outputs("bill") == ([1] if as_of == "event-time" else [2])


def shop(partitions: int = 2, how: Literal["inner", "left"] = "inner", idle_after: float = 30) -> Flow:
    """Orders meet the prices of their times."""
    flow = Flow("shop", partitions=partitions)
    flow.source("orders", topic="orders", key="item", idle_after=idle_after)
    flow.table("prices", topic="prices", key="item")

    @flow.join("orders", "prices", how=how)
    def bill(order: dict[str, Any], price: dict[str, Any] | None) -> Any:
        return price["price"] if price else 0

    return flow


def test_a_quiet_table_holds_nobody_up_for_long() -> None:
    with FlowTest(shop(idle_after=1), start=T) as test:
        test.send("prices", {"item": "tea", "price": 1}, timestamp=T)
        for n in range(1, 6):
            test.send("orders", {"item": "tea"}, timestamp=T + n * 1000)
        test.advance(5)
        assert test.outputs("bill") == [1] * 5


@pytest.mark.parametrize("how", ["inner", "left"])
def test_an_event_that_asks_for_a_deleted_row_too_late_is_not_lost(how: Literal["inner", "left"]) -> None:
    with FlowTest(shop(partitions=1, how=how), start=T) as test:
        test.send("prices", {"item": "tea", "price": 1}, key="tea", timestamp=T + 1_000)
        test.send("prices", None, key="tea", timestamp=T + 5_000)
        test.advance(event_time=T + 60_000)
        test.send("orders", {"item": "tea"}, timestamp=T + 3_000)
        test.send("orders", {"item": "tea"}, timestamp=T + 6_000)
        assert test.outputs("bill.late") == [{"item": "tea"}]
        assert test.outputs("bill") == ([] if how == "inner" else [0])


def test_an_event_meets_its_row_soon_although_neither_another_nor_a_row_follows() -> None:
    with FlowTest(shop(how="left"), start=T) as test:
        test.send("prices", {"item": "tea", "price": 1}, timestamp=T)
        test.advance(60)
        test.send("orders", {"item": "tea"}, timestamp=T + 60_000)
        test.send("prices", {"item": "tea", "price": 2}, timestamp=T + 59_999)  # in time, although later
        assert test.outputs("bill") == []
        test.advance(3)
        assert test.outputs("bill") == [2]
        test.send("orders", {"item": "cup"}, timestamp=T + 61_000)
        test.restart(lose_state=True)
        test.advance(5)
        assert test.outputs("bill") == [2, 0]


def test_a_table_that_is_ahead_lets_events_through_at_once() -> None:
    with FlowTest(shop(partitions=1), start=T) as test:
        test.send("prices", {"item": "tea", "price": 1}, timestamp=T)
        test.send("prices", {"item": "tea", "price": 2}, timestamp=T + 10)
        test.send("orders", {"item": "tea"}, timestamp=T + 9)
        assert test.outputs("bill") == [1]
        test.send("orders", {"item": "tea"}, timestamp=T + 10)
        assert test.outputs("bill") == [1]
        assert test.now == T


def test_what_stays_alone_and_fails_is_given_to_on_error_as_its_side_has_it() -> None:
    seen: list[Any] = []
    flow = Flow("ads", partitions=1)
    flow.source("shown", topic="shown", key=lambda ad: ad, type=str)
    flow.source("clicks", topic="clicks", key=str, type=int)

    def note(error: Exception, event: Event[Any]) -> None:
        seen.append((type(error), event.value, event.upstream))

    @flow.join("shown", "clicks", how="outer", within=10, on_error=note, retry=Retry(attempts=1))
    def meet(shown: str | None, click: int | None) -> None:
        raise OSError("away")

    with FlowTest(flow, start=T) as test:
        test.send("shown", "a", timestamp=T)
        test.send("clicks", 2, timestamp=T)
        test.advance(event_time=T + 60_000)
        assert sorted(seen, key=str) == [(OSError, "a", "shown"), (OSError, 2, "clicks")]
        assert test.dead_letters() == []


def test_an_event_that_failed_waits_in_peace_although_its_time_is_not_up_any_more() -> None:
    """Newer events may show that time is not up: then another try waits, too."""
    tries: list[int] = []
    flow = Flow("shop", partitions=1)
    flow.source("orders", topic="orders", key="item", out_of_orderness=60)
    flow.table("prices", topic="prices", key="item")

    @flow.join("orders", "prices", retry=Retry(backoff=5, jitter=0))
    def bill(order: dict[str, Any], price: dict[str, Any]) -> Any:
        tries.append(order["n"])
        if len(tries) == 1:
            raise OSError("away")
        return order["n"]

    with FlowTest(flow, start=T) as test:
        test.send("prices", {"item": "tea", "price": 1}, timestamp=T)
        test.advance(10)
        test.send("orders", {"item": "tea", "n": 1}, timestamp=T + 10_000)
        test.advance(2)
        assert tries == [1]
        test.advance(3.5)
        test.send("orders", {"item": "tea", "n": 2}, timestamp=T + 15_500)
        test.advance(3)
        assert test.outputs("bill") == [1, 2]


def test_a_table_of_rows_that_come_from_stages_has_a_time_of_its_own() -> None:
    flow = Flow("shop", partitions=1)
    flow.source("orders", topic="orders", key="item")
    flow.source("lists", topic="lists", key="item")

    @flow.stage(after="lists")
    def read(row: dict[str, Any]) -> dict[str, Any]:
        return row

    @flow.stage(after=read)
    def clean(row: dict[str, Any]) -> dict[str, Any]:
        return row

    prices = flow.table("prices", after=clean)

    @flow.join("orders", prices)
    def bill(order: dict[str, Any], price: dict[str, Any]) -> Any:
        return price["price"]

    with FlowTest(flow, start=T) as test:
        test.send("lists", {"item": "tea", "price": 1}, timestamp=T)
        test.send("lists", {"item": "tea", "price": 2}, timestamp=T + 10)
        test.send("orders", {"item": "tea"}, timestamp=T + 9)
        assert test.outputs("bill") == [1]


@pytest.mark.parametrize("as_of", ["event-time", "latest"])
@pytest.mark.parametrize("row", [None, {"town": None}, {"town": "nowhere"}])
def test_a_row_that_refers_to_a_younger_one_takes_its_result_along(row: Any, as_of: Any) -> None:
    flow = Flow("company", partitions=1)
    people = flow.table("people", topic="people")
    towns = flow.table("towns", topic="towns")
    calls = flow.source("calls", topic="calls")

    @flow.join(people, towns, on="town")
    def address(person: dict[str, Any], town: dict[str, Any]) -> Any:
        return town["country"]

    @flow.join(calls, address, how="left", as_of=as_of)
    def called(call: Any, country: str | None) -> Any:
        return [call, country]

    with FlowTest(flow, start=T) as test:
        test.send("towns", {"country": "Norway"}, key="oslo", timestamp=T + 100)
        test.send("people", {"town": "oslo"}, key="7", timestamp=T + 50)
        test.send("people", row, key="7", timestamp=T + 60)
        test.send("calls", 1, key="7", timestamp=T + 200)
        test.end()
        assert [(out.value, out.timestamp - T) for out in test.events("address")] == [
            ("Norway", 100),
            (None, 100),
        ]
        assert test.outputs("called") == [[1, None]]


async def test_a_global_table_is_sent_its_rows() -> None:
    flow = Flow("trips", partitions=2)
    flow.source("trips", topic="trips")
    flow.global_table("countries", topic="countries")

    @flow.stage(after="trips")
    def named(trip: Any, *, countries: Table[Any]) -> Any:
        return countries.get(trip)

    async with AsyncFlowTest(flow) as test:
        await test.send("trips", "no")
        await test.send("countries", "Norway", key="no")
        await test.send("trips", "no")
        assert test.outputs("named") == ["Norway"]
    async with AsyncFlowTest(flow, resources={"countries": {"no": "fake"}}) as test:
        await test.send("trips", "no")
        assert test.outputs("named") == ["fake"]

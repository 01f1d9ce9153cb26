"""What time has brought and could not be done is told by its name: which window or timer, of which key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from reflow_kafka import Context, Count, Event, Flow, FlowStopped, Retry, Session, Sliding, Tumbling, Window
from reflow_kafka.testing import FlowTest

MINUTE: Final = 60_000


def add(state: list[int], value: int) -> None:
    state.append(value)


def fails(state: list[int], what: object) -> None:
    raise ValueError("boom")


def windows(window: Any) -> Callable[..., None]:
    def define(flow: Flow, **options: Any) -> None:
        flow.stage(add, name="stage", after="left", state=list, window=window, on_close=fails, **options)

    return define


def timers(flow: Flow, **options: Any) -> None:
    def wait(state: list[int], value: int, ctx: Context) -> None:
        ctx.timer("later", clock="event-time", delay=30)

    flow.stage(wait, name="stage", after="left", state=list, on_timer=fails, **options)


def alone(left: int, right: int | None) -> None:
    raise ValueError("boom")


def streams(flow: Flow, **options: Any) -> None:
    flow.join("left", "right", how="left", within=5, name="stage", **options)(alone)


def rows(flow: Flow, **options: Any) -> None:
    flow.table("prices", topic="prices")
    flow.join("left", "prices", how="left", name="stage", **options)(alone)


KINDS: Final[Mapping[str, tuple[Callable[..., None], str]]] = {
    "tumbling": (windows(Tumbling(60)), "window from 1970-01-01T00:01:00Z to 1970-01-01T00:02:00Z"),
    "sliding": (
        windows(Sliding(60)),
        "window from 1970-01-01T00:00:07.500Z to 1970-01-01T00:01:07.500Z",
    ),
    "session": (
        windows(Session(60, merge=max)),
        "window from 1970-01-01T00:01:07.500Z to 1970-01-01T00:01:07.500Z",
    ),
    "count": (
        windows(Count(9)),
        "window from 1970-01-01T00:01:07.500Z to 1970-01-01T00:01:07.500Z",
    ),
    "timer": (timers, "timer 'later' for 1970-01-01T00:01:37.500Z"),
    "streams": (streams, "event of 1970-01-01T00:01:07.500Z that met no other"),
    "rows": (rows, "event of 1970-01-01T00:01:07.500Z that has waited for its row"),
}


def flow_of(kind: str, **options: Any) -> Flow:
    flow = Flow("told", partitions=1)
    flow.source("left", topic="left")
    if kind == "streams":
        flow.source("right", topic="right")
    KINDS[kind][0](flow, **options)
    return flow


@pytest.mark.parametrize("kind", KINDS)
def test_retries_and_dead_letters_name_it(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with FlowTest(flow_of(kind, retry=Retry(2, backoff=1))) as test:
        test.send("left", 1, key="ada", timestamp=MINUTE + 7_500)
        test.end()
        assert [letter.error for letter in test.dead_letters()] == ["ValueError"]
    told = f"{KINDS[kind][1]} of key 'ada' (stage 'stage', lane 0)"
    first, second = (text for text in caplog.messages if "ValueError" in text)
    assert first.startswith(f"{told} failed (ValueError: boom), try 1; again in ")
    assert second == f"{told} dead-lettered after 2 tries: ValueError: boom"


@pytest.mark.parametrize("kind", KINDS)
def test_what_stops_the_flow_is_named(kind: str) -> None:
    with FlowTest(flow_of(kind, retry=Retry(1), on_error="stop")) as test:
        test.send("left", 1, key="ada", timestamp=MINUTE + 7_500)
        with pytest.raises(FlowStopped) as stopped:
            test.end()
    assert f"boom; {KINDS[kind][1]} of key 'ada' (stage 'stage', lane 0)" in str(stopped.value)


@dataclass
class Reading:
    n: int


@pytest.mark.parametrize("how", ["function", "output"])
def test_a_window_over_events_of_a_type_fails_as_what_it_is(how: str) -> None:
    flow = Flow("told", partitions=1)
    flow.source("left", topic="left", type=Reading)

    def fold(state: list[int], reading: Reading) -> Any:
        state.append(reading.n)

    def close(state: list[int], window: Window) -> None:
        raise ValueError("boom")

    def instead(error: Exception, event: Event[Any]) -> Any:
        return event.value["state"]

    options: Any = {"state": list, "window": Tumbling(60), "on_close": close, "retry": Retry(1)}
    by = {"on_error": instead} if how == "function" else {}
    flow.stage(fold, name="stage", after="left", **options, **by)
    flow.stage(lambda value: value, name="caught", after="stage" if by else flow["stage"].output("error"))
    with FlowTest(flow) as test:
        test.send("left", Reading(7), key="ada", timestamp=MINUTE)
        test.end()
        assert test.dead_letters() == []
        window = {"start": MINUTE, "end": 2 * MINUTE, "state": [7]}
        assert test.outputs("caught") == [[7] if by else window]

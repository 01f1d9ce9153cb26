"""What `ctx` says to whoever asks for timers and stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reflow_kafka import Context, DefinitionError, KeyValue
from reflow_kafka.errors import UsageError


class Noted:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def timer(self, *arguments: Any) -> None:
        self.asked.append(arguments)

    def cancel_timer(self, name: str) -> None:
        self.asked.append(name)

    def store(self, name: str) -> Any:
        return f"the store {name}"


def context(book: Noted | None = None) -> Context:
    ctx = Context("flow", "visits", 0)
    ctx._time = book
    return ctx


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"at": 5}, (5, 0)),
        ({"at": -5}, (-5, 0)),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, (1767225600000, 0)),
        ({"at": datetime(2026, 1, 1)}, (1767225600000, 0)),  # noqa: DTZ001 - taken as UTC
        ({"delay": 0}, (None, 0)),
        ({"delay": 0.0015}, (None, 2)),
        ({"delay": 30}, (None, 30_000)),
        ({"delay": timedelta(minutes=1)}, (None, 60_000)),
    ],
)
@pytest.mark.parametrize("clock", ["event-time", "wall-clock"])
def test_times_are_given_in_every_way(options: Any, wanted: tuple[Any, int], clock: Any) -> None:
    book = Noted()
    context(book).timer("t", clock=clock, **options)
    context(book).cancel_timer("t")
    assert book.asked == [("t", clock, *wanted), "t"]
    assert context(book).store("seen") == "the store seen"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("", {"clock": "event-time", "at": 1}, r"ctx.timer\('', ...\): a timer's name is text"),
        (1, {"clock": "event-time", "at": 1}, "name is text"),
        ("t", {"clock": "wall", "at": 1}, 'clock=\'wall\' is neither "event-time" nor "wall-clock"'),
        ("t", {"clock": [], "at": 1}, "is neither"),
        ("t", {"clock": "event-time"}, "either at= .* or delay="),
        ("t", {"clock": "event-time", "at": 1, "delay": 1}, "not both"),
        ("t", {"clock": "event-time", "at": 1.5}, "at=1.5 is neither epoch milliseconds nor a datetime"),
        ("t", {"clock": "event-time", "at": True}, "at=True is neither"),
        ("t", {"clock": "event-time", "at": "now"}, "at='now' is neither"),
        ("t", {"clock": "event-time", "delay": -1}, "delay=-1 is no time in seconds"),
        ("t", {"clock": "event-time", "delay": "1"}, "delay='1' is no time"),
        ("t", {"clock": "event-time", "delay": float("nan")}, "delay=nan is no time"),
        ("t", {"clock": "event-time", "delay": 10**15}, "is no time"),
    ],
)
def test_what_makes_no_sense_says_what_to_write(name: Any, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        context(Noted()).timer(name, **options)


def test_an_instant_that_no_record_can_bear_is_refused() -> None:
    with pytest.raises(ValueError, match="71 bits, wanted epoch milliseconds of 62"):
        context(Noted()).timer("t", clock="event-time", at=2**70)


def test_a_stage_without_any_says_what_to_give_it() -> None:
    for asked in (
        lambda ctx: ctx.timer("t", clock="event-time", at=1),
        lambda ctx: ctx.cancel_timer("t"),
    ):
        with pytest.raises(UsageError, match="stage 'visits' has none; give it on_timer="):
            asked(context())
    with pytest.raises(UsageError, match=r"ctx.store\(...\): stage 'visits' has none; give it stores="):
        context().store("seen")


@pytest.mark.parametrize("ttl", [0, -1, 0.0005, float("inf"), "1", timedelta(0)])
def test_a_store_lives_for_some_time(ttl: Any) -> None:
    with pytest.raises(DefinitionError, match=r"KeyValue\(ttl=.*from 1 ms on"):
        KeyValue(int, ttl=ttl)


def test_a_store_tells_its_type_and_time() -> None:
    assert KeyValue(dict[str, int], ttl=timedelta(minutes=1)) == KeyValue(dict[str, int], ttl=60)
    assert KeyValue(int).ttl is None

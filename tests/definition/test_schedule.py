"""When schedules fire: periods, cron expressions where clocks are changed, and what was missed."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reflow_kafka import DefinitionError, Flow
from reflow_kafka.definition.schedule import MISSED, POLICIES, Missed, Schedule

BERLIN = "Europe/Berlin"
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def fires(schedule: Schedule, after: str, count: int) -> list[str]:
    return [schedule.text(ms) for ms in islice(schedule.after(at(after, schedule.timezone)), count)]


# ---- periods


@pytest.mark.parametrize(
    ("period", "after", "firings"),
    [
        (MINUTE, 0, [60_000, 120_000]),
        (MINUTE, 59_999, [60_000, 120_000]),
        (MINUTE, 60_000, [120_000, 180_000]),  # after means after
        (MINUTE, -1, [0, 60_000]),
        (MINUTE, -60_000, [0, 60_000]),
        (1, 5, [6, 7]),
        (7_000, 6_999, [7_000, 14_000]),
    ],
)
def test_periods_are_counted_from_1970(period: int, after: int, firings: list[int]) -> None:
    assert list(islice(Schedule(period=period).after(after), 2)) == firings


# ---- cron expressions


@pytest.mark.parametrize(
    ("cron", "zone", "after", "firings"),
    [
        ("0 3 * * *", "UTC", "2026-01-01T03:00", ["2026-01-02T03:00:00+00:00"]),
        ("0 3 * * *", "UTC", "2026-01-01T02:59:59.999", ["2026-01-01T03:00:00+00:00"]),
        ("0 3 * * *", "UTC", "2025-12-31T03:00:00.001", ["2026-01-01T03:00:00+00:00"]),
        ("*/20 * * * * *", "UTC", "2026-01-01T00:00:39", ["2026-01-01T00:00:40+00:00"]),
        ("0 0 29 2 *", "UTC", "2024-02-29T00:00", ["2028-02-29T00:00:00+00:00"]),
        ("0 0 29 2 *", "UTC", "2096-02-29T00:00", ["2104-02-29T00:00:00+00:00"]),  # 2100 has none
        ("0 0 L * *", "UTC", "2024-02-01T00:00", ["2024-02-29T00:00:00+00:00", "2024-03-31T00:00:00+00:00"]),
        ("0 9 * * mon#1", "UTC", "2026-01-01T00:00", ["2026-01-05T09:00:00+00:00"]),
        # 2026-03-29, 02:00 to 03:00 does not exist: it fires when the clock has jumped, and once
        (
            "30 2 * * *",
            BERLIN,
            "2026-03-28T12:00",
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            "0,30 2 * * *",
            BERLIN,
            "2026-03-28T12:00",
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
        ),
        ("0 3 * * *", BERLIN, "2026-03-28T12:00", ["2026-03-29T03:00:00+02:00", "2026-03-30T03:00:00+02:00"]),
        # 2026-10-25, 02:00 to 03:00 comes twice: it fires the first time
        (
            "30 2 * * *",
            BERLIN,
            "2026-10-24T12:00",
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        # what fires by the minute or hour goes on as if nothing were
        (
            "30 * * * *",
            BERLIN,
            "2026-03-29T01:00",
            ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"],
        ),
        (
            "30 * * * *",
            BERLIN,
            "2026-10-25T01:30",
            ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"],
        ),
        # a day without midnight
        ("0 0 * * *", "America/Havana", "2026-03-07T12:00", ["2026-03-08T01:00:00-04:00"]),
        # clocks that are changed by half an hour: 01:30 to 02:00 comes twice
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", ["2026-04-05T01:45:00+11:00"]),
    ],
)
def test_cron(cron: str, zone: str, after: str, firings: list[str]) -> None:
    assert fires(Schedule(cron=cron, timezone=zone), after, len(firings)) == firings


def test_after_the_first_of_two_equal_hours_comes_the_next_day() -> None:
    schedule = Schedule(cron="30 2 * * *", timezone=BERLIN)
    second_hour = datetime(2026, 10, 25, 2, 10, tzinfo=ZoneInfo(BERLIN), fold=1)
    (following,) = islice(schedule.after(int(second_hour.timestamp() * 1000)), 1)
    assert schedule.text(following) == "2026-10-26T02:30:00+01:00"


CRONS = st.sampled_from(
    ["30 2 * * *", "0,30 2 * * *", "0 0 * * *", "*/20 2 * * *", "7 * * * *", "*/5 0 * * *", "0 3 L * *"]
)
ZONES = st.sampled_from(["UTC", BERLIN, "America/Havana", "Australia/Lord_Howe", "Africa/Casablanca"])
TIMES = st.integers(at("2025-12-01T00:00"), at("2027-02-01T00:00"))
PERIODS = st.builds(Schedule, period=st.sampled_from([1, 999, MINUTE, HOUR, DAY, 7 * DAY]))
SCHEDULES = st.builds(Schedule, cron=CRONS, timezone=ZONES) | PERIODS


@given(SCHEDULES, TIMES, st.data())
def test_firings_do_not_depend_on_where_one_begins_to_look(
    schedule: Schedule, start: int, data: st.DataObject
) -> None:
    first, second = islice(schedule.after(start), 2)
    assert start < first < second
    between = data.draw(st.integers(start, first - 1))
    assert next(schedule.after(between)) == first
    assert next(schedule.after(first)) == second


@given(st.text("0123456789*/,-LW# ", max_size=20) | st.text(max_size=10))
def test_any_text_is_a_cron_expression_or_refused(text: str) -> None:
    flow = Flow("f")
    with contextlib.suppress(DefinitionError):
        flow.source("tick", cron=text)
        schedule = flow.spec().stage("tick").source.schedule  # type: ignore[union-attr]
        assert schedule is not None
        assert next(schedule.after(0)) > 0


# ---- what is due


def policy(missed: Missed) -> Schedule:
    return Schedule(period=MINUTE, missed=missed)


@pytest.mark.parametrize(
    ("missed", "last", "now", "firings", "stands"),
    [
        ("last", 0, 59_999, [], 0),
        ("last", 0, 60_000, [60_000], 60_000),
        ("last", 0, 299_999, [240_000], 240_000),
        ("last", 61_000, 119_999, [], 61_000),
        ("all", 0, 59_999, [], 0),
        ("all", 0, 60_000, [60_000], 60_000),
        ("all", 0, 299_999, [60_000, 120_000, 180_000], 180_000),  # no more than three at a time
        ("all", 180_000, 299_999, [240_000], 240_000),
        ("skip", 0, 59_999, [], 0),
        ("skip", 0, 60_000, [60_000], 60_000),
        ("skip", 0, 299_999, [240_000], 240_000),  # 59,999 ms late: it still counts
        # a clock that has been set back
        ("last", 240_000, 60_000, [], 240_000),
        ("all", 240_000, 60_000, [], 240_000),
        ("skip", 240_000, 60_000, [], 240_000),
    ],
)
def test_what_is_due(missed: Missed, last: int, now: int, firings: list[int], stands: int) -> None:
    assert policy(missed).due(last, now, 3) == (firings, stands)


def test_what_is_skipped() -> None:
    schedule = Schedule(cron="0 3 * * *", missed="skip")
    last, three = at("2026-05-01T03:00"), at("2026-05-04T03:00")
    assert schedule.due(last, three, 3) == ([three], three)
    assert schedule.due(last, three + MISSED - 1, 3) == ([three], three)
    assert schedule.due(last, three + MISSED, 3) == ([], three)


@given(SCHEDULES, TIMES, st.integers(0, 30 * DAY))
def test_the_latest_is_the_last_of_all(schedule: Schedule, last: int, span: int) -> None:
    assume(not schedule.period or span / schedule.period < 1_000)
    firings, now = [], last + span
    for firing in schedule.after(last):
        if firing > now:
            break
        firings.append(firing)
    assert schedule.latest(last, now) == (firings[-1] if firings else None)


@given(st.sampled_from(POLICIES), st.lists(st.integers(0, 10 * MINUTE), min_size=1), st.integers(1, 5))
def test_nothing_fires_twice_and_with_all_nothing_is_left_out(
    missed: Missed, steps: list[int], limit: int
) -> None:
    schedule, now, last, fired = policy(missed), 1_000, 1_000, list[int]()
    for step in steps:
        now += step
        firings, last = schedule.due(last, now, limit)
        fired += firings
    while missed == "all" and (more := schedule.due(last, now, limit)) != ([], last):
        fired += more[0]
        last = more[1]
    assert fired == sorted(set(fired))
    assert all(firing % MINUTE == 0 and 1_000 < firing <= now for firing in fired)
    if missed == "all":
        assert len(fired) == now // MINUTE
    if missed == "last":
        assert not fired or now - fired[-1] < MINUTE


def test_the_latest_of_a_long_time_is_found_at_once() -> None:
    """A year of seconds is not walked through; a leap day is found across years."""
    seconds = Schedule(cron="* * * * * *")
    assert seconds.latest(at("2025-01-01T00:00"), now := at("2026-01-01T00:00:00.500")) == now - 500
    leap = Schedule(cron="0 0 29 2 *")
    assert leap.latest(at("1996-01-01T00:00"), at("2028-02-28T00:00")) == at("2024-02-29T00:00")
    assert leap.latest(at("2024-03-01T00:00"), at("2028-02-28T00:00")) is None


# ---- as text


def test_as_text() -> None:
    assert Schedule(period=250).text(1_500) == "1970-01-01T00:00:01.500+00:00"
    assert Schedule(cron="* * * * *", timezone=BERLIN).text(0) == "1970-01-01T01:00:00+01:00"
    assert datetime.fromisoformat(Schedule(period=1).text(-1)) == datetime.fromtimestamp(-0.001, UTC)


def test_it_is_described() -> None:
    flow = Flow("f")
    nightly = flow.source("nightly", cron="0 3 * * *", timezone=BERLIN)
    flow.sink("out", after=[nightly, flow.source("tick", every=0.5)], topic="out")
    described = flow.describe("json")
    assert '"does": "cron 0 3 * * * Europe/Berlin"' in described
    assert '"does": "every 0.5 s"' in described

"""An engine with too many lanes says so, with numbers, and what to do."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from reflow_kafka.engine import crowd
from reflow_kafka.engine.crowd import AFTER, AGAIN, LATE, Crowd, Lanes
from reflow_kafka.engine.engine import Engine
from reflow_kafka.lane.calm import COMMITS
from reflow_kafka.lane.env import TAKE_OVERS
from reflow_kafka.lane.pace import Lateness
from reflow_kafka.state.memory import MemoryBackend
from tests.engine.memory import new_log, put, until_seen
from tests.engine.test_lanes import passing
from tests.support.waiting import until


def starting(given: int, running: int) -> Lanes:
    return Lanes(given, running, wait=0.0, commit=0.0, busy=0.5)


def committing(wait: float, *, lanes: int = 1000, busy: float = 0.9, granted: float = 1.0) -> Lanes:
    return Lanes(lanes, lanes, wait, 0.25, busy, granted)


def told(looks: Iterable[tuple[float, Lanes]]) -> list[tuple[float, str]]:
    watch = Crowd()
    return [(now, text) for now, lanes in looks if (text := watch.look(now, lanes))]


def test_a_long_start_is_told_with_its_speed_and_its_end() -> None:
    [(at, text)] = told((now, starting(1000, 10 * now)) for now in range(80))
    assert at == AFTER
    assert "300 of 1,000 lanes run after 30 s: 32 of a flow are taken over at once, 10.0 per second" in text
    assert (
        "so that the last will run in about 70 s. If that is too long, spread them over more engines" in text
    )
    assert "--engines N" in text


@pytest.mark.parametrize(
    ("given", "running"),
    [
        pytest.param(TAKE_OVERS, lambda now: now // 10, id="few lanes: all are taken over at once"),
        pytest.param(1000, lambda now: 1000 if now % 29 == 0 else 990, id="some are taken over now and then"),
        pytest.param(1000, lambda now: 7, id="none comes: that is not their number"),
    ],
)
def test_other_starts_are_not(given: int, running: object) -> None:
    assert callable(running)
    assert told((now, starting(given, running(now))) for now in range(200)) == []


def test_a_start_without_end_is_told_again() -> None:
    looks = ((now, starting(1000, 1 + now)) for now in range(200))
    assert [at for at, _ in told(looks)] == [AFTER, AFTER + AGAIN, AFTER + 2 * AGAIN]


def test_results_that_wait_for_their_turn_are_told() -> None:
    ((_, text),) = told([(5.0, committing(6.24))])
    assert text.startswith(
        "1,000 lanes commit in turn, so that results wait 6.2 s for a commit: 32 are under way"
    )
    assert "each takes 0.25 s, and this process uses 90% of a CPU. If that is too long, spread" in text
    assert "more workers" in text


@pytest.mark.parametrize(
    ("busy", "granted", "cause"),
    [
        pytest.param(0.3, 1.0, "uses 30% of a CPU, so it is the brokers that take their time.", id="brokers"),
        pytest.param(0.3, 0.2, "others on this machine leave this process 20% of the CPU it", id="others"),
    ],
)
def test_it_is_told_what_takes_the_time(busy: float, granted: float, cause: str) -> None:
    ((_, text),) = told([(5.0, committing(6.0, busy=busy, granted=granted))])
    assert cause in text


def test_few_lanes_do_not_wait_for_each_other() -> None:
    assert told([(5.0, committing(60.0, lanes=COMMITS)), (6.0, committing(LATE - 0.1))]) == []


def test_a_round_is_told_once_in_a_while() -> None:
    assert [at for at, _ in told((now, committing(6.0)) for now in range(100))] == [0, AGAIN]


def test_lateness_follows_and_is_forgotten() -> None:
    late = Lateness()
    assert late.lately(0.0) == (0.0, 0.0)
    for tenth in range(200):
        late.note(tenth / 10, 8.0, 2.0)
    wait, commit = late.lately(20.0)
    assert wait == pytest.approx(8.0, rel=0.01)
    assert commit == pytest.approx(2.0, rel=0.01)
    assert late.lately(40.0) == (0.0, 0.0)


async def test_an_engine_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(crowd, "COMMITS", 1)
    monkeypatch.setattr(crowd, "LATE", 1e-9)
    log = await new_log("in", "out", partitions=2)
    await put(log, "in", *[(n, n) for n in range(10)])
    async with Engine(passing(2), log=log, state=MemoryBackend()):
        await until_seen(log, "out", 10)
        await until(lambda: "2 lanes commit in turn, so that results wait" in caplog.text, "it has been told")

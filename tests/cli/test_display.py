"""Progress and summary, from an engine's statistics."""

from __future__ import annotations

import io
import logging
from dataclasses import replace

import pytest
from rich.console import Console

from reflow_kafka.cli.bars import Bars
from reflow_kafka.cli.display import Lines, summarise
from reflow_kafka.cli.goals import Goal, Goals
from reflow_kafka.engine import statistics


def flow(remaining: int | None = None, restores: tuple[tuple[int, int], ...] = (), **stages: int) -> object:
    return statistics.FlowStatistics(
        name="weather",
        assigned=2,
        running=2,
        stuck=0,
        commits=5,
        take_overs=2,
        restored=0,
        stages={
            n: statistics.StageStatistics(e, dead_letters=1, skipped=0, rewinds=0, retries=0)
            for n, e in stages.items()
        },
        restores=tuple(statistics.RestoreStatistics(n, *r) for n, r in enumerate(restores)),
        remaining=remaining,
    )


def looks(*flows: object) -> list[Goal | None]:
    goals = Goals()
    return [goals.look(statistics.Statistics({"weather": f}), now=n)["weather"] for n, f in enumerate(flows)]


def test_an_endless_run_has_no_goal() -> None:
    assert looks(flow(), flow()) == [None, None]


def test_a_finite_run_approaches_its_end() -> None:
    assert looks(flow(remaining=100), flow(remaining=40), flow(remaining=0)) == [
        Goal("processing", 0, 100, 0.0),
        Goal("processing", 60, 100, 60.0),
        Goal("processing", 100, 100, 40.0),
    ]


def test_work_that_appears_on_the_way_counts() -> None:
    first, second, third = looks(flow(remaining=100), flow(remaining=150), flow(remaining=50))
    assert (first, second) == (Goal("processing", 0, 100, 0.0), Goal("processing", 0, 150, 0.0))
    assert third == Goal("processing", 100, 150, 100.0)


def test_a_restore_comes_first() -> None:
    first, second = looks(flow(100, restores=((5, 10), (0, 10))), flow(100, restores=((9, 10),)))
    assert first == Goal("restoring", 5, 20, 0.0)
    assert second == Goal("restoring", 9, 10, 4.0)


def test_progress_as_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = Lines()
    for now in (flow(remaining=2000), flow(remaining=500), flow(remaining=0), flow()):
        lines.show(statistics.Statistics({"weather": now}))
    first, second = caplog.messages
    assert first == "processing: 0 of 2,000 events, 0 events/s"
    assert second.startswith("processing: 1,500 of 2,000 events, ")
    assert vars(caplog.records[1])["flow"] == "weather"
    assert vars(caplog.records[1])["done"] == 1500


def test_progress_as_bars() -> None:
    out = io.StringIO()
    with Bars(Console(file=out, force_terminal=True, width=100)) as bars:
        for now in (flow(), flow(restores=((10, 20),)), flow(remaining=2000), flow(remaining=500)):
            bars.show(statistics.Statistics({"weather": now}))
    shown = out.getvalue()
    assert "weather restoring" in shown
    assert "10/20" in shown
    assert "1500/2000" in shown


def test_summary(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    summarise(statistics.Statistics({"weather": flow(average=3000, alert=1000)}), 2.0)
    summarise(statistics.Statistics({"weather": flow(average=7)}), 0.0)
    assert caplog.messages == [
        "4,000 events in 2.0 s, 2,000 events/s (average 3,000, alert 1,000), 2 dead-lettered",
        "7 events in 0.0 s, 0 events/s, 1 dead-lettered",
    ]
    about = vars(caplog.records[0])
    assert (about["events"], about["rate"], about["dead_letters"]) == (4000, 2000, 2)


def test_the_summary_tells_of_late_events(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counted = flow(hours=7)
    late = {name: replace(stage, dead_letters=0, late=3) for name, stage in counted.stages.items()}
    summarise(statistics.Statistics({"weather": replace(counted, stages=late)}), 1.0)
    assert caplog.messages == ["7 events in 1.0 s, 7 events/s, 3 late"]
    assert vars(caplog.records[0])["late"] == 3


def test_copies_that_are_behind_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    copies = tuple(
        statistics.StandbyStatistics(lane, lag) for lane, lag in enumerate((None, 0, 9_000, 20_000, 30_000))
    )
    lines = Lines()
    lines.show(statistics.Statistics({"weather": replace(flow(), standbys=copies[:3])}))  # type: ignore[type-var]
    assert not caplog.messages
    lines.show(statistics.Statistics({"weather": replace(flow(), standbys=copies)}))  # type: ignore[type-var]
    assert caplog.messages == ["standbys: 2 of 5 are 50,000 records behind"]

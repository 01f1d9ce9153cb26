"""The time of one stage: what it goes by, what it tells, and when that is news."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from reflow_kafka.lane.clock import FeedClock, WorkClock
from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.timed.clocks import EdgeClock, SourceClock
from reflow_kafka.timed.watermark import UNKNOWN, Board, Habits, LaneTime
from reflow_kafka.units import FARTHEST, LONG_AGO, NEVER

TOPIC, EDGE = TopicPartition("topic", 0), TopicPartition("edge", 0)
IDLE = 1_000
HABITS = Habits()


class Clock:
    """A wall clock that one sets."""

    def __init__(self) -> None:
        self.at = 0

    def __call__(self) -> int:
        return self.at


def records(*timestamps: int, at: int = 0) -> list[Any]:
    return [SimpleNamespace(offset=at + n, timestamp=t) for n, t in enumerate(timestamps)]


def on_topic(told: LaneTime = UNKNOWN) -> tuple[WorkClock, Inbox, Clock]:
    now = Clock()
    clock = WorkClock(told, now, HABITS, {TOPIC: SourceClock(0, IDLE, told.watermark, 0, HABITS)})
    return clock, Inbox({TOPIC: Mark(0)}), now


def on_edge(told: LaneTime = UNKNOWN, lanes: int = 1) -> tuple[WorkClock, Inbox, Clock, Board]:
    now = Clock()
    clock = WorkClock(told, now, HABITS, edges={EDGE: EdgeClock("before", lanes)})
    return clock, Inbox({EDGE: Mark(0)}), now, Board({"before": lanes}, HABITS)


def finish(clock: WorkClock, inbox: Inbox, *timestamps: int) -> bool:
    at = inbox.position(TOPIC)
    clock.saw(TOPIC, records(*timestamps, at=at))
    inbox.give(TOPIC, (), at + len(timestamps))
    return clock.update(inbox)


def hear(clock: WorkClock, inbox: Inbox, board: Board, end: int = 0, **times: LaneTime) -> bool:
    for lane, time in times.items():
        board.learned(int(lane[1:]), {"before": time}, 0)
    for answer in clock.asks(board).values():
        answer(end)
    return clock.update(inbox)


def test_its_own_events_tell_the_time() -> None:
    clock, inbox, _ = on_topic()
    assert clock.watermark == LONG_AGO
    assert finish(clock, inbox, 5, 9, 7)
    assert not finish(clock, inbox, 8)
    assert clock.watermark == 9
    assert clock.told() == LaneTime(9, 9)


def test_a_time_that_is_refused_is_not_told_and_hides_no_other() -> None:
    clock, inbox, _ = on_topic()
    assert finish(clock, inbox, 5, FARTHEST + 1, 7)
    assert clock.watermark == 7
    clock.passing(TOPIC)(FARTHEST + 1)
    assert clock.watermark == 7


def test_the_time_of_values_is_heard() -> None:
    clock, inbox, _ = on_topic()
    getter: Callable[[Any], int] = clock.hearing(TOPIC, lambda value: value["at"])
    assert getter({"at": 12}) == 12
    inbox.give(TOPIC, (), 1)
    clock.update(inbox)
    assert clock.watermark == 12
    plain = int
    assert clock.hearing(EDGE, plain) is plain


def test_a_finished_event_of_the_only_input_counts_at_once() -> None:
    clock, inbox, _ = on_topic()
    clock.update(inbox)
    passed = clock.passing(TOPIC)
    passed(30)
    assert clock.watermark == 30
    clock.stand()
    passed(40)
    assert clock.watermark == 30


def test_time_stands_still_while_events_wait_elsewhere() -> None:
    clock, inbox, _ = on_topic()
    finish(clock, inbox, 5)
    clock.saw(TOPIC, records(50, at=1))
    inbox.give(TOPIC, (), 2)
    assert not clock.update(inbox, standing=True)
    assert clock.watermark == 5
    assert clock.update(inbox)
    assert clock.watermark == 50


def test_it_goes_on_from_what_was_told() -> None:
    clock, inbox, _ = on_topic(LaneTime(7, 20))
    assert clock.watermark == 20
    finish(clock, inbox, 12)
    assert clock.told() == LaneTime(12, 20)


def test_it_returns_to_the_last_share() -> None:
    clock, inbox, _ = on_topic()
    finish(clock, inbox, 5)
    clock.share()
    inbox.share()
    finish(clock, inbox, 50)
    inbox.go_back(lambda tp, offset: None)
    clock.rewind()
    assert clock.watermark == 5
    clock.update(inbox)
    assert clock.watermark == 5
    finish(clock, inbox, 50)
    assert clock.watermark == 50


def test_what_is_still_to_be_emitted_bounds_what_is_told_and_not_its_own_time() -> None:
    clock, inbox, _ = on_topic()
    finish(clock, inbox, 100)
    assert clock.told(60) == LaneTime(60, 100)


def test_the_end_of_a_run_is_not_told() -> None:
    clock, inbox, _ = on_topic()
    finish(clock, inbox, 5)
    clock.end()
    assert clock.watermark == NEVER
    clock.update(inbox)
    clock.rewind()
    assert clock.watermark == NEVER
    assert clock.told() == LaneTime(LONG_AGO, LONG_AGO)


def test_an_idle_source_goes_on_with_the_wall_clock() -> None:
    clock, inbox, now = on_topic()
    finish(clock, inbox, 5)
    now.at = IDLE + 3
    clock.update(inbox)
    clock.asks(Board({}, HABITS))[TOPIC](1)
    assert clock.update(inbox)
    assert clock.watermark == 8
    assert clock.told() == LaneTime(5, 8, idle=8)
    finish(clock, inbox, 6)  # traffic again: what was told holds, and no more is promised
    assert clock.watermark == 8
    assert clock.told() == LaneTime(6, 8)


def test_an_idle_stage_counts_as_long_as_it_has_something_to_emit() -> None:
    clock, inbox, now = on_topic()
    finish(clock, inbox, 5)
    now.at = IDLE + 3
    clock.update(inbox)
    clock.asks(Board({}, HABITS))[TOPIC](1)
    clock.update(inbox, pending=lambda: True)
    assert clock.told(100) == LaneTime(8, 8)
    assert clock.told(6) == LaneTime(6, 8)
    clock.settled()
    clock.update(inbox, pending=lambda: True)
    assert not clock.news()
    clock.update(inbox, pending=lambda: False)
    assert clock.news(), "others may wait for it"
    assert clock.told(8) == LaneTime(5, 8, idle=8)


def test_what_the_lanes_before_have_told_counts_once_it_is_finished() -> None:
    clock, inbox, _, board = on_edge(lanes=2)
    assert not hear(clock, inbox, board, l0=LaneTime(5))
    assert hear(clock, inbox, board, l1=LaneTime(9))
    assert clock.watermark == 5
    inbox.open(EDGE, 0)
    assert not hear(clock, inbox, board, end=1, l0=LaneTime(7))
    inbox.close(EDGE, 0)
    assert clock.update(inbox)
    assert clock.watermark == 7


def test_an_idle_input_counts_by_itself_while_events_of_it_are_not_finished() -> None:
    clock, inbox, _, board = on_edge()
    hear(clock, inbox, board, l0=LaneTime(5, 7, idle=7))
    assert clock.of(inbox, {EDGE}) == NEVER
    inbox.open(EDGE, 0)
    hear(clock, inbox, board, end=1, l0=LaneTime(9))
    assert clock.of(inbox, {EDGE}) == LONG_AGO
    inbox.close(EDGE, 0)
    clock.update(inbox)
    assert clock.of(inbox, {EDGE}) == 9


def test_it_ends_when_everything_before_it_has() -> None:
    clock, inbox, now, board = on_edge()
    hear(clock, inbox, board, l0=LaneTime(5))
    hear(clock, inbox, board, l0=LaneTime(5, ended=True))
    assert clock.watermark == NEVER
    assert clock.told(60) == LaneTime(5, 5)  # something is still to be emitted
    assert clock.told() == LaneTime(5, 5, ended=True)
    now.at = HABITS.believed
    clock.update(inbox)
    assert clock.watermark == 5  # nobody has said so for long


def test_news() -> None:
    clock, inbox, _ = on_topic()
    assert not clock.news()
    finish(clock, inbox, 5)
    assert clock.news()
    clock.told()
    assert clock.news(), "it may come to no commit"
    clock.settled()
    assert not clock.news()
    finish(clock, inbox, 4)
    assert not clock.news()


def test_what_goes_on_with_the_wall_clock_is_told_ever_more_rarely() -> None:
    clock, inbox, now = on_topic()
    finish(clock, inbox, 5)
    clock.told()
    clock.settled()
    told: list[int] = []
    for at in range(0, 300_000, 100):
        now.at = at
        clock.update(inbox)
        for answer in clock.asks(Board({}, HABITS)).values():
            answer(1)
        if clock.news():
            clock.told()
            clock.settled()
            told.append(at)
    gaps = [after - before for before, after in pairwise(told)]
    assert told[0] == IDLE + 100  # asked at `IDLE`, seen at the next look
    assert min(gaps) == 1_000
    assert sorted(gaps) == gaps
    assert 2_500 < max(gaps) <= HABITS.renewal


def test_an_idle_lane_says_so_again() -> None:
    clock, inbox, now, board = on_edge()
    hear(clock, inbox, board, l0=LaneTime(LONG_AGO, idle=LONG_AGO))
    assert clock.news()
    assert clock.told().idle == LONG_AGO
    clock.settled()
    now.at = HABITS.renewal - 1
    assert not clock.news()
    now.at = HABITS.renewal
    assert clock.news()


def test_the_parts_of_a_feed() -> None:
    now = Clock()
    clock, inbox = FeedClock(UNKNOWN, now, HABITS, 2, IDLE), Inbox({})
    clock.update(inbox)
    assert clock.told() == LaneTime()  # it is not known which parts there are
    clock.scanned([])
    clock.update(inbox)
    assert clock.told() == LaneTime(idle=LONG_AGO)
    clock.scanned(["a", "b"])
    clock.part("a").emitted(100)
    clock.update(inbox)
    assert clock.told() == LaneTime()
    clock.part("b").emitted(50)
    clock.update(inbox)
    assert clock.told() == LaneTime(48, 48)
    clock.part("b").end(0)
    clock.update(inbox)
    assert clock.told() == LaneTime(98, 98)


def test_a_generator_that_has_ended_ends_time() -> None:
    clock, inbox = FeedClock(UNKNOWN, Clock(), HABITS, 0, IDLE, final=True), Inbox({})
    clock.scanned([""])
    clock.part("").emitted(7)
    clock.update(inbox)
    clock.part("").end(0)
    clock.update(inbox)
    assert clock.told() == LaneTime(7, 7, ended=True)


def test_what_was_seen_while_time_stood_still_does_not_count_after_going_back() -> None:
    """An event waits for another try, younger ones are finished and committed, and then it goes back."""
    source = SourceClock(0, 60_000, LONG_AGO, 0, HABITS)
    clock = WorkClock(UNKNOWN, lambda: 0, HABITS, {EDGE: source})
    inbox, passed = Inbox({EDGE: Mark(0)}), clock.passing(EDGE)
    clock.update(inbox)
    passed(1_000)
    inbox.reach(EDGE, 1)
    clock.update(inbox)
    inbox.open(EDGE, 1)
    clock.stand()
    passed(100_000)
    inbox.reach(EDGE, 3)
    inbox.share()
    clock.update(inbox, standing=True)
    clock.share()
    inbox.go_back(lambda partition, offset: None)
    clock.rewind()
    clock.update(inbox)
    assert clock.watermark == 1_000

"""What one input tells about time: never more than what is finished allows."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from reflow_kafka.timed.clocks import EdgeClock, PartClock, SourceClock
from reflow_kafka.timed.watermark import Habits, Heard, LaneTime, Snapshot, combine
from reflow_kafka.units import FARTHEST, LONG_AGO

IDLE = 30_000
HABITS = Habits()


def source(behind: int = 0, watermark: int = LONG_AGO, now: int = 0) -> SourceClock:
    return SourceClock(behind, IDLE, watermark, now, HABITS)


# ---- a topic of others


def test_events_tell_the_time_when_all_before_them_are_finished() -> None:
    clock = source(behind=10)
    clock.saw(100)
    clock.advance(0, 1, resting=False, now=0)  # the event at 0 is open
    assert clock.time(0).watermark == LONG_AGO
    clock.saw(200)
    clock.advance(1, 2, resting=False, now=0)  # finished; the next one is not
    assert clock.time(0).watermark == 90
    clock.advance(2, 2, resting=True, now=0)
    assert clock.time(0).watermark == 190


def test_an_event_of_a_time_that_is_refused_tells_nothing() -> None:
    clock = source()
    for at, timestamp in enumerate((10, FARTHEST + 1, 20), start=1):
        clock.saw(timestamp)
        clock.advance(at, at, resting=True, now=0)
        clock.passed(timestamp)
    assert clock.time(0).watermark == 20


def test_it_never_goes_back() -> None:
    clock = source(watermark=50)
    for at, timestamp in enumerate((10, 70, 60), start=1):
        clock.saw(timestamp)
        clock.advance(at, at, resting=True, now=0)
    assert clock.time(0).watermark == 70


def test_an_event_that_is_finished_counts_at_once_unless_something_is_open() -> None:
    clock = source(behind=1)
    clock.passed(7)
    assert clock.watermark == LONG_AGO  # it is not known yet whether anything is open
    clock.advance(0, 0, resting=False, now=0)
    clock.passed(9)
    clock.passed(8)
    assert clock.watermark == 8
    clock.stand()
    clock.passed(20)
    assert clock.watermark == 8
    clock.advance(3, 5, resting=False, now=0)
    assert clock.watermark == 8
    clock.passed(30)
    clock.advance(5, 6, resting=False, now=0)
    assert clock.watermark == 19
    clock.advance(6, 6, resting=True, now=0)
    assert clock.watermark == 29


def rested(clock: SourceClock, position: int, now: int) -> None:
    clock.advance(position, position, resting=True, now=now)


def test_it_is_idle_when_nothing_has_come_for_long_and_there_is_nothing() -> None:
    clock = source()
    clock.saw(1000)
    rested(clock, 5, now=0)
    rested(clock, 5, now=IDLE - 1)
    assert not clock.asks(IDLE - 1)
    rested(clock, 5, now=IDLE)
    assert clock.asks(IDLE)
    assert clock.time(IDLE).idle is None  # nobody has looked yet
    clock.ends(5, IDLE)
    assert not clock.asks(IDLE)
    assert clock.time(IDLE) == LaneTime(1000, idle=1000)
    assert clock.time(IDLE + 5).idle == 1005  # it goes on with the wall clock
    assert clock.time(IDLE + HABITS.believed + 1).idle is None  # nobody has looked for long
    assert clock.asks(IDLE + HABITS.renewal)


def test_events_that_it_is_kept_from_reading_count() -> None:
    clock = source()
    rested(clock, 5, now=0)
    rested(clock, 5, now=IDLE)
    clock.ends(6, IDLE)
    rested(clock, 5, now=2 * IDLE - 1)
    assert clock.time(IDLE).idle is None
    assert not clock.asks(2 * IDLE - 1)
    rested(clock, 5, now=2 * IDLE)
    assert clock.asks(2 * IDLE)


def test_what_was_asked_before_an_event_came_tells_nothing_of_the_silence_after_it() -> None:
    clock = source()
    rested(clock, 5, now=0)
    rested(clock, 5, now=IDLE)
    assert clock.asks(IDLE)
    rested(clock, 6, now=IDLE)
    clock.ends(6, IDLE)
    rested(clock, 6, now=2 * IDLE)
    assert clock.time(2 * IDLE).idle is None
    assert clock.asks(2 * IDLE)
    clock.ends(6, 2 * IDLE)
    assert clock.time(2 * IDLE).idle is not None


def test_what_is_in_hand_is_traffic() -> None:
    clock = source()
    rested(clock, 5, now=0)
    rested(clock, 5, now=IDLE)
    clock.ends(5, IDLE)
    assert clock.time(IDLE).idle is not None
    clock.advance(5, 6, resting=False, now=IDLE + 1)
    assert clock.time(IDLE + 1).idle is None
    rested(clock, 6, now=IDLE + 2)
    rested(clock, 6, now=2 * IDLE)
    assert not clock.asks(2 * IDLE)


def test_what_has_never_had_an_event_does_not_go_on() -> None:
    clock = source()
    rested(clock, 0, now=0)
    rested(clock, 0, now=IDLE)
    clock.ends(0, IDLE)
    assert clock.time(IDLE + 7) == LaneTime(LONG_AGO, idle=LONG_AGO)


def test_what_was_seen_before_it_went_back_twice_is_not_forgotten() -> None:
    clock = source(0)
    clock.saw(3)  # waits for another try
    clock.saw(5)  # is finished, so it does not come again
    clock.advance(0, 2, resting=False, now=0)
    for _ in range(2):
        clock.share()
        clock.rewind()
        clock.advance(0, 0, resting=True, now=0)
    clock.saw(3)
    clock.advance(2, 2, resting=True, now=0)
    assert clock.watermark == 5


@settings(max_examples=300)
@given(st.integers(0, 5), st.lists(st.integers(-20, 20), min_size=1, max_size=30), st.integers(0, 2**32))
def test_it_tells_no_more_than_what_is_finished(behind: int, timestamps: list[int], seed: int) -> None:
    rng = random.Random(seed)
    clock = source(behind)
    taken, open_ = 0, set[int]()
    shared = (0, set[int](), LONG_AGO)

    def position() -> int:
        return min(open_, default=taken)

    while True:
        action = rng.random()
        if action < 0.4 and taken < len(timestamps):
            clock.saw(timestamps[taken])
            open_.add(taken)
            taken += 1
        elif action < 0.8 and open_:
            open_.remove(rng.choice(sorted(open_)))
        elif action < 0.85:
            clock.share()
            shared = (taken, set(open_), clock.watermark)
        elif action < 0.9:
            clock.rewind()
            at, still, watermark = shared
            assert clock.watermark == watermark
            taken, open_ = min(still, default=at), set()  # what was finished above comes again
        before = clock.watermark
        clock.advance(position(), taken, resting=not open_, now=0)
        finished = timestamps[: position()]
        assert before <= clock.watermark
        assert clock.watermark == LONG_AGO or clock.watermark <= max(finished) - behind
        if taken == len(timestamps) and not open_:
            assert clock.watermark == max(timestamps) - behind
            return


# ---- a part of a source


def test_a_part_is_idle_once_it_has_been_asked_for_long_and_had_nothing() -> None:
    part = PartClock(5, IDLE, LONG_AGO, final=False)
    assert part.time(10 * IDLE) == LaneTime()  # it has not been asked
    part.emitted(100)
    part.silent(0)
    part.silent(IDLE - 1)
    assert part.time(IDLE - 1) == LaneTime(95)
    assert part.time(IDLE + 3) == LaneTime(95, idle=98)
    part.disturbed()
    assert part.time(IDLE + 3) == LaneTime(95)
    part.silent(IDLE)
    part.emitted(50)
    assert part.time(3 * IDLE) == LaneTime(95)


def test_a_part_that_has_ended_does_not_count() -> None:
    part = PartClock(0, IDLE, 7, final=False)
    part.end(0)
    assert part.time(1) == LaneTime(7, idle=7)
    assert part.time(IDLE + 2) == LaneTime(7, idle=9)
    last = PartClock(0, IDLE, 7, final=True)
    last.end(0)
    assert last.time(1) == LaneTime(7, ended=True)


# ---- an edge


def told(*watermarks: int) -> Snapshot:
    return tuple(Heard(LaneTime(watermark)) for watermark in watermarks)


def of(clock: EdgeClock, now: int = 0) -> int:
    return combine(clock.times(now)).clock


def test_what_lanes_tell_counts_when_what_they_had_written_is_finished() -> None:
    clock = EdgeClock("before", 2)
    assert not clock.asks(0)
    assert clock.asks(1)
    clock.bar(told(5, 9), version=1, end=10)
    assert not clock.asks(2)  # one barrier at a time
    clock.advance(9)
    assert of(clock) == LONG_AGO
    clock.advance(10)
    assert of(clock) == 5
    assert not clock.asks(1)
    assert clock.asks(2)
    clock.bar(told(7, 9), version=2, end=10)
    clock.advance(10)
    assert of(clock) == 7


def test_after_going_back_it_asks_anew() -> None:
    clock = EdgeClock("before", 1)
    clock.bar(told(5), version=3, end=1)
    clock.advance(1)
    clock.share()
    clock.bar(told(8), version=4, end=2)
    clock.advance(2)
    clock.rewind()
    assert of(clock) == 5
    assert clock.asks(4)


def test_a_barrier_that_was_not_passed_outlives_going_back() -> None:
    clock = EdgeClock("before", 1)
    clock.share()
    clock.bar(told(8), version=4, end=2)
    clock.rewind()
    assert not clock.asks(4)
    clock.advance(2)
    assert of(clock) == 8


def test_idle_lanes_count_again_when_nobody_renews_it() -> None:
    clock = EdgeClock("before", 2)
    clock.bar((Heard(LaneTime(5)), Heard(LaneTime(1, idle=3), HABITS.believed)), version=1, end=0)
    clock.advance(0)
    assert of(clock, HABITS.believed - 1) == 5
    assert of(clock, HABITS.believed) == 1


@settings(max_examples=300)
@given(st.integers(1, 4), st.integers(0, 2**32))
def test_nothing_counts_whose_events_are_not_finished(lanes: int, seed: int) -> None:
    """Lanes write events, and tell by their watermark how many; all of them must be finished then."""
    rng = random.Random(seed)
    clock = EdgeClock("before", lanes)
    log: list[int] = []
    written = [0] * lanes
    said = [0] * lanes
    position = version = 0
    snapshot: Snapshot | None = None
    for _ in range(200):
        action = rng.random()
        lane = rng.randrange(lanes)
        if action < 0.3:
            log.append(lane)
            written[lane] += 1
        elif action < 0.5:
            said[lane] = written[lane]
            version += 1
        elif action < 0.6 and snapshot is None and clock.asks(version):
            snapshot = told(*said)
        elif action < 0.7 and snapshot is not None:  # the log is asked after the lanes were heard
            clock.bar(snapshot, version, len(log))
            snapshot = None
        else:
            position = rng.randint(position, len(log))
        clock.advance(position)
        for number, time in enumerate(clock.times(0)):
            assert time.watermark <= log[:position].count(number)
    position = len(log)
    clock.advance(position)
    clock.bar(told(*written), version + 1, len(log))
    clock.advance(position)
    assert [time.watermark for time in clock.times(0)] == written

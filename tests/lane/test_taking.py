"""Which inputs are taken from, where a program lets one wait for another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reflow_kafka.lane.inbox import Inbox
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.lane.link import Written
from reflow_kafka.lane.taking import Taking
from reflow_kafka.log.api import TopicPartition

LEFT, RIGHT = TopicPartition("left", 0), TopicPartition("right", 0)


def records(*offsets: int) -> list[Any]:
    return [Written(offset, 0, b"key", b"", []) for offset in offsets]


class Choosing:
    """Takes so many of each side."""

    def __init__(self, *takes: int) -> None:
        self.room = list(takes)

    def takes(self, side: int, keys: Sequence[bytes | None]) -> int:
        return min(self.room[side], len(keys))


def taking(program: Any) -> Taking:
    return Taking(program, {LEFT: 0, RIGHT: 1})


def test_other_programs_take_everything() -> None:
    each = taking(object())
    assert each.takes(LEFT, records(1, 2)) == 2
    assert not each.left()
    assert not each.nothing_more()


def test_an_input_is_left_alone_until_something_else_was_taken() -> None:
    each = taking(Choosing(1, 5))
    assert each.takes(LEFT, records(1, 2)) == 1
    assert not each.left()
    assert taking(Choosing(0, 5)).takes(LEFT, records(1)) == 0
    each = taking(Choosing(0, 5))
    each.takes(LEFT, records(1))
    assert set(each.left()) == each.waiting() == {LEFT}
    assert each.takes(RIGHT, records(1, 2)) == 2
    each.taken()
    assert not each.left()


def test_of_inputs_that_wait_for_each_other_one_goes_first_by_one() -> None:
    each = taking(Choosing(0, 0))
    for _ in range(2):
        for partition in (LEFT, RIGHT):
            assert each.takes(partition, records(1, 2)) == 0
        assert not each.waiting()
        assert not each.left()
        assert each.takes(RIGHT, records(1, 2)) == 1
        each.taken()


def test_once_nothing_more_comes_nobody_waits() -> None:
    each = taking(Choosing(0, 0))
    each.takes(LEFT, records(1))
    assert each.nothing_more()
    assert not each.left()
    assert each.takes(LEFT, records(1, 2)) == 2
    assert not each.nothing_more()


def test_an_inbox_gives_out_others_first_and_then_the_rest_of_what_was_put_back() -> None:
    inbox = Inbox({LEFT: Mark(0), RIGHT: Mark(0)})
    for offset in (0, 1):
        inbox.give(LEFT, records(offset), offset + 1)
    inbox.give(RIGHT, records(0), 1)
    assert inbox.poll() == (LEFT, records(0))
    inbox.put_back(LEFT, records(0))
    assert inbox.poll({LEFT}) == (RIGHT, records(0))
    assert inbox.poll({LEFT}) is None
    assert [inbox.poll({RIGHT}), inbox.poll(), inbox.poll()] == [(LEFT, records(0)), (LEFT, records(1)), None]
    inbox.put_back(LEFT, records(1))
    inbox.stop()
    assert inbox.poll() is None

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reflow_kafka.lane.inbox import QUEUE, Inbox
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local import LocalRecord

A, B = TopicPartition("a", 0), TopicPartition("b", 0)
partitions = st.sampled_from([A, B])


def record(offset: int) -> LocalRecord:
    return LocalRecord(offset, 0, None, None, [])


class Machine(RuleBasedStateMachine):
    """A reader that gives, a worker that works, commits that share, and going back."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.at = {A: 0, B: 0}  # of the reader
        self.in_work: tuple[TopicPartition, list[int]] | None = None
        self.finished: dict[TopicPartition, list[int]] = {A: [], B: []}
        self.shared: dict[TopicPartition, int] = {A: 0, B: 0}

    @initialize()
    def start(self) -> None:
        self.inbox = Inbox({tp: Mark(at) for tp, at in self.at.items()})

    def teardown(self) -> None:
        self.loop.close()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.at[partition] = offset

    @rule(tp=partitions, count=st.integers(0, 4), gap=st.integers(0, 2))
    def give(self, tp: TopicPartition, count: int, gap: int) -> None:
        if not self.inbox.room(tp):
            return
        records = [record(self.at[tp] + n) for n in range(count)]
        self.at[tp] += count + gap
        self.inbox.give(tp, records, self.at[tp])

    @precondition(lambda self: self.in_work is None and self.inbox._queue)
    @rule()
    def take(self) -> None:
        batch = self.loop.run_until_complete(self.inbox.next())
        assert batch is not None
        self.in_work = (batch[0], [r.offset for r in batch[1]])

    @precondition(lambda self: self.in_work is not None)
    @rule(count=st.integers(1, 4))
    def work(self, count: int) -> None:
        assert self.in_work is not None
        tp, offsets = self.in_work
        for offset in offsets[:count]:
            self.finished[tp].append(offset)
            self.inbox.reach(tp, offset + 1)
        del offsets[:count]
        if not offsets:
            self.in_work = None
            self.inbox.finished(tp)

    @rule()
    def share(self) -> None:
        self.shared = {tp: mark.position for tp, mark in self.inbox.share().items()}

    @rule()
    def go_back(self) -> None:
        generation = self.inbox.generation
        self.inbox.go_back(self.seek)
        assert self.inbox.generation > generation
        assert not self.inbox
        self.in_work = None
        for tp, position in self.shared.items():
            self.finished[tp] = [offset for offset in self.finished[tp] if offset < position]
            assert self.at[tp] == position == self.inbox.position(tp)

    @invariant()
    def positions_are_in_order(self) -> None:
        inbox = self.inbox
        for tp in (A, B):
            assert inbox.shared[tp].position <= inbox.position(tp) <= self.at[tp]
            assert inbox.room(tp) == (inbox._in_hand[tp] < QUEUE)
            assert inbox._in_hand[tp] or inbox.position(tp) == self.at[tp], "nothing in hand: done with all"
            assert self.finished[tp] == sorted(set(self.finished[tp])), "each once and in order"


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestInbox = Machine.TestCase


async def test_a_stop_wakes_who_waits_and_gives_nothing_more() -> None:
    inbox = Inbox({A: Mark(0)})
    waiting = asyncio.create_task(inbox.next())
    await asyncio.sleep(0)
    inbox.give(A, [record(0)], 1)
    assert await waiting == (A, [record(0)])
    inbox.give(A, [record(1)], 2)
    inbox.stop()
    assert await inbox.next() is None
    assert inbox.position(A) == 0

"""Who waits, and what they are told: the first answer, once, or that none will come."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from reflow_kafka import ReflowError
from reflow_kafka.client.waiting import Answer, Waiting
from reflow_kafka.log.local import LocalRecord
from reflow_kafka.topology.replies import CORRELATION_ID


def answer_to(id: bytes | None, value: int = 0) -> LocalRecord:
    headers = [] if id is None else [("h", None), (CORRELATION_ID, id)]
    return LocalRecord(0, 0, None, b"%d" % value, headers)


class AnyHistory(RuleBasedStateMachine):
    """Requests, answers (first, second, late, foreign), those who leave, and failures, in any order."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.waiting = Waiting()
        self.left: dict[bytes, ExitStack] = {}
        self.futures: dict[bytes, Answer] = {}
        self.told: dict[bytes, int | None] = {}
        self.written = 0

    def teardown(self) -> None:
        for stack in self.left.values():
            stack.close()
        self.runner.close()

    def run(self, act: object) -> object:
        async def inside() -> object:
            return act() if callable(act) else act

        return self.runner.run(inside())

    @rule(target=ids)
    def ask(self) -> bytes:
        stack = ExitStack()
        id, future = self.run(lambda: stack.enter_context(self.waiting.request()))  # type: ignore[misc]
        assert id not in self.left
        self.left[id], self.futures[id] = stack, future
        return bytes(id)

    @rule(id=ids)
    def answer(self, id: bytes) -> None:
        self.written += 1
        open = id in self.left and id not in self.told
        record = answer_to(id, self.written)
        assert self.run(lambda: self.waiting.answered(record)) is open
        if open:
            self.told[id] = self.written

    @rule(id=st.none() | st.binary(max_size=40))
    def foreign(self, id: bytes | None) -> None:
        assert self.run(lambda: self.waiting.answered(answer_to(id))) is False

    @rule(id=ids)
    def leave(self, id: bytes) -> None:
        if stack := self.left.pop(id, None):
            self.run(stack.close)

    @rule()
    def fail(self) -> None:
        self.run(lambda: self.waiting.fail(lambda: ReflowError("gone")))
        for id in self.left.keys() - self.told.keys():
            self.told[id] = None

    @invariant()
    def each_is_told_what_came_first(self) -> None:
        assert len(self.waiting) == len(self.left.keys() - self.told.keys())
        for id in self.left:
            future = self.futures[id]
            assert future.done() is (id in self.told)
            if id not in self.told:
                continue
            if self.told[id] is None:
                assert isinstance(future.exception(), ReflowError)
            else:
                assert future.result().value == b"%d" % (self.told[id] or 0)


TestAnyHistory = AnyHistory.TestCase


async def test_ids_of_two_clients_never_meet() -> None:
    one, other = Waiting(), Waiting()
    with one.request() as (id, answer), other.request() as (another, _):
        assert id != another
        assert not other.answered(answer_to(id))
        assert one.answered(answer_to(id, 5))
        assert (await answer).value == b"5"


async def test_who_waits_is_told_that_nothing_will_come() -> None:
    waiting = Waiting()
    with waiting.request() as (_, one), waiting.request() as (_, other):
        waiting.fail(lambda: ReflowError("gone"))
        with pytest.raises(ReflowError, match="gone"):
            await one
        assert other.exception() is not one.exception(), "each has a traceback of its own"

"""What lies between the machines and the broker: requests arrive late, answers get lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from reflow_kafka.errors import LogDoubt, LogError
from tests.simulation.loop import OUTSIDE, check_alive, this_machine

T = TypeVar("T")

DEADLINE = 15.0
"""Seconds after which a machine gives up waiting for an answer."""
FATES = ("request", "answer", "late")
"""What may get lost; or the request arrives when its sender no longer expects an answer."""
SLOW = (0.002, 0.05, 0.4, 3.0)


class Later(Exception):
    """The broker cannot do that yet: the client asks again soon."""


class Network:
    """Carries requests there and answers back.

    A request that is on its way arrives whatever becomes of the machine that has sent it, and one whose
    sender has given up may still arrive.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.loss = 0.0
        """Share of requests whose answer never comes: see `FATES`."""
        self.slow = 0.0
        """Share of messages that take their time."""
        self.fates: dict[int, str] = {}
        """What becomes of single requests, by number: "request", "answer" or "late"."""
        self.requests = 0
        self.back_at = 0.0
        """When the broker is there again."""
        self.cut: dict[int, float] = {}
        """Machines that cannot reach it, by number, and until when."""
        self.deaf: dict[tuple[int, int], float] = {}
        """Machines that cannot read from it, by number, with their even or their odd readers."""

    async def call(self, what: str, effect: Callable[[], T]) -> T:
        """Have the broker do something, all of it at one moment.

        Raises:
            LogDoubt: no answer came; nobody knows what the broker has done, or will still do.
        """
        check_alive()
        rng, loop = self.rng, asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        delay = self._delay() + self._away()
        self.requests += 1
        fate = self.fates.get(self.requests, "")
        if rng.random() < self.loss:
            fate = rng.choice(FATES)
        if fate == "late":
            delay += rng.choice((0.01, 0.2, 2.0, 12.0))
        if fate != "request":
            after(delay, lambda: self._arrive(effect, answer))
        if fate:
            await asyncio.sleep(rng.choice((0.0, 0.0, 0.1, 1.0, DEADLINE)))
        else:
            await asyncio.wait([answer], timeout=DEADLINE)
            if answer.done():
                return answer.result()
        raise LogDoubt(f"simulated: no answer ({what})")

    def _arrive(self, effect: Callable[[], T], answer: asyncio.Future[T]) -> None:
        try:
            result = effect()
        except Later:
            after(0.02, lambda: self._arrive(effect, answer))
        except LogError as error:
            after(self._delay(), partial(_fail, answer, error))
        else:
            after(self._delay(), lambda: answer.done() or answer.set_result(result))

    async def pause(self, what: str, loss: float, *, reader: int) -> None:
        """Wait as long as it takes for something that a machine only looks at.

        Raises:
            LogError: it cannot be had now.
        """
        check_alive()
        if delay := self._delay() + max(self._away(), self._deaf(reader)):
            await asyncio.sleep(delay)
        if self.rng.random() < self.loss * loss:
            raise LogError(f"simulated: {what} failed")

    def _away(self) -> float:
        """Seconds until this machine can reach the broker."""
        machine = this_machine()
        until = max(self.back_at, self.cut.get(machine.number, 0.0) if machine is not None else 0.0)
        return max(until - asyncio.get_running_loop().time(), 0.0)

    def _deaf(self, reader: int) -> float:
        """Seconds until this machine can read with that reader."""
        machine = this_machine()
        until = 0.0 if machine is None else self.deaf.get((machine.number, reader % 2), 0.0)
        return max(until - asyncio.get_running_loop().time(), 0.0)

    def _delay(self) -> float:
        return self.rng.choice(SLOW) if self.slow and self.rng.random() < self.slow else 0.0


def after(delay: float, action: Callable[[], Any]) -> asyncio.Handle:
    """Have the world do something, whoever lives or dies meanwhile."""
    loop = asyncio.get_running_loop()
    if delay <= 0:
        return loop.call_soon(action, context=OUTSIDE)
    return loop.call_later(delay, action, context=OUTSIDE)


def _fail(answer: asyncio.Future[Any], error: LogError) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # whoever asked may be dead

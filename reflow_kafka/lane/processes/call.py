"""A call on its way to a process and back."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reflow_kafka.errors import FlowStopped
from reflow_kafka.lane.processes.job import Job
from reflow_kafka.lane.processes.wire import RETURNED, UNAVAILABLE, Failure

if TYPE_CHECKING:
    from reflow_kafka.lane.processes.member import Member


@dataclass(slots=True, eq=False)
class Call:
    """One call, until its result or error is known."""

    job: Job
    number: int
    """Unique in the pool, from 1 on."""
    arguments: bytes | None
    """Pickled; None: only load the handler."""
    future: asyncio.Future[Any]
    timeout: float | None
    """Seconds it may run."""
    member: Member | None = None
    """Where it has been sent."""
    seconds: float = 0.0
    """How long it is expected to take."""
    verdict: Exception | None = None
    """Its error once its process, killed for it, has ended: only then may it be tried again."""
    deaths: int = 0
    """Processes that died while it waited there for its turn."""

    @property
    def size(self) -> int:
        return len(self.arguments or b"")


class TracebackThere(Exception):
    """Cause of an error that was raised in a process: the traceback it had there, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def pickled(job: Job, args: Sequence[Any], named: Mapping[str, Any]) -> bytes:
    """The arguments of a call as they are sent.

    Raises:
        TypeError: one of them cannot be.
    """
    try:
        return pickle.dumps((tuple(args), dict(named)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        parts = {**{f"argument {at + 1}": value for at, value in enumerate(args)}, **named}
        for name, value in parts.items():
            try:
                pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
            except Exception:
                what = f"{name}, a {type(value).__qualname__}, cannot be sent to a process"
                raise TypeError(f"stage {job.stage!r}: {what}: {error}") from error
        raise


def settle(call: Call, how: int, blob: bytes) -> None:
    """A call has ended: pass on its result or error."""
    try:
        value = pickle.loads(blob)  # noqa: S301 - from our own process
    except Exception as error:
        what = f"its result cannot be rebuilt as it came from its process: {error}"
        failed = TypeError(f"stage {call.job.stage!r}: {what}")
        failed.__cause__ = error
        call.future.set_exception(failed)
        return
    if how == RETURNED:
        call.future.set_result(value)
        return
    failure: Failure = value
    failure.error.__cause__ = TracebackThere(failure.traceback)
    if how == UNAVAILABLE:
        call.future.set_exception(
            stopped(call, f"{type(failure.error).__name__}: {failure.error}", failure.error)
        )
    else:
        call.future.set_exception(failure.error)


def stopped(call: Call, why: str, cause: BaseException | None = None) -> FlowStopped:
    """No event is to blame: the handler itself cannot run."""
    error = FlowStopped(f"stage {call.job.stage!r} cannot run in a process: {why}")
    error.__cause__ = cause
    return error


def fail(call: Call, error: Exception) -> None:
    """End it with an error, unless nobody waits for it."""
    if not call.future.done():
        call.future.set_exception(error)

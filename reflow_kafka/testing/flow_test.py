"""`FlowTest` and `AsyncFlowTest`: a flow, run step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, TypeVar

from reflow_kafka.errors import UsageError
from reflow_kafka.event import INHERITED, Event
from reflow_kafka.flow import Flow
from reflow_kafka.testing.letters import DeadLetter
from reflow_kafka.testing.trial import Named, Trial
from reflow_kafka.timers import Timer
from reflow_kafka.units import Duration, Instant

T = TypeVar("T")

START: Final = 1_735_689_600_000
"""When tests begin unless they say otherwise: 2025-01-01T00:00:00Z."""
NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


class _Looking:
    """What can be seen of a flow that is tested; nothing happens meanwhile."""

    _trial: Trial

    def outputs(self, stage: Named) -> list[Any]:
        """The values that a stage has emitted so far, as what follows it gets them.

        Args:
            stage: a stage (its main output), ``"stage.output"``, or a sink: what it was given to write. A
                name, a handle or the decorated object.

        Raises:
            UsageError: there is no such stage or output.
        """
        return [event.value for event in self.events(stage)]

    def events(self, stage: Named) -> list[Event[Any]]:
        """The same with keys, timestamps and headers."""
        return self._trial.events(stage)

    def state(self, stage: Named, key: object) -> Any:
        """The state that a stage keeps for a key, None if it keeps none.

        Of a stage with windows: those of its windows that are open, by `Window`.

        Raises:
            UsageError: there is no such stage, or it has no state.
        """
        return self._trial.state(stage, key)

    def store(self, stage: Named, name: str, key: object = INHERITED) -> dict[str, Any]:
        """What a named store of a stage holds (``stores=``), in the order of its keys.

        Each lane has its own: with `key`, that of the lane in which events of this key are handled; else the
        entries of all.

        Raises:
            UsageError: there is no such stage or store; or, without `key`, an entry is in several lanes.
        """
        return self._trial.store(stage, name, key)

    def timers(self, stage: Named, key: object) -> list[Timer]:
        """The timers of a key that have not fired, the next one first.

        Raises:
            UsageError: there is no such stage, or it has no ``on_timer=``.
        """
        return self._trial.timers(stage, key)

    def dead_letters(self) -> list[DeadLetter]:
        """The events that have failed for good so far."""
        return self._trial.dead_letters()

    @property
    def now(self) -> int:
        """The wall clock, in epoch milliseconds."""
        return self._trial.now


class FlowTest(_Looking):
    """Runs a flow in a plain ``def`` test: ``with FlowTest(flow) as test: test.send("orders", {...})``.

    It is the engine as it runs in production, over a log in memory and with two clocks that stand still
    unless the test moves them. Nothing is ever waited for: back-offs and time-outs take no real time.

    Args:
        flow: the flow, as it is; it can be used for any number of tests.
        resources: what handlers get by name instead of the flow's own resources.
        start: the wall clock at the beginning.
        real: names of sources and sinks whose own connectors are used. All others are replaced: sources by
            `send`, and sinks only remember what they were given (`outputs`).

    Raises:
        UsageError: an event loop runs in this thread (`AsyncFlowTest` is for ``async def`` tests).
        DefinitionError, TopologyMismatch: as when the flow is run.
    """

    def __init__(
        self,
        flow: Flow,
        *,
        resources: Mapping[str, object] = NOTHING,
        start: Instant = START,
        real: Collection[str] = (),
    ) -> None:
        self._trial = Trial(flow, resources, start, real)

    def __enter__(self) -> Self:
        if _is_in_a_loop():
            raise UsageError(
                "FlowTest found an event loop running, wanted a plain def test; in an `async def` test write "
                "`async with AsyncFlowTest(flow) as test:`"
            )
        self._trial.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trial.close()

    def send(
        self,
        source: Named,
        value: object,
        *,
        key: object = INHERITED,
        timestamp: Instant = INHERITED,
    ) -> None:
        """An event enters the flow; everything that it leads to has happened when this returns.

        What waits for another try, or for a batch to fill, is waited for: the wall clock moves on by as much,
        but by a minute at most. Timers and windows wait for `advance`.

        Args:
            source: the source by which it enters.
            value: its value; None is a tombstone, and bytes enter a topic as they are.
            key: its key, instead of what the source finds in the value.
            timestamp: its event time, unless the source finds that in the value (the wall clock).

        Raises:
            UsageError: there is no such source, or it does not take this value.
            ReflowError: what stopped the flow.
        """
        self._trial.send(source, [value], key, timestamp)

    def send_all(self, source: Named, values: Sequence[object]) -> None:
        """Several events enter before any of them is handled: for stages with ``batch=``."""
        self._trial.send(source, values, INHERITED, INHERITED)

    def request(self, source: Named, value: object, *, key: object = INHERITED) -> Any:
        """Send an event and return the answer to it (`Flow.reply`), as `Client.request` does.

        Raises:
            RequestFailed: the event, or one that came of it, became a dead letter.
            TimeoutError: nobody has answered.
        """
        return self._trial.request(source, value, key)

    def advance(self, wall: Duration = 0, *, event_time: Instant | None = None) -> None:
        """Move the clocks on; everything that comes due has happened when this returns.

        Args:
            wall: by how much the wall clock moves.
            event_time: how far event time has come: no older event is expected any more.
        """
        self._trial.advance(wall, event_time)

    def end(self) -> None:
        """The sources come to their end: windows close, and the flow ends."""
        self._trial.end()

    def restart(self, *, lose_state: bool = False) -> None:
        """Start the engine anew, as after ``kill -9``: what was not committed is done again.

        Args:
            lose_state: the local disk is lost, too: state is restored from the log.
        """
        self._trial.restart(lose_state=lose_state)


class AsyncFlowTest(_Looking):
    """`FlowTest` for ``async def`` tests: what makes something happen is awaited, looking is not.

    The flow runs on an event loop of its own, in a thread of its own, so that fakes which are bound to the
    test's loop (an `asyncio.Queue`, say) cannot be shared with its handlers.
    """

    def __init__(
        self,
        flow: Flow,
        *,
        resources: Mapping[str, object] = NOTHING,
        start: Instant = START,
        real: Collection[str] = (),
    ) -> None:
        self._trial = Trial(flow, resources, start, real)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flow-test")

    async def __aenter__(self) -> Self:
        try:
            await self._in_thread(self._trial.open)
        except BaseException:
            self._thread.shutdown()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._in_thread(self._trial.close)
        finally:
            self._thread.shutdown()

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def send(
        self,
        source: Named,
        value: object,
        *,
        key: object = INHERITED,
        timestamp: Instant = INHERITED,
    ) -> None:
        """See `FlowTest.send`."""
        await self._in_thread(self._trial.send, source, [value], key, timestamp)

    async def send_all(self, source: Named, values: Sequence[object]) -> None:
        """See `FlowTest.send_all`."""
        await self._in_thread(self._trial.send, source, values, INHERITED, INHERITED)

    async def request(self, source: Named, value: object, *, key: object = INHERITED) -> Any:
        """See `FlowTest.request`."""
        return await self._in_thread(self._trial.request, source, value, key)

    async def advance(self, wall: Duration = 0, *, event_time: Instant | None = None) -> None:
        """See `FlowTest.advance`."""
        await self._in_thread(self._trial.advance, wall, event_time)

    async def end(self) -> None:
        """See `FlowTest.end`."""
        await self._in_thread(self._trial.end)

    async def restart(self, *, lose_state: bool = False) -> None:
        """See `FlowTest.restart`."""
        await self._in_thread(lambda: self._trial.restart(lose_state=lose_state))


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

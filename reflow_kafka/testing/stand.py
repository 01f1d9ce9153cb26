"""Where a flow is tested: the engine as it is, on a loop whose time is virtual, over a log in memory."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context, copy_context
from typing import Any, Final, TypeVar

from reflow_kafka import clock
from reflow_kafka.engine.engine import Engine
from reflow_kafka.errors import ReflowError
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.testing.journal import JournalLog
from reflow_kafka.testing.loop import VirtualClock, VirtualLoop
from reflow_kafka.testing.wiring import WiredFlow, Wiring

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Virtual seconds for which is waited for events that wait themselves: for another try, or a full batch."""
LAST_PATIENCE: Final = 7 * 86_400.0
"""The same at the end."""
STUCK: Final = 60.0
"""Real seconds after which something is given up that comes to no end."""


class Stand:
    """An engine that runs when it is told to, until there is nothing left to do."""

    def __init__(self, wiring: Wiring, resources: Mapping[str, object], start: int) -> None:
        self.log = JournalLog()
        self.state = MemoryBackend()
        self.loop = VirtualLoop(self._idle, self._is_connected)
        self.clock = VirtualClock(self.loop, start)
        self.stopped = False
        """Whether the engine has stopped."""
        self._wiring = wiring
        self._resources = resources
        self._context: Context = copy_context()
        self._context.run(clock.use, self.clock)
        self._engine: Engine | None = None
        self._living: asyncio.Task[None] | None = None
        self._goal = 0.0
        self._is_done: Callable[[], bool] = lambda: True

    # ---- the engine

    def start(self) -> None:
        """Start an engine; its lanes run when this returns.

        Raises:
            ReflowError: what keeps the flow from running.
        """
        self.stopped = False
        self._living = self.loop.create_task(self._live(), context=self._context)
        self.settle()
        self.clock.go()

    async def _live(self) -> None:
        engine = Engine(
            WiredFlow(self._wiring.spec),
            log=self.log,
            state=self.state,
            resources=self._resources,
            commit_interval=0,
        )
        async with engine:
            self._engine = engine
            await engine.wait()

    def settle(self) -> None:
        """Let everything be done that can be, and time go on a little for what waits.

        Raises:
            ReflowError: what stopped the flow; or it comes to no end, or does not run.
        """
        self._run(self.loop.virtual + PATIENCE, self._is_quiet)
        if not self._is_running():  # lanes that cannot be opened are tried again, and in the end say why
            self._run(self.loop.virtual + LAST_PATIENCE, self._is_running)
        self._check()
        if not self._is_running():
            raise ReflowError(
                "the engine does not start; does a resource wait for something that never comes?"
            )

    def pass_time(self, seconds: float) -> None:
        """Let exactly so much time pass, and do all that comes due."""
        self._run(self.loop.virtual + seconds, lambda: False)
        self._check()

    def expect(self, timestamp: int) -> None:
        """Let event time come to `timestamp`, and do all that comes due."""
        self.do(self._expect(timestamp))
        self.settle()

    async def _expect(self, timestamp: int) -> None:
        assert self._engine is not None
        self._engine.expect(timestamp)

    def end(self) -> None:
        """Let the engine come to the end of its sources."""
        assert self._engine is not None
        waiting = self.loop.create_task(self._engine.wait(until_end=True), context=self._context)
        waiting.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._run_down(LAST_PATIENCE)
        self._check()

    def kill(self) -> None:
        """Let the engine end without another commit; what it says of that, nobody hears."""
        if self._engine is not None:
            self._engine.abort()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            self._run_down(LAST_PATIENCE)
            self._check()

    def lose_state(self) -> None:
        """The local disk is lost, while no engine runs."""
        self.state = MemoryBackend()

    def close(self) -> None:
        """Stop the engine gracefully, and leave nothing behind."""
        try:
            if self._engine is not None:
                self._engine.stop()
            with contextlib.suppress(Exception, asyncio.CancelledError):  # told before
                self._run_down(LAST_PATIENCE)
                self._check()
            self.do(self._clear_up())
        finally:
            self.loop.close()

    async def _clear_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.log.stop()
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()

    # ---- running

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something to its end."""
        task = self.loop.create_task(work, context=self._context)
        self._run(self.loop.virtual + LAST_PATIENCE, task.done, task)
        return task.result()

    def _run_down(self, patience: float) -> None:
        living = self._living
        if living is not None and not living.done():
            self._run(self.loop.virtual + patience, living.done, living)

    def _run(
        self, goal: float, is_done: Callable[[], bool], stops_with: asyncio.Task[Any] | None = None
    ) -> None:
        """Run the loop until time has come to `goal`, or it is done, as is asked when nothing can be done."""
        self._goal, self._is_done = goal, is_done
        task = stops_with or self._living
        stop: Callable[[Any], None] = lambda _: self.loop.stop()  # noqa: E731 - to be taken off again
        if task is not None:
            task.add_done_callback(stop)
        self.loop.give_up_at = time.perf_counter() + STUCK
        self.loop.call_soon(_nothing)  # what a test has done since then is seen at once
        self.loop.run_forever()
        if task is not None:
            task.remove_done_callback(stop)
        if time.perf_counter() > self.loop.give_up_at:
            raise ReflowError(f"not done after {STUCK:g} s; in hand: {self._in_hand()}")

    def _idle(self, at: float) -> float | None:
        """Nothing can be done before a virtual second: how far time may go on."""
        if self.loop.virtual >= self._goal or self._is_done():
            return None
        return self._goal

    def _check(self) -> None:
        """Tell once what stopped the engine."""
        living = self._living
        if living is None or not living.done():
            return
        self._engine = self._living = None
        self.stopped = True
        living.result()

    def _is_running(self) -> bool:
        """Whether all lanes are at work."""
        if self._engine is None:
            return False
        flows = self._engine.statistics().flows.values()
        return all(flow.running == flow.assigned for flow in flows)

    def _is_quiet(self) -> bool:
        engine = self._engine
        if engine is None or any(len(g.events) > g.committed for g in self._wiring.given.values()):
            return False
        left = self._goal - self.loop.virtual
        return engine.caught_up(self.log.end, before=self.loop.time() + left)

    def _is_connected(self) -> bool:
        """Whether a handler may wait for what comes by a connection."""
        if self._engine is None:
            return True
        flows = self._engine.statistics().flows.values()
        return any(stage.in_progress for flow in flows for stage in flow.stages.values())

    def _in_hand(self) -> str:
        if self._engine is None:
            return "the engine, which starts or stops"
        flows = self._engine.statistics().flows.values()
        stages = {name: stage for flow in flows for name, stage in flow.stages.items()}
        told = [
            f"{name} ({stage.in_progress} in progress, {stage.retrying} wait for a retry)"
            for name, stage in stages.items()
            if stage.in_progress or stage.retrying
        ]
        return ", ".join(told) or "nothing that a stage knows of"


def _nothing() -> None:
    pass

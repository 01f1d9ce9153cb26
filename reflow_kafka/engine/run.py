"""`run`: flows from start to end in a program of one's own; signals and the garbage collector are seen to."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from reflow_kafka.engine.engine import Engine
    from reflow_kafka.flow import Flow
    from reflow_kafka.security import Security

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# A lane makes a few thousand short-lived containers per batch and hardly ever a cycle: with the default of
# 700 the collector would run several times per batch and walk state that only grows.
_GC_THRESHOLD = (50_000, 20, 20)

Beside = Callable[["Engine"], AbstractContextManager[object]]
"""Something that accompanies a running engine, such as a display of its progress."""


def run(
    *flows: Flow,
    bootstrap: str | None = None,
    security: Security | None = None,
    until_end: bool = False,
    data_dir: str | Path = ".reflow",
    guarantee: Literal["exactly-once", "at-least-once"] = "exactly-once",
    commit_interval: float = 0.1,
    shutdown_timeout: float = 25,
    standbys: int = 0,
    drop_edges: Collection[str] = (),
    http: str | None = None,
    http_advertise: str | None = None,
) -> None:
    """Run flows until they are told to stop, or with `until_end` until their sources have ended; blocks.

    The first INT or TERM stops gracefully: drain, commit, leave the group. The second one aborts what is open
    and ends at once with KeyboardInterrupt; a third one does what it would do without this library. Signals
    are handled in the main thread only. Logging is left to the program.

    Args:
        flows: what to run, in one engine.
        bootstrap: addresses of Kafka brokers; None = the embedded log in `data_dir`.
        security: how every connection to Kafka is encrypted and logs in.
        until_end: finish when every source has ended and all its events are processed everywhere.
        data_dir: local state and the embedded log.
        guarantee: whether every event counts exactly once, or at least once.
        commit_interval: seconds after which results are committed at the latest.
        shutdown_timeout: seconds that a graceful stop may take.
        standbys: copies of each lane's state to be kept by other engines; needs `bootstrap`.
        drop_edges: topics of a former shape of a flow whose unread events may be forgotten.
        http: ``HOST:PORT`` or ``PORT`` at which queries about state are answered.
        http_advertise: ``HOST:PORT`` at which other engines reach it, if that is another.

    Raises:
        ReflowError: what stopped the flows.
        KeyboardInterrupt: they were told twice to stop.
    """
    from reflow_kafka.engine.engine import Engine

    def make() -> Engine:
        return Engine(
            *flows,
            bootstrap=bootstrap,
            security=security,
            data_dir=data_dir,
            guarantee=guarantee,
            commit_interval=commit_interval,
            shutdown_timeout=shutdown_timeout,
            standbys=standbys,
            drop_edges=drop_edges,
            http=http,
            http_advertise=http_advertise,
        )

    run_engine(make, until_end=until_end)


def run_engine(
    make: Callable[[], Engine],
    *,
    until_end: bool = False,
    beside: Beside | None = None,
    give_up_after: float | None = None,
) -> None:
    """`run` for an engine made by `make`, on the loop, and accompanied by `beside` while it runs.

    With `give_up_after` the process ends that many seconds after the first signal even if a handler of the
    flow keeps the loop from turning: nothing is lost by it that a crash would not lose.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(make, until_end, beside or (lambda _: nullcontext()), give_up_after))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(
    make: Callable[[], Engine], until_end: bool, beside: Beside, give_up_after: float | None
) -> None:
    engine = make()
    with _Signals(engine, give_up_after) as signals, _tuned_gc():
        try:
            async with engine:
                signals.started = True
                gc.freeze()  # what has come up to now stays: the collector need not look at it again
                with beside(engine):
                    await engine.wait(until_end=until_end)
        except asyncio.CancelledError:
            if not signals.seen:
                raise
    if signals.seen > 1:
        raise KeyboardInterrupt


class _Signals:
    """INT and TERM while an engine runs.

    Plain handlers, not the loop's: they run even where a handler of the flow keeps the loop busy, so that the
    third signal always ends the process.
    """

    def __init__(self, engine: Engine, give_up_after: float | None) -> None:
        self.seen = 0
        self.started = False
        self._engine = engine
        self._give_up_after = give_up_after
        self._last_resort: threading.Timer | None = None
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._received) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        if self._last_resort is not None:
            self._last_resort.cancel()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.seen += 1
        if self.seen > 1:
            self._restore()
        elif self._give_up_after is not None:
            self._last_resort = threading.Timer(self._give_up_after, _give_up, [self._give_up_after])
            self._last_resort.daemon = True
            self._last_resort.start()
        self._loop.call_soon_threadsafe(self._act, self.seen)

    def _act(self, count: int) -> None:
        if not self.started and self._task is not None:
            self._task.cancel()  # nothing runs yet that would have to be drained
        elif count == 1:
            self._engine.stop()
        else:
            self._engine.abort()


def _give_up(after: float) -> None:
    logger.critical("a handler keeps the engine from stopping: the process ends after %g s without it", after)
    os._exit(1)


@contextmanager
def _tuned_gc() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*_GC_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()

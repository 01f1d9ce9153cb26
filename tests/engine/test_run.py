"""`run`: what a program gets that runs flows by itself."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from pathlib import Path
from typing import Any, Self

import pytest

from reflow_kafka.engine.run import run, run_engine
from reflow_kafka.errors import ReflowError


class Fake:
    """An engine by its life alone: it waits until it is told to stop, and keeps what it was told."""

    def __init__(self, *, start: float = 0.0, deaf: bool = False, fails: BaseException | None = None) -> None:
        self.told: list[str] = []
        self._start = start
        self._deaf = deaf
        self._fails = fails
        self._end = asyncio.Event()
        self.threshold = (0, 0, 0)

    async def __aenter__(self) -> Self:
        await asyncio.sleep(self._start)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.told.append("exit")

    async def wait(self, *, until_end: bool = False) -> None:
        self.threshold = gc.get_threshold()
        self.told.append(f"wait {until_end}")
        if self._fails is not None:
            raise self._fails
        await self._end.wait()

    def stop(self) -> None:
        self.told.append("stop")
        if not self._deaf:
            self._end.set()

    def abort(self) -> None:
        self.told.append("abort")
        self._end.set()


def send(*signals: int, after: float = 0.2) -> None:
    """Signals to this process, one after the other."""

    def kill() -> None:
        for number in signals:
            signal_later.wait(after)
            os.kill(os.getpid(), number)

    signal_later = threading.Event()
    threading.Thread(target=kill, daemon=True).start()


def run_fake(**settings: Any) -> Fake:
    made: list[Fake] = []

    def make() -> Any:
        made.append(Fake(**settings))
        return made[0]

    try:
        run_engine(make)
    finally:
        Fake.last = made[0]  # type: ignore[attr-defined]
    return made[0]


@pytest.fixture(autouse=True)
def nothing_stays() -> Any:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert gc.get_threshold() == threshold
    assert gc.get_freeze_count() <= frozen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_stops(number: int) -> None:
    send(number)
    assert run_fake().told == ["wait False", "stop", "exit"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_aborts(number: int) -> None:
    send(number, number)
    with pytest.raises(KeyboardInterrupt):
        run_fake(deaf=True)
    assert Fake.last.told == ["wait False", "stop", "abort", "exit"]  # type: ignore[attr-defined]


def test_a_signal_during_the_start_ends_it() -> None:
    send(signal.SIGTERM)
    assert run_fake(start=60).told == []


def test_what_stopped_the_engine_is_raised() -> None:
    with pytest.raises(ReflowError, match="broken"):
        run_fake(fails=ReflowError("broken"))


def test_the_collector_is_tuned_while_it_runs() -> None:
    send(signal.SIGTERM)
    assert run_fake().threshold > gc.get_threshold()


def test_in_another_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def other() -> None:
        def make() -> Any:
            fake = Fake()
            asyncio.get_running_loop().call_later(
                0.1, lambda: (seen.append(signal.getsignal(signal.SIGTERM)), fake.stop())
            )
            return fake

        run_engine(make)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(10)
    assert seen == [before]


def test_a_flow_is_run_to_its_end(tmp_path: Path) -> None:
    from reflow_kafka import Flow

    flow = Flow("numbers", partitions=1)
    got: list[int] = []

    @flow.source()
    def count():  # type: ignore[no-untyped-def]
        yield from range(5)

    @flow.sink(after="count")
    def keep(value: int) -> None:
        got.append(value)

    run(flow, data_dir=tmp_path, until_end=True)
    assert got == [0, 1, 2, 3, 4]

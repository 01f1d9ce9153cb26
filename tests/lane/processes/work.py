"""Handlers that the processes of the tests import."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reflow_kafka import Context, Event, Reject, State

log = logging.getLogger("tests.work")


class Odd(Exception):
    """Can be sent, but not rebuilt: its constructor wants more than its arguments."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


class Fine(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Holder:
    """Cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Spiteful:
    """Is pickled well, and cannot be rebuilt."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def same(value: Any) -> Any:
    return value


def arguments(*args: Any, **named: Any) -> Any:
    return args, named


def pid(_: object = None) -> int:
    return os.getpid()


def fails(value: str) -> None:
    if value == "odd":
        raise Odd(1, 2)
    if value == "fine":
        raise Fine(42)
    if value == "stop":
        raise StopIteration(7)
    if value == "exit":
        sys.exit(3)
    if value == "reject":
        raise Reject("bad")
    raise ValueError(value) from KeyError("cause")


def unsendable(_: object) -> Holder:
    return Holder()


def spiteful(_: object) -> Spiteful:
    return Spiteful()


def words(text: str) -> Iterator[str]:
    for word in text.split():
        if word == "bad":
            raise ValueError(word)
        yield word


def unsendable_word(_: object) -> Iterator[object]:
    yield 1
    yield Holder()


def emits(event: Event[int]) -> Event[int]:
    return event.replace(event.value + 1)


def emits_new(value: int) -> Event[int]:
    return Event(value, to="big")


def where(value: int, ctx: Context) -> dict[str, Any]:
    ctx.log.warning("seen %d", value, extra={"value": value})
    return {"key": ctx.key, "lane": ctx.lane, "time": ctx.time, "headers": dict(ctx.headers), "id": ctx.id}


def breaks_and_logs(_: object) -> None:
    try:
        raise ValueError("logged")
    except ValueError:
        log.exception("it broke", extra={"holder": Holder()})


def count(state: dict[str, int], value: str, ctx: Context) -> int:
    if value == "clear":
        ctx.clear_state()
        return 0
    state[value] = state.get(value, 0) + 1
    if value == "bad":
        raise ValueError(value)
    return state[value]


def add(state: State[int], value: int) -> Iterator[int]:
    if value < 0:
        state.clear()
    else:
        state.value += value
        yield state.value


def hold(state: dict[str, Any], value: str) -> str:
    state["holder"] = Holder()
    return value


class Machine:
    """Built once per process."""

    built = 0

    def __init__(self) -> None:
        Machine.built += 1
        self.opened = 0
        self.calls = 0

    def open(self) -> None:
        self.opened += 1

    def close(self) -> None:
        log.warning("closed after %d calls", self.calls)

    def __call__(self, value: int) -> tuple[int, int, int]:
        self.calls += 1
        return Machine.built, self.opened, value


class AsyncOpen:
    async def open(self) -> None:
        pass

    def __call__(self, value: int) -> int:
        return value


class NoLoading:
    def __init__(self) -> None:
        raise ValueError("no model here")

    def __call__(self, value: int) -> int:
        return value


class SlowLoading:
    def __init__(self) -> None:
        time.sleep(0.6)

    def __call__(self, value: int) -> int:
        return value


class DeadlyLoading:
    def __init__(self) -> None:
        os._exit(9)

    def __call__(self, value: int) -> int:
        return value


def dies(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "grandchild":  # which holds all that was open
        if os.fork() == 0:
            time.sleep(20)
        os._exit(4)


def waits_for(file: str) -> str:
    """Say that it began, then wait until the file is there."""
    Path(f"{file}.began").write_text(str(os.getpid()))
    while not Path(file).exists():
        time.sleep(0.002)
    return file


def holds_all(seconds: float) -> None:
    """Blocks like a library that keeps the interpreter to itself."""
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


def noted(file: str, number: int, seconds: float) -> int:
    """Write down when it begins and ends."""
    with Path(file).open("ab", buffering=0) as out:
        out.write(f"+{number} {os.getpid()}\n".encode())
        time.sleep(seconds)
        out.write(f"-{number} {os.getpid()}\n".encode())
    return number

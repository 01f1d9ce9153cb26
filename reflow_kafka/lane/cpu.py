"""CPU time as the kernel counts it: what `pace` decides by."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def cpu_used_and_missed() -> tuple[float, float]:
    """CPU seconds that this process has used; and that this thread waited for while others had the processor.

    A process that does not get what it wants is as busy as one that does. Only Linux tells; elsewhere a
    machine that is shared looks quieter than it is. Takes some 10 µs.
    """
    try:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:
            missed = int(file.read(100).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        missed = 0.0
    return time.process_time(), missed


class Metered(Generic[T]):
    """Awaits a coroutine and adds up the CPU seconds of its own steps, whatever runs in between."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.cpu = 0.0
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        send, throw = self._coroutine.send, self._coroutine.throw
        error: BaseException | None = None
        while True:
            began = time.thread_time()
            try:
                waits_for = send(None) if error is None else throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.cpu += time.thread_time() - began
            try:
                error = None
                yield waits_for
            except BaseException as thrown:  # cancelled, for example: that is for the coroutine to handle
                error = thrown

"""Starting a measured program, and what it costs as seen from outside."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.job import Job

ROOT = Path(__file__).parent.parent
_GRACE = 15.0
_PR_SET_PDEATHSIG = 1


class Worker:
    """A program under measurement; it never outlives this one."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = list(command)
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self.started = 0.0
        """`time.perf_counter()` just before it was started."""

    def __enter__(self) -> Self:
        self.started = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """``kill -9``."""
        self._process.kill()

    @property
    def running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def cpu(self) -> float:
        """CPU seconds since its start, those of all its threads."""
        return cpu_seconds(self._process.pid)

    def peak_memory(self) -> float:
        """The most memory it ever had resident, MB."""
        with suppress(OSError):
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                return int(found[1]) / 1024
        return psutil.Process(self._process.pid).memory_info().rss / 2**20

    def tree_cpu(self) -> float:
        """CPU seconds of it and all its processes that live."""
        return sum(cpu_seconds(process.pid) for process in self._tree())

    def tree_memory(self) -> int:
        """Bytes resident, of it and all its processes."""
        return sum(process.memory_info().rss for process in self._tree())

    def _tree(self) -> list[psutil.Process]:
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    def last_words(self, lines: int = 3) -> str:
        """The end of what it wrote."""
        told = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(told[-lines:])


@dataclass(frozen=True)
class Crew:
    """Engines that work together, seen as one worker."""

    workers: Sequence[Worker]

    @property
    def running(self) -> bool:
        """Whether none has ended by itself."""
        return all(worker.running for worker in self.workers)

    def cpu(self) -> float:
        """CPU seconds of all."""
        return sum(worker.cpu() for worker in self.workers)

    def peak_memory(self) -> float:
        """Of the largest, MB."""
        return max(worker.peak_memory() for worker in self.workers)

    def last_words(self) -> str:
        """Of those that said something."""
        return " || ".join(filter(None, (worker.last_words() for worker in self.workers)))


def growing(stack: ExitStack, job: Job, engines: int, logs: Path) -> Crew:
    """Engines of `workers.growing`, each with a folder of its own in the job's; the stack ends them."""
    workers = []
    for number in range(engines):
        own = replace(job, directory=str(Path(job.directory, str(number))))
        command = python("benchmarks.workers.growing", *own.arguments())
        workers.append(stack.enter_context(Worker(command, logs / f"worker-{number}.log")))
    return Crew(workers)


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process since its start."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def python(*arguments: str, interpreter: str | os.PathLike[str] = sys.executable) -> list[str]:
    """A command that runs a module of this package."""
    return [os.fspath(interpreter), "-m", *arguments]

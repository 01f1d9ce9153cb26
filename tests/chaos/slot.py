"""The place of one worker, as a machine has it: its process, its disk, and somebody who starts it again."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from reflow_kafka.killpoint import VARIABLE
from tests.chaos.volume import Volume
from tests.support.workers import Worker, Workers

STOP = 40.0
"""Seconds that a worker may take to stop: its own limit, and what a busy machine adds."""
KILLED = -9
NO_BROKER = 3
UNPREPARED = -15
"""What TERM does to a process that has not opened anything yet."""


class Slot:
    """Starts the worker again when it ends, and says what was wrong with that."""

    def __init__(self, workers: Workers, number: int, folder: Path, options: tuple[str, ...]) -> None:
        self.number = number
        self.volume = Volume(folder)
        self.ended: Counter[str] = Counter()
        """How its processes have ended."""
        self.wrong: list[str] = []
        self.worker: Worker | None = None
        self._workers = workers
        self._options = options
        self._paused = False
        self._point = ""
        self._spoiled = False
        self._leaving: float | None = None
        self._again = True

    @property
    def data_dir(self) -> Path:
        """Local state."""
        return self.volume.folder / "data"

    def start(self, point: str = "") -> None:
        """Start the worker; with `point` it dies there."""
        env = {VARIABLE: point} if point else {}
        self._point, self._leaving, self._again, self._spoiled = point, None, True, False
        self.worker = self._workers.start("campaign", *self._options, data_dir=self.data_dir, **env)

    def kill(self) -> None:
        """``kill -9``; it stays down until `start`."""
        if self.worker is not None:
            self.worker.kill()
            self.ended["killed"] += 1
            self.worker, self._paused = None, False

    def pause(self) -> None:
        """SIGSTOP."""
        if self.worker is not None:
            self.worker.pause()
            self._paused = True

    def resume(self) -> None:
        """SIGCONT."""
        if self.worker is not None and self._paused:
            self.worker.resume()
            self._paused = False

    def leave(self, *, again: bool) -> None:
        """SIGTERM; with `again` it is started when it is gone."""
        self._again = again
        if self.worker is not None and self._leaving is None:
            self._leaving = time.monotonic()
            self.worker.terminate()

    def spoil(self) -> None:
        """Its disk is made unusable: from now on it may end with an error."""
        self._spoiled = True

    def keep(self, *, trouble: bool) -> None:
        """Look after it: start what has ended; with `trouble` the brokers are, or were, out of reach."""
        if self.worker is None:
            return
        code = self.worker.ended()
        if code is None:
            if self._leaving is not None and time.monotonic() - self._leaving > STOP:
                self.wrong.append(
                    f"worker {self.number} did not stop in {STOP:g} s\n{self.worker.last_words()}"
                )
                self.kill()
                self.start()
            return
        how = self._judge(code, trouble)
        self.ended[how or f"code {code}"] += 1
        if how is None:
            self.wrong.append(
                f"worker {self.number} ended with code {code}{' when told to' if self._leaving else ''}\n"
                f"{self.worker.last_words()}"
            )
        self.worker = None
        if self._again:
            self.start()

    def _judge(self, code: int, trouble: bool) -> str | None:
        """How it ended, None if it should not have."""
        if code == KILLED and self._point:
            return f"died at {self._point.partition(':')[0]}"
        if code == 0 and self._leaving is not None:
            return "stopped"
        if code == UNPREPARED and self.worker is not None and not self.worker.take_overs():
            return "stopped before it began"
        if code == NO_BROKER and trouble:
            return "found no broker"
        if code == 1 and self._spoiled:
            return "disk failed"
        return None

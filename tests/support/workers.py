"""Workers as a user starts them: processes of `reflow-kafka worker`, each with a log file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FLOWS = Path(__file__).parent / "flows"
_RUNNING = re.compile(r"running \(taken over in [\d.]+ s, (\d+) changelog records read")
_STANDING_BY = re.compile(r"standing by \(copied in [\d.]+ s, (\d+) changelog records read")


class TakeOver:
    """One line of a log that says a lane runs."""

    def __init__(self, lane: int, restored: int, time: str) -> None:
        self.lane = lane
        self.restored = restored
        self.time = time
        """ISO 8601, so that text compares like time."""


class Worker:
    """One process; what it logs goes to a file."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        self._may_end = False
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended.

        Raises:
            AssertionError: it has ended, and nobody wanted it to.
        """
        code = self._process.poll()
        assert code is None or self._may_end, f"ended by itself with code {code}\n{self.last_words()}"
        return code is None

    def kill(self) -> None:
        """``kill -9``, and see it gone."""
        self._may_end = True
        self._process.kill()
        self._process.wait(10)

    def ended(self) -> int | None:
        """Its exit code if it has ended, for those who look after it themselves."""
        self._may_end = True
        return self._process.poll()

    def terminate(self) -> None:
        """TERM."""
        self._process.terminate()

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def wait(self, seconds: float) -> int:
        """Its exit code, once it has ended by itself."""
        self._may_end = True
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s\n{self.last_words()}") from None

    def stop(self, seconds: float = 40) -> int:
        """TERM, and its exit code."""
        self._process.terminate()
        return self.wait(seconds)

    def children(self) -> list[int]:
        """Process ids of the engines of a supervisor."""
        tasks = Path(f"/proc/{self.pid}/task")
        try:
            return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
        except FileNotFoundError:
            return []

    def memory(self, field: str = "VmRSS") -> int:
        """Bytes of memory as /proc has it."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found, f"no {field} of process {self.pid}"
        return int(found[1]) * 1024

    # --- what it says

    def lines(self) -> Iterator[dict[str, Any]]:
        """The log lines so far."""
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    yield json.loads(line)
                except ValueError:  # cut off by a kill
                    continue

    def take_overs(self, since: str = "") -> list[TakeOver]:
        """Lanes that were taken over, in that order."""
        return [
            TakeOver(line["lane"], int(found[1]), line["time"])
            for line in self.lines()
            if line["time"] >= since and (found := _RUNNING.search(line["message"]))
        ]

    def copies(self, since: str = "") -> list[TakeOver]:
        """Lanes of others whose state was copied, and records read for that."""
        return [
            TakeOver(line["lane"], int(found[1]), line["time"])
            for line in self.lines()
            if line["time"] >= since and (found := _STANDING_BY.search(line["message"]))
        ]

    def lanes(self, since: str = "") -> set[int]:
        """Lanes that were taken over (and may have moved on)."""
        return {one.lane for one in self.take_overs(since)}

    def warnings(self, since: str = "") -> list[str]:
        """What it complained about."""
        return [
            line["message"]
            for line in self.lines()
            if line["level"] not in ("info", "debug") and line["time"] >= since
        ]

    def last_words(self, lines: int = 30) -> str:
        """The end of its log."""
        return f"--- {self.log.name} ---\n" + "\n".join(self.log.read_text().splitlines()[-lines:])


class Workers:
    """Starts the workers of one test, and ends what is left of them.

    Args:
        folder: where logs, and data unless a worker is given another directory, are kept.
        flow: name of the flow, and prefix of its topics.
        bootstrap: Kafka's address; None = the embedded log.
    """

    def __init__(self, folder: Path, flow: str, bootstrap: str | None = None) -> None:
        self.data_dir = folder / "data"
        self._folder = folder
        self._flow = flow
        self._bootstrap = bootstrap
        self.all: list[Worker] = []
        """Everyone ever started."""

    def start(self, target: str, *options: str, data_dir: Path | None = None, **env: str) -> Worker:
        """Start a worker for ``flows/<target>.py``."""
        return self.start_file(FLOWS / f"{target}.py", *options, data_dir=data_dir, **env)

    def start_file(self, file: Path, *options: str, data_dir: Path | None = None, **env: str) -> Worker:
        """Start a worker for the flow of a file."""
        log = ["--log-format", "json", "--data-dir", str(data_dir or self.data_dir)]
        where = ["--bootstrap", self._bootstrap] if self._bootstrap is not None else []
        worker = Worker(
            [
                sys.executable,
                "-m",
                "reflow_kafka",
                "worker",
                f"{file}:flow",
                *log,
                *where,
                *options,
            ],
            {**_environment(), "FLOW_NAME": self._flow, **env},
            self._folder / f"worker-{len(self.all)}.log",
        )
        self.all.append(worker)
        return worker

    def owners(self) -> dict[int, Worker]:
        """Who took over each lane last."""
        order = sorted((one.time, one.lane, n) for n, w in enumerate(self.all) for one in w.take_overs())
        return {lane: self.all[number] for _, lane, number in order}

    def shares(self) -> list[int]:
        """How many lanes each worker has that lives, the smallest first."""
        owners = list(self.owners().values())
        return sorted(owners.count(worker) for worker in self.all if worker.alive)

    def take_overs(self, since: str = "") -> Counter[int]:
        """How often each lane was taken over by anyone."""
        return Counter(one.lane for worker in self.all for one in worker.take_overs(since))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.all:
            worker.kill()
            if error is not None:
                print(worker.last_words())


def _environment() -> dict[str, str]:
    """This process's, without settings for workers that a developer may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("REFLOW_")}

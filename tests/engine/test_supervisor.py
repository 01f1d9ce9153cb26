"""Several engines on one machine: restarted, stopped and ended together. Real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import alive
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).with_name("supervise.py")


class Supervised:
    """A running supervisor, and what its children wrote down."""

    def __init__(self, folder: Path, engines: int, timeout: float, how: tuple[str, ...]) -> None:
        self.folder = folder
        command = [sys.executable, str(DRIVER), str(folder), str(engines), str(timeout), *how]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)

    def starts(self, number: int) -> list[dict[str, Any]]:
        file = self.folder / f"starts-{number}"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def await_starts(self, *counts: int) -> None:
        wait_until(
            lambda: all(len(self.starts(number)) >= count for number, count in enumerate(counts)),
            30, f"{counts} starts", every=0.02,
        )  # fmt: skip

    def ends(self, within: float = 30) -> int:
        return self.process.wait(within)

    def said(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()


Supervise = Callable[..., Supervised]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Starts a supervisor over children that do what `todo` says: by number, number and start, or ``all``."""
    running: list[Supervised] = []

    def start(todo: dict[str, str], *how: str, engines: int = 2, timeout: float = 10) -> Supervised:
        for name, what in todo.items():
            (tmp_path / name).write_text(what)
        running.append(Supervised(tmp_path, engines, timeout, how))
        return running[-1]

    yield start
    for supervised in running:
        supervised.process.kill()
        supervised.process.wait()
        assert supervised.process.stderr is not None
        supervised.process.stderr.close()


def test_ends_when_all_have_reached_the_end(supervise: Supervise) -> None:
    supervised = supervise({"all": "exit 0"}, "until-end", engines=3)
    assert supervised.ends() == 0
    assert [len(supervised.starts(n)) for n in range(3)] == [1, 1, 1]


def test_each_engine_has_an_identity_of_its_own(supervise: Supervise) -> None:
    supervised = supervise({"all": "exit 0"}, "until-end")
    assert supervised.ends() == 0
    first, second = supervised.starts(0)[0], supervised.starts(1)[0]
    assert first["instance"] != second["instance"]
    assert first["instance"][:-1] == second["instance"][:-1]
    assert first["started"] == second["started"]


@pytest.mark.parametrize("crash", ["exit 1", "kill 9"])
def test_a_crashed_engine_comes_back_as_itself(supervise: Supervise, crash: str) -> None:
    supervised = supervise({"all": "exit 0", "0-1": crash, "0-2": crash}, "until-end")
    assert supervised.ends() == 0
    starts = supervised.starts(0)
    assert len(starts) == 3
    assert len({start["pid"] for start in starts}) == 3
    assert len({(start["instance"], start["started"]) for start in starts}) == 1
    assert len(supervised.starts(1)) == 1
    how = "was killed by SIGKILL" if crash == "kill 9" else "ended with code 1"
    said = supervised.said()
    assert f"engine 0 {how}, it is started again in 0.5 s" in said
    assert f"engine 0 {how}, it is started again in 1 s" in said


@pytest.mark.parametrize("code", [2, 3, 4])
def test_what_no_restart_changes_stops_all(supervise: Supervise, code: int) -> None:
    supervised = supervise({"0": f"exit {code}", "1": "stop"})
    assert supervised.ends() == code
    assert len(supervised.starts(0)) == 1
    assert not any(alive(start["pid"]) for start in supervised.starts(1))


def test_a_broker_that_is_gone_later_is_waited_for(supervise: Supervise) -> None:
    supervised = supervise({"all": "exit 0", "0-1": "exit 1", "0-2": "exit 3"}, "until-end")
    assert supervised.ends() == 0
    assert len(supervised.starts(0)) == 3


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_engine_once(supervise: Supervise, sent: signal.Signals) -> None:
    supervised = supervise({"all": "stop"})
    supervised.await_starts(1, 1)
    # To the whole group, as a terminal does at Ctrl-C.
    os.killpg(supervised.process.pid, sent)
    assert supervised.ends() == 0
    assert [(supervised.folder / f"terms-{n}").read_text() for n in range(2)] == ["1", "1"]


def test_a_second_signal_is_passed_on(supervise: Supervise) -> None:
    supervised = supervise({"all": "twice"})
    supervised.await_starts(1, 1)
    supervised.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert supervised.process.poll() is None
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.ends(4) == 1


def test_nothing_is_restarted_after_a_signal(supervise: Supervise) -> None:
    supervised = supervise({"0": "exit 1", "1": "stop"})
    supervised.await_starts(3, 1)
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.ends() in (0, 1)  # 1: the signal came before it had crashed again
    before = len(supervised.starts(0))
    time.sleep(0.2)
    assert len(supervised.starts(0)) == before


def test_an_engine_that_does_not_stop_is_killed(supervise: Supervise) -> None:
    supervised = supervise({"0": "deaf", "1": "stop"}, timeout=0.2)
    supervised.await_starts(1, 1)
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.ends() == 1
    assert not alive(supervised.starts(0)[0]["pid"])
    assert "engine 0 did not stop in time and is killed" in supervised.said()


def test_engines_die_with_a_killed_supervisor(supervise: Supervise) -> None:
    supervised = supervise({"all": "deaf"})
    supervised.await_starts(1, 1)
    supervised.process.kill()
    pids = [supervised.starts(n)[0]["pid"] for n in range(2)]
    wait_until(lambda: not any(map(alive, pids)), 5, "the engines to die")


def test_changed_code_starts_all_anew_as_a_newer_plan(supervise: Supervise) -> None:
    supervised = supervise({"all": "stop"}, "reload")
    supervised.await_starts(1, 1)
    (supervised.folder / "changed").touch()
    supervised.await_starts(2, 2)
    for number in range(2):
        before, after = supervised.starts(number)
        assert not alive(before["pid"])
        assert after["started"] > before["started"]
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.ends() == 0


def test_broken_code_waits_for_its_correction(supervise: Supervise) -> None:
    supervised = supervise({"all": "exit 2"}, "reload", engines=1)
    supervised.await_starts(1)
    time.sleep(0.7)
    assert len(supervised.starts(0)) == 1
    (supervised.folder / "all").write_text("stop")
    (supervised.folder / "changed").touch()
    supervised.await_starts(2)
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.ends() == 0

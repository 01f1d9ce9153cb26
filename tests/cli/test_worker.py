"""`worker`, from the first event to the last line: run to the end, run until told to stop, run several."""

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

import psutil
import pytest

from tests.cli.conftest import Cli, Command
from tests.support.processes import alive
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def log(request: pytest.FixtureRequest, folder: Path, unique: str) -> list[str]:
    """The options that choose the log; the flow in `copying.py` has names of this test alone."""
    rename(folder / "copying.py", unique)
    if request.param == "embedded":
        return []
    return ["--bootstrap", request.getfixturevalue("kafka_bootstrap")]


@pytest.fixture
def kafka(folder: Path, unique: str, kafka_bootstrap: str) -> list[str]:
    """The same, always on Kafka."""
    rename(folder / "copying.py", unique)
    return ["--bootstrap", kafka_bootstrap]


def rename(file: Path, name: str) -> None:
    source = file.read_text().replace('Flow("copy"', f'Flow("{name}"')
    file.write_text(source.replace('topic="', f'topic="{name}-'))


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts a worker as a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def run(*args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "reflow_kafka", "worker", *args]
        running.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.communicate()


def numbers(count: int) -> str:
    return "".join(json.dumps({"n": n, "id": f"k{n % 10}"}) + "\n" for n in range(count))


def doubled(output: str) -> list[int]:
    return sorted(json.loads(line)["n"] for line in output.splitlines())


def logged(stderr: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines()]


def await_running(worker: subprocess.Popen[str]) -> None:
    """Returns when lane 1 has (again) been taken over."""
    assert worker.stderr is not None
    while line := worker.stderr.readline():
        if '"message":"running (' in line.replace(": ", ":") and '"lane":1' in line.replace(": ", ":"):
            return
    pytest.fail("the worker ended before a lane was running")


def edit_within_the_same_second(file: Path, old: str, new: str) -> None:
    """The hardest change to see for Python, which compares seconds and length with those of compiled code."""
    changed_at = file.stat().st_mtime
    file.write_text(file.read_text().replace(old, new))
    os.utime(file, (changed_at, changed_at))


def living(supervisor: psutil.Process) -> list[psutil.Process]:
    return [engine for engine in supervisor.children() if alive(engine.pid)]


def await_doubles(cli: Cli, topic: str, log: list[str], count: int) -> list[int]:
    deadline = time.monotonic() + 30
    while True:
        result = cli("consume", topic, *log)
        if result.exit_code == 0 and len(found := doubled(result.stdout)) >= count:
            return found
        assert time.monotonic() < deadline, result.output
        time.sleep(0.1)


def test_produce_run_consume(cli: Cli, command: Command, log: list[str], unique: str) -> None:
    made = cli("produce", f"{unique}-numbers", *log, "--key", "id", "--create", "2", input=numbers(1000))
    assert made.exit_code == 0
    result = command("worker", "copying.py", *log, "--until-end", timeout=60)
    assert (result.returncode, result.stdout) == (0, "")
    lines = logged(result.stderr)
    assert lines[0]["message"] == "starting"
    assert lines[0]["flow"] == unique
    assert lines[-1]["dead_letters"] == 0
    assert lines[-1]["stages"]["twice"] == 1000
    assert doubled(cli("consume", f"{unique}-doubles", *log).stdout) == [2 * n for n in range(1000)]
    # Nothing is left to do, and nothing is done twice.
    assert command("worker", "copying.py", *log, "--until-end", timeout=60).returncode == 0
    assert len(cli("consume", f"{unique}-doubles", *log).stdout.splitlines()) == 1000


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_good_order(
    cli: Cli, start: Start, log: list[str], unique: str, sent: signal.Signals
) -> None:
    assert cli("produce", f"{unique}-numbers", *log, "--create", "2", input=numbers(100)).exit_code == 0
    worker = start("copying.py", *log)
    await_running(worker)
    assert await_doubles(cli, f"{unique}-doubles", log, 100) == [2 * n for n in range(100)]
    worker.send_signal(sent)
    _, stderr = worker.communicate(timeout=25)
    assert worker.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert logged(stderr)[-1]["stages"]["twice"] == 100


def test_others_reach_the_log_of_a_running_worker(cli: Cli, start: Start, folder: Path) -> None:
    worker = start("copying.py")
    await_running(worker)
    assert cli("produce", "numbers", input=numbers(1)).exit_code == 0
    assert await_doubles(cli, "doubles", [], 1) == [0]
    assert worker.poll() is None
    second = cli("worker", "copying.py")
    assert second.exit_code == 2
    assert f"in use by process {worker.pid}" in second.stderr


@pytest.mark.parametrize("seconds", ["30", "0.1"])
def test_a_handler_that_blocks_does_not_hold_up_the_end(
    cli: Cli, start: Start, folder: Path, seconds: str
) -> None:
    """With a time limit, or told twice and then once more."""
    blocking = 'import time\n    print("blocked", flush=True)\n    time.sleep(60)\n    return number'
    source = (folder / "copying.py").read_text().replace('return {**number, "n": 2 * number["n"]}', blocking)
    (folder / "copying.py").write_text(source)
    assert cli("produce", "numbers", "--create", "2", input=numbers(1)).exit_code == 0
    command = [sys.executable, "-m", "reflow_kafka", "worker", "copying.py", "--shutdown-timeout", seconds]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"blocked\n"
        begun = time.monotonic()
        for _ in range(3 if seconds == "30" else 1):
            worker.terminate()
            time.sleep(0.1)
        worker.wait(10)
        assert time.monotonic() - begun < 5
        assert worker.returncode == (-signal.SIGTERM if seconds == "30" else 1)


def test_a_second_signal_ends_it_at_once(cli: Cli, start: Start, folder: Path) -> None:
    """An asynchronous handler that waits for something is dropped, and its event is there after a restart."""
    source = (folder / "copying.py").read_text().replace("def twice", "async def twice")
    slow = source.replace("    return", "    import asyncio; await asyncio.sleep(60)\n    return")
    (folder / "slow.py").write_text(slow)
    (folder / "copying.py").write_text(source)
    assert cli("produce", "numbers", "--create", "2", input=numbers(1)).exit_code == 0
    worker = start("slow.py")
    await_running(worker)
    time.sleep(0.3)
    begun = time.monotonic()
    worker.terminate()
    time.sleep(0.3)
    assert worker.poll() is None
    worker.terminate()
    _, stderr = worker.communicate(timeout=10)
    assert time.monotonic() - begun < 5
    assert worker.returncode == 1
    assert stderr.endswith("aborted\n")
    assert "Traceback" not in stderr
    assert cli("consume", "doubles").stdout == ""
    assert start("copying.py", "--until-end").wait(20) == 0
    assert doubled(cli("consume", "doubles").stdout) == [0]


@pytest.mark.kafka
@pytest.mark.slow
def test_two_engines_to_the_end(cli: Cli, command: Command, kafka: list[str], unique: str) -> None:
    made = cli("produce", f"{unique}-numbers", *kafka, "--create", "2", input=numbers(5000))
    assert made.exit_code == 0
    result = command("worker", "copying.py", *kafka, "--engines", "2", "--until-end", timeout=90)
    assert result.returncode == 0, result.stderr
    assert doubled(cli("consume", f"{unique}-doubles", *kafka).stdout) == [2 * n for n in range(5000)]
    assert {line.get("engine") for line in logged(result.stderr)} >= {"0", "1"}


@pytest.mark.kafka
@pytest.mark.slow
def test_a_killed_engine_is_replaced(cli: Cli, start: Start, kafka: list[str], unique: str) -> None:
    topic, doubles = f"{unique}-numbers", f"{unique}-doubles"
    assert cli("produce", topic, *kafka, "--create", "2", input=numbers(100)).exit_code == 0
    worker = start("copying.py", *kafka, "--engines", "2")
    supervisor = psutil.Process(worker.pid)
    await_doubles(cli, doubles, kafka, 100)
    before = supervisor.children()
    before[0].kill()
    assert cli("produce", topic, *kafka, input=numbers(100)).exit_code == 0
    assert await_doubles(cli, doubles, kafka, 200) == sorted([2 * n for n in range(100)] * 2)
    wait_until(lambda: len(living(supervisor)) == 2, 10, "two engines again")
    assert before[0] not in living(supervisor)
    assert before[1] in living(supervisor)
    worker.terminate()
    _, stderr = worker.communicate(timeout=35)
    assert worker.returncode == 0, stderr
    assert "was killed by SIGKILL, it is started again in 0.5 s" in stderr


def test_changed_code_is_loaded(
    cli: Cli, start: Start, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    worker = start("copying.py", "--reload")
    await_running(worker)
    assert cli("produce", "numbers", input=numbers(1)).exit_code == 0
    assert await_doubles(cli, "doubles", [], 1) == [0]
    edit_within_the_same_second(folder / "copying.py", '2 * number["n"]', '7 + number["n"]')
    await_running(worker)
    assert cli("produce", "numbers", input=numbers(1)).exit_code == 0
    assert await_doubles(cli, "doubles", [], 2) == [0, 7]
    worker.terminate()
    assert worker.wait(10) == 0


def test_reload_says_what_it_needs(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    result = cli("worker", "copying.py", "--reload")
    assert result.exit_code == 2
    assert result.stderr == "error: --reload needs watchfiles: pip install 'reflow-kafka[reload]'\n"

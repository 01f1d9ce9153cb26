"""Processes that die, calls that take too long, and what becomes of everybody else's calls."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from reflow_kafka import FlowStopped
from reflow_kafka.errors import ProcessDied
from reflow_kafka.lane.processes import pool as pool_module
from reflow_kafka.lane.processes import start as start_module
from reflow_kafka.lane.processes.job import Job
from reflow_kafka.lane.processes.pool import Processes
from tests.lane.processes import work
from tests.support.processes import alive
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(60)

SAME = Job.of("same", work.same)
WAITS = Job.of("waits", work.waits_for)


@asynccontextmanager
async def processes(count: int) -> AsyncIterator[Processes]:
    pool = Processes(count)
    try:
        yield pool
    finally:
        await pool.close(5)


async def begun(file: Path) -> int:
    """The process in which the call that waits for this file has begun."""
    mark = Path(f"{file}.began")
    pid = 0

    def has_begun() -> bool:
        nonlocal pid
        pid = int((mark.exists() and mark.read_text()) or 0)
        return pid > 0

    await until(has_begun, f"{mark} to begin")
    return pid


def waiting(pool: Processes, file: Path) -> asyncio.Task[str]:
    return asyncio.create_task(pool.call(WAITS, (str(file),)))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("kill", "was ended by SIGKILL during the call"),
        ("exit", "ended with exit code 3 during the call"),
        ("segfault", "was ended by SIGSEGV during the call"),
        ("grandchild", "ended with exit code 4 during the call"),
    ],
)
async def test_only_the_call_that_ran_fails(how: str, message: str) -> None:
    async with processes(1) as pool:
        await pool.call(SAME, (0,))
        dying = asyncio.create_task(pool.call(Job.of("stage", work.dies), (how,)))
        others = [asyncio.create_task(pool.call(SAME, (n,))) for n in range(200)]
        with pytest.raises(ProcessDied, match=f"stage 'stage': process .* {message}"):
            await dying
        assert await asyncio.gather(*others) == list(range(200))


@pytest.mark.slow
async def test_a_call_that_kills_every_process_does_not_stop_the_flow() -> None:
    async with processes(1) as pool:
        for _ in range(pool_module.MAX_DEATHS + 2):
            with pytest.raises(ProcessDied):
                await pool.call(Job.of("stage", work.dies), ("exit",))
        assert await pool.call(SAME, (1,)) == 1


async def test_others_are_not_disturbed(tmp_path: Path) -> None:
    async with processes(2) as pool:
        one, other = waiting(pool, tmp_path / "one"), waiting(pool, tmp_path / "other")
        pid = await begun(tmp_path / "one")
        await begun(tmp_path / "other")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ProcessDied, match="SIGKILL"):
            await one
        assert await pool.call(SAME, (1,)) == 1, "there is a new one"
        (tmp_path / "other").touch()
        assert await other == str(tmp_path / "other")


async def test_an_idle_process_that_is_killed_is_replaced_unnoticed() -> None:
    async with processes(1) as pool:
        pid = await pool.call(Job.of("s", work.pid), ())
        os.kill(pid, signal.SIGKILL)
        values = await asyncio.gather(*(pool.call(SAME, (n,)) for n in range(50)))
        assert values == list(range(50))
        assert pool.pids != [pid]


async def test_giving_up_a_running_call_kills_its_process_and_nothing_else(tmp_path: Path) -> None:
    async with processes(1) as pool:
        await pool.call(SAME, (0,))
        hanging = waiting(pool, tmp_path / "never")
        pid = await begun(tmp_path / "never")
        others = [asyncio.create_task(pool.call(SAME, (n,))) for n in range(100)]
        await asyncio.sleep(0)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert await asyncio.gather(*others) == list(range(100))
        assert not alive(pid)


async def test_a_call_given_up_before_it_begins_never_does(tmp_path: Path) -> None:
    async with processes(1) as pool:
        job = Job.of("noted", work.noted)
        notes = str(tmp_path / "notes")
        assert await asyncio.gather(*(pool.call(job, (notes, n, 0)) for n in range(20)))  # known to be fast
        first = waiting(pool, tmp_path / "first")
        await begun(tmp_path / "first")
        behind = [asyncio.create_task(pool.call(job, (notes, 100 + n, 0))) for n in range(4)]
        await asyncio.sleep(0.01)
        behind[0].cancel()
        behind[2].cancel()
        await asyncio.wait([behind[0], behind[2]])
        pid = pool.pids
        (tmp_path / "first").touch()
        await first
        assert await asyncio.gather(behind[1], behind[3]) == [101, 103]
        assert pool.pids == pid, "nothing had to be killed"
    lines = (tmp_path / "notes").read_text().split("\n")
    assert not [line for line in lines if line.startswith(("+100 ", "+102 "))]


async def test_a_call_that_runs_too_long(tmp_path: Path) -> None:
    async with processes(1) as pool:
        with pytest.raises(TimeoutError, match=r"stage 'waits': the call ran for more than 0.1 s"):
            await pool.call(WAITS, (str(tmp_path / "never"),), timeout=0.1)
        assert await pool.call(SAME, (1,), timeout=0.1) == 1


@pytest.mark.slow
async def test_waiting_and_loading_do_not_count_as_running(tmp_path: Path) -> None:
    async with processes(1) as pool:
        first = waiting(pool, tmp_path / "first")
        await begun(tmp_path / "first")
        second = asyncio.create_task(pool.call(Job.of("s", work.SlowLoading), (5,), timeout=0.3))
        await asyncio.sleep(0.4)
        (tmp_path / "first").touch()
        await first
        assert await second == 5


async def test_a_call_that_holds_the_interpreter_is_killed_all_the_same() -> None:
    async with processes(1) as pool:
        job = Job.of("stage", work.holds_all)
        await pool.call(job, (0.0,))
        with pytest.raises(TimeoutError):
            await pool.call(job, (30.0,), timeout=0.1)


@pytest.mark.slow
async def test_what_waits_behind_a_long_call_runs_elsewhere(tmp_path: Path) -> None:
    async with processes(2) as pool:
        job = Job.of("mixed", work.waits_for)
        (tmp_path / "there").touch()
        there = str(tmp_path / "there")
        await asyncio.gather(*(pool.call(job, (there,)) for _ in range(100)))  # known to be fast
        slow = asyncio.create_task(pool.call(job, (str(tmp_path / "slow"),)))
        fast = [asyncio.create_task(pool.call(job, (there,))) for _ in range(50)]
        async with asyncio.timeout(10):
            assert await asyncio.gather(*fast) == [there] * 50
        assert not slow.done()
        (tmp_path / "slow").touch()
        await slow


@pytest.mark.slow
async def test_processes_that_die_at_once_are_replaced_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    boot = start_module._BOOT
    monkeypatch.setattr(start_module, "_BOOT", "import os; os._exit(7)")
    monkeypatch.setattr(pool_module, "BACKOFF", (0.01, 0.02))
    async with processes(2) as pool:
        with pytest.raises(FlowStopped, match=r"'same' cannot run in a process: .* exit code 7 before it"):
            await pool.call(SAME, (1,))
        waits = [m.rpartition("in ")[2] for m in caplog.messages if "exit code 7" in m]
        assert waits == ["0.0 s"] * 5
        monkeypatch.setattr(start_module, "_BOOT", boot)
        assert await pool.call(SAME, (1,)) == 1


@pytest.mark.slow
async def test_a_handler_that_kills_processes_when_it_is_loaded_stops_the_flow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_module, "BACKOFF", (0.01, 0.02))
    async with processes(1) as pool:
        with pytest.raises(FlowStopped, match=r"'deadly' cannot run in a process: .* exit code 9"):
            await pool.call(Job.of("deadly", work.DeadlyLoading), (1,))
        assert await pool.call(SAME, (1,)) == 1


async def test_processes_ignore_what_a_terminal_or_supervisor_sends(tmp_path: Path) -> None:
    async with processes(1) as pool:
        running = waiting(pool, tmp_path / "file")
        pid = await begun(tmp_path / "file")
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        (tmp_path / "file").touch()
        assert await running
        assert pool.pids == [pid]


@pytest.mark.slow
async def test_closing_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    pool = Processes(2)
    tasks = [waiting(pool, tmp_path / name) for name in ("a", "b", "c")]
    await begun(tmp_path / "a")
    pids = pool.pids
    async with asyncio.timeout(10):
        await pool.close(0.05)
    assert not any(map(alive, pids))
    for task in tasks:
        with pytest.raises(RuntimeError, match="closed"):
            await task
    with pytest.raises(RuntimeError, match="closed"):
        await pool.call(SAME, (1,))
    await pool.close(0.05)


@pytest.mark.slow
async def test_closing_lets_a_running_call_end(tmp_path: Path) -> None:
    pool = Processes(1)
    task = waiting(pool, tmp_path / "a")
    await begun(tmp_path / "a")
    closing = asyncio.create_task(pool.close(20))
    await asyncio.sleep(0.01)
    (tmp_path / "a").touch()
    assert await task
    await closing


ENGINE = """
import asyncio, sys
from reflow_kafka.lane.processes.job import Job
from reflow_kafka.lane.processes.pool import Processes
from tests.lane.processes import work
from tests.support.processes import alive
from tests.support.waiting import until

async def main():
    pool = Processes(2)
    job = Job.of("waits", work.waits_for)
    tasks = [asyncio.create_task(pool.call(job, (f"{sys.argv[1]}/{n}",))) for n in range(2)]
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_processes_die_with_an_engine_that_is_killed(tmp_path: Path) -> None:
    engine = await asyncio.create_subprocess_exec(sys.executable, "-c", ENGINE, str(tmp_path))
    try:
        pids = [await begun(tmp_path / "0"), await begun(tmp_path / "1")]
    finally:
        engine.kill()
        await engine.wait()
    await until(lambda: not any(map(alive, pids)), "the processes to die")


@pytest.mark.slow
def test_on_uvloop(tmp_path: Path) -> None:
    async def main() -> None:
        pool = Processes(2)
        assert await asyncio.gather(*(pool.call(SAME, (n,)) for n in range(100))) == list(range(100))
        with pytest.raises(ProcessDied):
            await pool.call(Job.of("stage", work.dies), ("exit",))
        with pytest.raises(TimeoutError):
            await pool.call(WAITS, (str(tmp_path / "never"),), timeout=0.1)
        assert await pool.call(SAME, (1,)) == 1
        await pool.close(5)
        assert pool.pids == []

    uvloop.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_whatever_dies_every_other_call_ends_and_none_runs_twice_at_once(
    seed: int, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    job = Job.of("noted", work.noted)
    notes = tmp_path / "notes"
    pool = Processes(2)

    async def one(number: int) -> None:
        """As a worker does it: what failed through no fault of its own is tried again."""
        pause = dice.choice((0, 0, 0, 0.002, 0.05))
        limit = dice.choice((None, None, 0.02)) if pause == 0.05 else None
        while True:
            try:
                assert await pool.call(job, (str(notes), number, pause), timeout=limit) == number
                return
            except ProcessDied:
                continue
            except TimeoutError:
                assert limit is not None
                return

    async def kill() -> None:
        for _ in range(10):
            await asyncio.sleep(dice.uniform(0, 0.1))
            if pool.pids:
                os.kill(dice.choice(pool.pids), signal.SIGKILL)

    tasks = [asyncio.create_task(one(n)) for n in range(300)]
    killing = asyncio.create_task(kill())
    async with asyncio.timeout(40):
        for _ in range(20):
            await asyncio.sleep(0.02)
            dice.choice(tasks).cancel()
        await killing
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [o for o in outcomes if o is not None and not isinstance(o, asyncio.CancelledError)] == []
    await pool.close(5)

    running: dict[str, str] = {}  # call → process it runs in
    for line in notes.read_text().splitlines():
        number, pid = line[1:].split()
        if line[0] == "+":
            assert number not in running or not alive(int(running[number]))
            assert running.get(number) != pid, "the same call twice in one process"
            running[number] = pid
        else:
            assert running.pop(number) == pid

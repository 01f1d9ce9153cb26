"""What a call in another process gives back."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from reflow_kafka import Context, DefinitionError, Event, FlowStopped, Reject, State
from reflow_kafka.event import INHERITED
from reflow_kafka.lane.processes.job import Job
from reflow_kafka.lane.processes.pool import Processes
from reflow_kafka.load import load
from tests.lane.processes import work

pytestmark = pytest.mark.timeout(60)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Processes]:
    processes = Processes(1)
    yield processes
    await processes.close(10)
    assert processes.pids == []


async def test_arguments_and_results(pool: Processes) -> None:
    job = Job.of("stage", work.arguments)
    value = {"at": datetime(2026, 1, 1, tzinfo=UTC), "raw": b"\xff", "large": "x" * 1_000_000}
    assert await pool.call(job, (1, value), {"job": 2, "timeout": None}) == (
        (1, value),
        {"job": 2, "timeout": None},
    )
    assert await pool.call(Job.of("stage", work.pid), (1,)) != os.getpid()
    values = list(range(3000))
    assert await asyncio.gather(*(pool.call(Job.of("s", work.same), (v,)) for v in values)) == values


async def test_events_come_and_go(pool: Processes) -> None:
    event = await pool.call(Job.of("s", work.emits), (Event(1, key="k", timestamp=5, headers={"h": b"1"}),))
    assert (event.value, event.key, event.timestamp, event.headers) == (2, "k", 5, {"h": b"1"})
    event = await pool.call(Job.of("s", work.emits_new), (7,))
    assert (event.value, event.to) == (7, "big")
    assert event._key is INHERITED
    assert event._timestamp is INHERITED
    assert event._headers is INHERITED


async def test_the_context_goes_along_and_logs_here(
    pool: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    ctx = Context("flow", "stage", 3)
    ctx.key_bytes, ctx.timestamp, ctx._headers, ctx._topic, ctx._offset = b"k", 1000, (("h", b"1"),), "t", 9
    seen = await pool.call(Job.of("stage", work.where), (7,), {"ctx": ctx})
    assert seen == {"key": "k", "lane": 3, "time": ctx.time, "headers": {"h": b"1"}, "id": "t/3/9"}
    [record] = [r for r in caplog.records if r.getMessage() == "seen 7"]
    assert record.name == "reflow_kafka.flow.flow.stage"
    assert (vars(record)["lane"], vars(record)["stage"]) == (3, "stage")
    assert record.process != os.getpid()


async def test_logged_errors_arrive_with_their_traceback(
    pool: Processes, caplog: pytest.LogCaptureFixture
) -> None:
    await pool.call(Job.of("stage", work.breaks_and_logs), (1,))
    [record] = [r for r in caplog.records if r.name == "tests.work"]
    assert record.levelno == logging.ERROR
    assert "ValueError: logged" in record.getMessage()
    assert "Holder" in vars(record)["holder"]


async def test_errors_come_back_as_they_are_with_the_traceback_from_there(pool: Processes) -> None:
    job = Job.of("stage", work.fails)
    with pytest.raises(ValueError, match="bad") as caught:
        await pool.call(job, ("bad",))
    assert 'work.py", line' in str(caught.value.__cause__)
    assert "KeyError: 'cause'" in str(caught.value.__cause__)
    with pytest.raises(work.Fine) as fine:
        await pool.call(job, ("fine",))
    assert fine.value.code == 42
    with pytest.raises(Reject, match="bad"):
        await pool.call(job, ("reject",))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("odd", r"Odd: 1 and 2 \(a Odd cannot be sent between processes\)"),
        ("stop", r"stage 'stage' raised StopIteration\(7\)"),
        ("exit", r"stage 'stage' raised SystemExit\(3\)"),
    ],
)
async def test_errors_that_cannot_come_back(pool: Processes, how: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message) as caught:
        await pool.call(Job.of("stage", work.fails), (how,))
    assert 'work.py", line' in str(caught.value.__cause__)
    assert await pool.call(Job.of("s", work.same), (1,)) == 1, "it goes on"


async def test_what_cannot_be_sent_is_named(pool: Processes) -> None:
    with pytest.raises(TypeError, match=r"stage 'stage': argument 2, a Holder, cannot be sent"):
        await pool.call(Job.of("stage", work.arguments), (1, work.Holder()))
    with pytest.raises(TypeError, match=r"stage 'stage': pool, a Holder, cannot be sent"):
        await pool.call(Job.of("stage", work.arguments), (1,), {"pool": work.Holder()})
    with pytest.raises(TypeError, match=r"the result, a .*work\.Holder, cannot be sent"):
        await pool.call(Job.of("stage", work.unsendable), (1,))
    with pytest.raises(TypeError, match=r"the result, a .*work\.Holder, cannot be sent"):
        await pool.call(Job.of("stage", work.unsendable_word, collects=True), (1,))
    with pytest.raises(TypeError, match=r"the state, a dict, cannot be sent"):
        await pool.call(Job.of("stage", work.hold, returns_state=True), ({}, "x"))
    with pytest.raises(TypeError, match="cannot be rebuilt"):
        await pool.call(Job.of("stage", work.spiteful), (1,))
    with pytest.raises(ValueError, match="no number"):
        await pool.call(Job.of("stage", work.same), (work.Spiteful(),))
    assert await pool.call(Job.of("s", work.same), (1,)) == 1, "it goes on"


async def test_generators_are_collected(pool: Processes) -> None:
    job = Job.of("stage", work.words, collects=True)
    assert await pool.call(job, ("a b c",)) == ["a", "b", "c"]
    assert await pool.call(job, ("",)) == []
    with pytest.raises(ValueError, match="bad"):
        await pool.call(job, ("a bad",))


async def test_state_travels(pool: Processes) -> None:
    job = Job.of("stage", work.count, returns_state=True)
    state = {"a": 1}
    assert await pool.call(job, (state, "a"), {"ctx": Context()}) == (2, {"a": 2}, False)
    assert await pool.call(job, (state, "clear"), {"ctx": Context()}) == (0, None, True)
    with pytest.raises(ValueError, match="bad"):
        await pool.call(job, (state, "bad"), {"ctx": Context()})
    assert state == {"a": 1}, "what is here is changed by nobody"

    job = Job.of("stage", work.add, collects=True, returns_state=True)
    results, box, cleared = await pool.call(job, (State(1), 2))
    assert (results, box.value, cleared) == ([3], 3, False)
    assert await pool.call(job, (State(1), -1)) == ([], None, True)


async def test_a_class_is_built_once_per_process_and_closed(caplog: pytest.LogCaptureFixture) -> None:
    pool = Processes(1)
    for value in range(3):  # a job is known by what it is: every lane makes its own
        assert await pool.call(Job.of("stage", work.Machine), (value,)) == (1, 1, value)
    assert await pool.call(Job.of("other", work.Machine), (0,)) == (2, 1, 0)
    await pool.close(10)
    messages = [r.getMessage() for r in caplog.records if r.name == "tests.work"]
    assert messages == ["closed after 3 calls", "closed after 1 calls"]


async def test_a_handler_that_cannot_be_loaded_is_no_events_fault(pool: Processes) -> None:
    with pytest.raises(FlowStopped, match="'stage' cannot run in a process: ValueError: no model") as caught:
        await pool.check(Job.of("stage", work.NoLoading))
    assert "work.py" in str(caught.value.__cause__.__cause__)  # type: ignore[union-attr]
    with pytest.raises(FlowStopped, match="async open"):
        await pool.call(Job.of("stage", work.AsyncOpen), (1,))
    await pool.check(Job.of("stage", work.same))
    assert await pool.call(Job.of("stage", work.same), (1,)) == 1


def test_handlers_that_no_other_process_can_import() -> None:
    def local(value: int) -> int:
        return value

    for handler in (local, lambda value: value, work.Holder().lock.acquire):
        with pytest.raises(DefinitionError, match=r'stage \'stage\': run_in="process" found .*module'):
            Job.of("stage", handler)


async def test_a_flow_loaded_by_its_path(pool: Processes, tmp_path: object) -> None:
    from pathlib import Path

    # Named like a module that is there already, so it gets a name which only this process knows.
    file = Path(str(tmp_path)) / "work.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom reflow_kafka import Flow\nimport helper\n"
        "flow = Flow('f')\ns = flow.source('s', topic='t')\n"
        "@dataclass\nclass Reading:\n    value: int\n"
        "@flow.stage(after=s)\ndef double(reading: Reading):\n    return helper.twice(reading.value)\n"
    )
    (file.parent / "helper.py").write_text("def twice(value):\n    return 2 * value\n")
    flow = load(f"{file}:flow")
    stage = flow.spec().stage("double").handler
    assert stage is not None
    reading = stage.value_type(21)
    assert await pool.call(Job.of("double", stage.target), (reading,)) == 42

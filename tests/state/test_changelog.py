from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflow_kafka.errors import DataLoss, LogError, OffsetOutOfRange
from reflow_kafka.log.api import OutRecord, Record, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.changelog import Restored, RestoreProgress, restore
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.rocks import RocksBackend
from reflow_kafka.state.store import StateBackend, StoreMark

Pairs = Sequence[tuple[bytes | None, bytes | None]]
LANE = 1
ONE = {"one": "changelog-one"}
BOTH = {**ONE, "two": "changelog-two"}


def at(topic: str) -> TopicPartition:
    return TopicPartition(topic, LANE)


class Place:
    """A log with changelogs, a backend, and a clock."""

    def __init__(self, log: MemoryLog, backend: StateBackend) -> None:
        self.log = log
        self.backend = backend
        self.time = 1_000_000
        self.steps: list[RestoreProgress] = []

    async def write(self, topic: str, pairs: Pairs) -> int:
        """Append to a changelog; returns its end."""
        await self.log.publish(topic, LANE, [OutRecord(key, value, 0) for key, value in pairs])
        return await self.end(topic)

    async def end(self, topic: str) -> int:
        return (await self.log.end_offsets([at(topic)]))[at(topic)]

    async def restore(
        self,
        recorded: Mapping[str, int] | None,
        changelogs: Mapping[str, str] = ONE,
        incarnation: str = "here",
        **options: Any,
    ) -> Restored:
        return await restore(
            self.backend, options.pop("log", self.log), "flow", LANE, changelogs, incarnation, recorded,
            now=lambda: self.time, progress=self.steps.append, **options,
        )  # fmt: skip

    async def content(self, *args: Any, **options: Any) -> dict[str, dict[bytes, bytes]]:
        restored = await self.restore(*args, **options)
        content = {store: dict(restored.stores.scan(store)) for store in restored.records}
        restored.stores.close()
        return content


@pytest.fixture
async def log() -> AsyncIterator[MemoryLog]:
    log = MemoryLog()
    await log.start()
    await log.ensure_topics([TopicSpec(topic, 2, TopicKind.CHANGELOG) for topic in BOTH.values()])
    yield log
    await log.stop()


@pytest.fixture(params=["memory", "rocks"])
def place(request: pytest.FixtureRequest, log: MemoryLog, tmp_path: Path) -> Place:
    return Place(log, MemoryBackend() if request.param == "memory" else RocksBackend(tmp_path))


async def test_the_first_start_is_empty(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    restored = await place.restore(None, BOTH)
    assert restored.mark == StoreMark("here", {"one": 0, "two": 0}, place.time)
    assert restored.ends == {"changelog-one": 0, "changelog-two": 0}
    assert restored.stores.mark() == restored.mark
    assert restored.records == {"one": 0, "two": 0}
    assert "progress" not in caplog.text
    restored.stores.close()


async def test_a_lane_without_state_opens_nothing(place: Place) -> None:
    restored = await place.restore(None, {}, log=None)
    assert (restored.ends, restored.records, restored.reason) == ({}, {}, None)
    restored.stores.write({}, restored.mark)
    restored.stores.close()


async def test_a_full_restore_gives_the_last_value_of_each_key(place: Place) -> None:
    one = await place.write("changelog-one", [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", None)])
    two = await place.write("changelog-two", [(b"a", b"x"), (None, b"no key"), (b"", b"")])
    restored = await place.restore({"changelog-one": one, "changelog-two": two}, BOTH)
    assert dict(restored.stores.scan("one")) == {b"a": b"2"}
    assert dict(restored.stores.scan("two")) == {b"a": b"x", b"": b""}
    assert restored.records == {"one": 4, "two": 2}
    assert restored.ends == {"changelog-one": one, "changelog-two": two}
    assert restored.reason == "there is no local state"
    last = place.steps[-1]
    assert (last.records, last.done, last.total) == (6, 7, 7)
    restored.stores.close()


async def test_local_state_reads_only_what_is_new(place: Place) -> None:
    end = await place.write("changelog-one", [(b"a", b"1"), (b"b", b"1")])
    assert await place.content({"changelog-one": end}) == {"one": {b"a": b"1", b"b": b"1"}}
    end = await place.write("changelog-one", [(b"a", None), (b"c", b"1")])
    place.time += 1000
    restored = await place.restore({"changelog-one": end})
    assert (restored.records, restored.reason) == ({"one": 2}, None)
    assert dict(restored.stores.scan("one")) == {b"b": b"1", b"c": b"1"}
    assert restored.mark.caught_up == place.time
    restored.stores.close()


@pytest.mark.parametrize(
    ("recorded", "incarnation", "later", "reason"),
    [
        (2, "other", 0, "history here"),
        (3, "here", 13 * 3_600_000, "46800 s ago"),
        (1, "here", 0, "beyond the recorded end 1"),
        (None, "new", 0, "no record"),
    ],
)
async def test_what_cannot_be_used_is_set_aside(
    place: Place,
    recorded: int | None,
    incarnation: str,
    later: int,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await place.write("changelog-one", [(b"a", b"1"), (b"b", b"1")])
    restored = await place.restore({"changelog-one": 2})
    restored.stores.write({"one": [(b"ghost", b"")]}, restored.mark)
    restored.stores.close()
    await place.write("changelog-one", [(b"a", b"2")])
    place.time += later
    record = None if recorded is None else {"changelog-one": recorded}
    assert await place.content(record, incarnation=incarnation) == {"one": {b"a": b"2", b"b": b"1"}}
    assert reason in caplog.text


async def test_a_lost_lane_record_is_told(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    await place.write("changelog-one", [(b"a", b"1")])
    restored = await place.restore(None, BOTH)
    assert restored.stores.get("one", b"a") == b"1"
    assert restored.ends == {"changelog-one": 1, "changelog-two": 0}
    assert "changelog-one[1]" in caplog.text
    assert "flow.progress" in caplog.text
    restored.stores.close()


async def test_a_changelog_that_lost_its_end_stops_the_flow(place: Place) -> None:
    end = await place.write("changelog-one", [(b"a", b"1")])
    for _ in range(2):
        with pytest.raises(DataLoss, match=r"changelog-one\[1\] ends at offset 1.*up to offset 2"):
            await place.restore({"changelog-one": end + 1})
    assert await place.content({"changelog-one": end}) == {"one": {b"a": b"1"}}


async def test_a_new_store_does_not_touch_the_others(place: Place) -> None:
    end = await place.write("changelog-one", [(b"a", b"1")])
    await place.content({"changelog-one": end})
    await place.write("changelog-two", [(b"z", b"1")])
    for expected in ({"one": 0, "two": 1}, {"one": 0, "two": 0}):
        # The second time nothing was committed in between: the record still does not know the store.
        restored = await place.restore({"changelog-one": end}, BOTH)
        assert (restored.records, restored.reason) == (expected, None)
        assert restored.stores.get("two", b"z") == b"1"
        restored.stores.close()


class Wrapped:
    """A log whose readers misbehave."""

    def __init__(self, log: MemoryLog, **how: Any) -> None:
        self._log = log
        self._how = how
        self.readers: list[WrappedReader] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def end_offsets(
        self, partitions: Collection[TopicPartition], *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        ends = await self._log.end_offsets(partitions, committed=committed)
        return {tp: end + self._how.get("markers", 0) for tp, end in ends.items()}

    def reader(self, *, committed: bool = True) -> WrappedReader:
        assert committed
        reader = WrappedReader(self._log, **self._how)
        self.readers.append(reader)
        return reader


class WrappedReader:
    def __init__(
        self,
        log: MemoryLog,
        *,
        markers: int = 0,
        hang: bool = False,
        stop_at: int = -1,
        fail: list[Any] | None = None,
    ) -> None:
        self._reader = log.reader()
        self._markers = markers
        self._hang = hang
        self._stop_at = stop_at
        self._fail = fail if fail is not None else []
        self._fetched = False
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def fetch(
        self, partitions: Collection[TopicPartition], *, max_records: int, timeout: float
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        if self._hang:
            await asyncio.Event().wait()
        if 0 <= self._stop_at <= max(map(self._reader.position, partitions)):
            await asyncio.sleep(timeout)
            return {}
        if self._fetched and self._fail:
            raise self._fail.pop()
        self._fetched = True
        max_records = 2 if self._fail or self._stop_at >= 0 else max_records
        return await self._reader.fetch(partitions, max_records=max_records, timeout=0)

    def position(self, partition: TopicPartition) -> int:
        return self._reader.position(partition) + self._markers

    async def close(self) -> None:
        self.closed = True
        await self._reader.close()


async def test_markers_after_the_last_record_do_not_look_like_another_history(place: Place) -> None:
    end = await place.write("changelog-one", [(b"a", b"1")])
    log = Wrapped(place.log, markers=1)
    for reason in ("there is no local state", None):
        restored = await place.restore({"changelog-one": end}, log=log)
        assert (restored.reason, restored.mark.positions) == (reason, {"one": end})
        assert restored.ends == {"changelog-one": end + 1}, "the next record comes after the marker"
        restored.stores.close()
    assert all(reader.closed for reader in log.readers)


@pytest.mark.parametrize("how", [{"hang": True}, {"stop_at": 2}])
async def test_a_stall_says_where_and_why(place: Place, how: dict[str, Any]) -> None:
    end = await place.write("changelog-one", [(b"%d" % n, b"") for n in range(5)])
    log = Wrapped(place.log, **how)
    stands = how.get("stop_at", 0)
    began = time.monotonic()
    with pytest.raises(LogError, match=rf"changelog-one\[1\] stands at offset {stands} of 5.*leader"):
        await place.restore({"changelog-one": end}, log=log, stall_timeout=0.2)
    assert time.monotonic() - began < 2
    assert log.readers[0].closed
    # What was read is kept, and the store is free to be opened again.
    restored = await place.restore({"changelog-one": end})
    assert restored.records == {"one": 5 - stands}
    assert len(list(restored.stores.scan("one"))) == 5
    restored.stores.close()


async def test_a_log_that_does_not_answer_is_no_hang(place: Place) -> None:
    class Silent(Wrapped):
        async def end_offsets(self, *_: Any, **__: Any) -> dict[TopicPartition, int]:
            return await asyncio.Event().wait()  # type: ignore[return-value]

    with pytest.raises(LogError, match="changelog-one"):
        await place.restore({"changelog-one": 0}, log=Silent(place.log), stall_timeout=0.1)


async def test_half_a_full_restore_is_as_old_as_its_start(place: Place) -> None:
    end = await place.write("changelog-one", [(b"%d" % n, b"") for n in range(5)])
    began = place.time
    log = Wrapped(place.log, fail=[LogError("the broker went away")])
    with pytest.raises(LogError, match="went away"):
        await place.restore({"changelog-one": end}, log=log)
    stores = place.backend.open("flow", LANE, ["one"])
    assert stores.mark() == StoreMark("here", {"one": 2}, began)
    stores.close()
    place.time += 13 * 3_600_000
    restored = await place.restore({"changelog-one": end})
    assert restored.records == {"one": 5}
    assert "ago" in str(restored.reason)
    restored.stores.close()


async def test_a_log_start_that_moves_begins_again_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    end = await place.write("changelog-one", [(b"%d" % n, b"") for n in range(5)])
    moved = OffsetOutOfRange({at("changelog-one"): 2})
    log = Wrapped(place.log, fail=[moved])
    assert len((await place.content({"changelog-one": end}, log=log))["one"]) == 5
    assert "were cut while they were read" in caplog.text
    place.backend.set_aside("flow", LANE, "next case")
    with pytest.raises(OffsetOutOfRange):
        await place.restore({"changelog-one": end}, log=Wrapped(place.log, fail=[moved, moved]))


async def test_a_trimmed_changelog_is_read_from_where_it_starts(place: Place) -> None:
    end = await place.write("changelog-one", [(b"%d" % n, b"") for n in range(5)])
    await place.content({"changelog-one": 2})
    await place.log.trim({at("changelog-one"): 3})
    content = await place.content({"changelog-one": end})
    assert content["one"].keys() >= {b"3", b"4"}


async def test_being_cancelled_frees_the_store(place: Place) -> None:
    end = await place.write("changelog-one", [(b"a", b"1")])
    log = Wrapped(place.log, hang=True)
    task = asyncio.create_task(place.restore({"changelog-one": end}, log=log))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.readers[0].closed
    assert await place.content({"changelog-one": end}) == {"one": {b"a": b"1"}}


async def test_other_tasks_get_their_turn(place: Place) -> None:
    end = await place.write("changelog-one", [(b"%d" % n, b"") for n in range(20_000)])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(count())
    await place.content({"changelog-one": end})
    task.cancel()
    assert turns >= 10


PAIR = st.tuples(st.sampled_from([b"", b"a", b"aa", b"b"]), st.none() | st.binary(max_size=3))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(st.tuples(st.lists(PAIR, max_size=5), st.sampled_from(["live", "late", "lost"]))))
async def test_whatever_happened_state_is_the_fold_of_the_changelog(
    rounds: list[tuple[list[tuple[bytes, bytes | None]], str]],
) -> None:
    """Commits whose store write happened, was missed, or whose disk was lost."""
    log = MemoryLog()
    await log.start()
    await log.ensure_topics([TopicSpec("changelog-one", 2, TopicKind.CHANGELOG)])
    backend = MemoryBackend()
    place = Place(log, backend)
    fold: dict[bytes, bytes] = {}
    recorded: dict[str, int] | None = None
    for pairs, fate in rounds:
        restored = await place.restore(recorded)
        assert dict(restored.stores.scan("one")) == fold
        recorded = {"changelog-one": await place.write("changelog-one", pairs)}
        for key, value in pairs:
            fold.pop(key, None) if value is None else fold.update({key: value})
        if fate == "live":
            mark = StoreMark("here", {"one": recorded["changelog-one"]}, place.time)
            restored.stores.write({"one": pairs}, mark)
        restored.stores.close()
        if fate == "lost":
            backend.drop("flow", LANE)
    assert await place.content(recorded) == {"one": fold}
    await log.stop()

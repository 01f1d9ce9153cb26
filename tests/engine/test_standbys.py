"""Copies of lanes: engines in one process on a memory log, with what each is to copy chosen by the test."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reflow_kafka import Flow
from reflow_kafka.engine import standbys
from reflow_kafka.engine.engine import Engine
from reflow_kafka.engine.statistics import FlowStatistics, StandbyStatistics
from reflow_kafka.errors import LogError, OffsetOutOfRange, StateError, UsageError
from reflow_kafka.lane import standby
from reflow_kafka.lane.tail import last_record
from reflow_kafka.log.api import MemberOptions, Reader, Record, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.local.membership import LocalGroup, LocalMembership
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.rocks import RocksBackend
from reflow_kafka.state.store import LaneStores, StoreMark
from tests.engine.memory import put, until_seen, values
from tests.support.waiting import until

NAME = "counting"
KEYS = 50
LITTLE = 5
"""Records at once, where reading is slow."""
CHANGELOG = TopicPartition(f"{NAME}.count.changelog", 0)


class CopyingMembership(LocalMembership):
    """Is to keep a copy of every lane that is not its own."""

    async def start(self) -> None:
        self.told: dict[int, int | None] = {}
        self.off = False
        self.looks = 0
        await super().start()

    def standbys(self) -> frozenset[int]:
        self.looks += 1
        return frozenset() if self.off else frozenset(range(self.options.lanes)) - self.wanted() - self.shown

    def lags(self, lags: Mapping[int, int | None]) -> None:
        self.told.update(lags)


class Log(MemoryLog):
    """A log whose members copy each other's lanes."""

    keep_back: asyncio.Event | None = None
    """If there is one: the next who reads `harmed` waits for it, and then is too late, or gets `broken`."""
    broken: Exception | None = None
    harmed = CHANGELOG
    """What `keep_back` is about."""
    slow: asyncio.Event | None = None
    """If there is one: who reads the changelog waits for it, and gets little at once."""
    swallows = 0
    """So many cancellations of who reads the changelog have no effect, as those of the client may."""
    unasked = False
    """Whether nobody tells where changelogs end."""

    def __init__(self) -> None:
        super().__init__()
        self.reading: set[Reader] = set()
        """Readers that are open."""
        self.asked = 0

    def membership(self, options: MemberOptions) -> CopyingMembership:
        self.member = CopyingMembership(self._groups.setdefault(options.flow, LocalGroup()), options)
        return self.member

    def reader(self, *, committed: bool = True) -> Reader:
        reader = super().reader(committed=committed)
        fetch = reader.fetch

        async def cut(*args: Any, **options: Any) -> Mapping[TopicPartition, Sequence[Record]]:
            if self.slow is not None:
                options["max_records"] = LITTLE
            try:
                found = await fetch(*args, **options)
            except asyncio.CancelledError:
                if not (self.swallows and _reads(reader, CHANGELOG)):
                    raise
                self.swallows -= 1
                return {}
            if self.keep_back is not None and self.harmed in found:
                await self.keep_back.wait()
                self.keep_back = None
                raise self.broken or OffsetOutOfRange({self.harmed: found[self.harmed][0].offset})
            if self.slow is not None and CHANGELOG in found:
                await self.slow.wait()
            return found

        async def closed() -> None:
            self.reading.discard(reader)
            await close()

        self.reading.add(reader)
        close = reader.close
        reader.fetch, reader.close = cut, closed  # type: ignore[method-assign]
        return reader

    async def end_offsets(
        self, partitions: Collection[TopicPartition], *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        self.asked += 1
        return {} if self.unasked else await super().end_offsets(partitions, committed=committed)


def _reads(reader: Reader, partition: TopicPartition) -> bool:
    try:
        return reader.position(partition) >= 0
    except KeyError:
        return False


class Once(RocksBackend):
    """Refuses to have the state of a lane open twice."""

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.data = data
        self.opened: dict[int, LaneStores] = {}
        self.marks: list[StoreMark] = []
        self.closing: threading.Event | None = None
        """If there is one: closing a copy takes until it is set."""
        self.waiting = threading.Event()
        """Set when somebody waits for that."""

    def open(self, flow: str, lane: int, stores: Iterable[str]) -> LaneStores:
        assert lane not in self.opened, f"lane {lane} is open already"
        opened = self.opened[lane] = super().open(flow, lane, stores)
        close, write = opened.close, opened.write

        def forget() -> None:
            if self.closing is not None and threading.current_thread() is not threading.main_thread():
                self.waiting.set()
                self.closing.wait(20)
            close()
            self.opened.pop(lane, None)

        def note(changes: object, mark: StoreMark) -> None:
            self.marks.append(mark)
            write(changes, mark)  # type: ignore[arg-type]

        opened.close, opened.write = forget, note  # type: ignore[method-assign]
        return opened


def counting() -> Flow:
    flow = Flow(NAME, partitions=2)
    readings = flow.source("readings", topic="in")

    @flow.stage(after=readings, key=lambda n: n % KEYS, state=dict)
    def count(seen: dict[str, int], n: int) -> int:
        seen["n"] = seen.get("n", 0) + 1
        return seen["n"]

    flow.sink("counted", after=count, topic="out")
    return flow


class Place:
    """A running engine, and what it stands on."""

    def __init__(self, engine: Engine, backend: Once, member: CopyingMembership) -> None:
        self.engine, self.backend, self.member = engine, backend, member

    def look(self) -> FlowStatistics:
        return self.engine.statistics().flows[NAME]

    async def copied(self, *lanes: int) -> None:
        """Wait until these lanes are copied, and their copies lack nothing."""
        await until(
            lambda: (
                {s.lane: s.lag for s in self.look().standbys} == dict.fromkeys(lanes, 0)
                and all(lane in self.backend.opened for lane in lanes)
            ),
            f"{lanes} are copied",
        )

    async def waits_for(self, member: CopyingMembership, closing: threading.Event) -> None:
        """It is to have both lanes, but does not open that of its copy before this has been closed."""
        await until(lambda: member.wanted() == {0, 1}, "it is to have both lanes")
        for _ in range(5):
            looks = member.looks
            member.released(99)  # news, though about nothing
            await until(lambda looks=looks: member.looks > looks, "the runner has looked")  # type: ignore[misc]
        assert 1 in self.backend.opened
        assert self.look().assigned == 1
        closing.set()
        await until(lambda: self.look().running == 2, "it has both lanes")


@asynccontextmanager
async def place(log: Log, data: Path) -> AsyncIterator[Place]:
    backend = Once(data)
    async with Engine(counting(), log=log, state=backend) as engine:
        yield Place(engine, backend, log.member)
    assert not backend.opened


@pytest.fixture
async def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr(standbys, "_LOOK_EVERY", 0.02)
    log = Log()
    await log.start()
    await log.ensure_topics([TopicSpec(topic, 2, TopicKind.EXTERNAL) for topic in ("in", "out")])
    return log


async def feed(log: Log, *rounds: int) -> None:
    """Each key once per round; returns when all have been counted."""
    wanted = len(await values(log, "out")) + len(rounds) * KEYS
    for number in rounds:
        await put(log, "in", *((n, n) for n in range(number * KEYS, (number + 1) * KEYS)))
    await until_seen(log, "out", wanted)


async def restored(log: Log, data: Path) -> int:
    """What an engine reads that takes everything over with this local state."""
    async with place(log, data) as here:
        await until(lambda: here.look().running == 2, "both lanes run")
        return here.look().restored


async def test_a_copy_is_local_state_for_who_takes_over(log: Log, tmp_path: Path) -> None:
    async with place(log, tmp_path / "b") as b:
        async with place(log, tmp_path / "a") as a:
            await until(lambda: a.look().running == b.look().running == 1, "each has a lane")
            await feed(log, 0, 1, 2)
            await a.copied(0)
            await b.copied(1)
            assert b.member.told[1] == 0
            a.engine.abort()
        await until(lambda: b.look().running == 2, "b has both lanes")
        assert b.look().standbys == ()
        assert b.look().restored == 0, "there was nothing left to read"
        await feed(log, 3)
    assert sorted(await values(log, "out")) == sorted([1, 2, 3, 4] * KEYS)


async def test_a_lane_waits_until_its_copy_is_closed_whatever_happens_meanwhile(
    log: Log, tmp_path: Path
) -> None:
    async with place(log, tmp_path / "b") as b:
        member, closing = log.member, threading.Event()
        async with place(log, tmp_path / "a"):
            await feed(log, 0)
            await b.copied(1)
            b.backend.closing = closing
        await b.waits_for(member, closing)
        assert b.look().restored == 0
    assert sorted(path.name for path in (tmp_path / "b" / NAME).iterdir()) == ["lane-0", "lane-1"]


@pytest.mark.parametrize("what", ["cut", "broken"])
async def test_a_lane_waits_for_a_copy_that_closes_because_something_went_wrong(
    log: Log, tmp_path: Path, what: str
) -> None:
    async with place(log, tmp_path / "b") as b:
        member, closing = log.member, threading.Event()
        async with place(log, tmp_path / "a"):
            await feed(log, 0)
            await b.copied(1)
            ours = TopicPartition(CHANGELOG.topic, 1)
            log.broken = LogError("the broker went away") if what == "broken" else None
            log.harmed, log.keep_back, b.backend.closing = ours, asyncio.Event(), closing
            log.keep_back.set()
            await feed(log, 1)
            await until(b.backend.waiting.is_set, "its copy is being closed")
        await b.waits_for(member, closing)
    assert not log.reading
    names = {path.name.partition(".aside")[0] for path in (tmp_path / "b" / NAME).iterdir()}
    assert names == {"lane-0", "lane-1"}, "no further copy was made"


async def test_a_lane_that_has_not_begun_is_no_hindrance(log: Log, tmp_path: Path) -> None:
    async with place(log, tmp_path / "a") as a, place(log, tmp_path / "b") as b:
        await until(lambda: b.member.told == {0: 0}, "its copy lacks nothing")
        assert not b.backend.opened.keys() & {0}
        assert a.look().standbys == (StandbyStatistics(1, 0),)


async def test_a_copy_ends_though_its_cancellation_is_swallowed(log: Log, tmp_path: Path) -> None:
    async with place(log, tmp_path / "a"), asyncio.timeout(20), place(log, tmp_path / "b") as b:
        await feed(log, 0)
        await b.copied(0)
        log.swallows = 1
    assert not log.swallows


async def test_a_copy_is_kept_for_the_next_time(log: Log, tmp_path: Path) -> None:
    async with place(log, tmp_path / "a") as a:
        await feed(log, 0)
        async with place(log, tmp_path / "b") as b:
            await feed(log, 1)
            await a.copied(1)
            await b.copied(0)
            b.member.off = True
            b.member.released(99)  # news
            await until(lambda: not b.look().standbys, "the copy is closed")
    assert await restored(log, tmp_path / "b") == 0


@pytest.mark.parametrize("harm", ["damaged", "deleted"])
async def test_a_copy_that_is_damaged_is_made_anew(
    log: Log, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(log, tmp_path / "a"), place(log, tmp_path / "b") as b:
        await feed(log, 0, 1)
        await b.copied(0)
    lane = tmp_path / "b" / NAME / "lane-0"
    if harm == "deleted":
        shutil.rmtree(lane)
    else:
        for file in lane.glob("MANIFEST-*"):
            file.write_bytes(file.read_bytes()[:10])
    async with place(log, tmp_path / "a"), place(log, tmp_path / "b") as b:
        await feed(log, 2)
        await b.copied(0)
        assert ("set aside" in caplog.text) is (harm == "damaged")
        stores = b.backend.opened.values()
        assert sum(len(list(each.scan("count"))) for each in stores) == KEYS


async def test_a_store_that_fails_is_told_and_made_anew(
    log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(log, tmp_path / "a"), place(log, tmp_path / "b") as b:
        await feed(log, 0)
        await b.copied(0)

        def full(*_: object) -> None:
            raise StateError("the disk is full")

        b.backend.opened[0].write = full  # type: ignore[method-assign]
        await feed(log, 1)
        await until(lambda: "the disk is full; beginning anew" in caplog.text, "it is told")
        await b.copied(0)
    assert await restored(log, tmp_path / "b") == 0


async def test_a_copy_that_cannot_be_followed_up_is_closed(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise LogError("no reader today")

    async with place(log, tmp_path / "a"), place(log, tmp_path / "b") as b:
        with monkeypatch.context() as today:
            today.setattr(standby, "_Copy", broken)
            await feed(log, 0)
            await until(lambda: "no reader today; beginning anew" in caplog.text, "it is told")
        await b.copied(0)
        assert "is open already" not in caplog.text
    assert not log.reading


async def test_a_copy_follows_as_fast_as_it_can_while_it_lacks_much(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(log, tmp_path / "a"), place(log, tmp_path / "b") as b:
        await feed(log, 0)
        await b.copied(0)
        monkeypatch.setattr(standby, "_TURN", 3600.0)
        log.slow = asyncio.Event()
        await feed(log, 1, 2, 3)
        asked = log.asked
        await until(lambda: log.asked > asked + 2, "it is known what the copy lacks")
        assert (b.look().standbys[0].lag or 0) > LITTLE
        log.slow.set()
        await b.copied(0)


async def test_only_who_asked_about_a_copy_knows_that_it_lacks_nothing(log: Log, tmp_path: Path) -> None:
    async with place(log, tmp_path / "a"), place(log, tmp_path / "b") as b:
        await feed(log, 0)
        await b.copied(0)
        log.slow = asyncio.Event()
        await feed(log, 1, 2, 3)
        await until(lambda: (b.look().standbys[0].lag or 0) > LITTLE, "it is known what the copy lacks")
        log.unasked = True
        asked = log.asked
        await until(lambda: log.asked > asked + 4, "it was looked without asking about the copy")
        assert (b.look().standbys[0].lag or 0) > LITTLE
        log.unasked = False
        log.slow.set()
        await b.copied(0)


async def test_a_changelog_that_was_cut_is_copied_anew(
    log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(log, tmp_path / "a"), place(log, tmp_path / "b") as b:
        await feed(log, 0)
        await b.copied(0)
        cut = log.keep_back = asyncio.Event()
        await feed(log, 1)
        end = (await log.end_offsets([CHANGELOG]))[CHANGELOG]
        await log.trim({CHANGELOG: end - 5})
        cut.set()
        await until(lambda: "its changelogs were cut while they were read" in caplog.text, "it is told")
        await b.copied(0)
        assert len(list(b.backend.opened[0].scan("count"))) == 5


async def test_a_copy_that_was_not_complete_for_too_long_is_judged_again(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(log, tmp_path / "a"), place(log, tmp_path / "b") as b:
        await feed(log, 0)
        await b.copied(0)
        with monkeypatch.context() as short:
            short.setattr(standby, "MAX_AGE_MS", -1)
            await until(lambda: "deletions may have been missed" in caplog.text, "it is told")
        await b.copied(0)
        await feed(log, 1)
        await b.copied(0)


async def test_a_copy_never_stands_beyond_what_the_lane_record_knows(log: Log, tmp_path: Path) -> None:
    async with place(log, tmp_path / "a") as a, place(log, tmp_path / "b") as b:
        for number in range(5):
            await feed(log, number)
            await b.copied(0)
        record = await last_record(log, TopicPartition(f"{NAME}.progress", 0))
        assert record is not None
        assert {mark.positions["count"] for mark in b.backend.marks} <= set(
            range(record.changelogs[CHANGELOG.topic] + 1)
        )
        await a.copied(1)


@pytest.mark.parametrize(
    ("wrong", "wanted"), [(-1, "wanted 0 to 100"), (101, "wanted 0 to 100"), (1, "wanted bootstrap")]
)
def test_copies_that_cannot_be_are_refused(wrong: int, wanted: str) -> None:
    with pytest.raises(UsageError, match=f"standbys={wrong}, {wanted}"):
        Engine(counting(), standbys=wrong)

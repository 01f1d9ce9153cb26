"""What is particular to the embedded log: the disk, crashes, locks, compaction, other processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rocksdict import WriteBatch

from reflow_kafka.errors import (
    BrokerUnavailable,
    LogDoubt,
    LogError,
    OffsetOutOfRange,
    RecordRefused,
    UsageError,
)
from reflow_kafka.log.api import (
    Commit,
    CommittedPosition,
    OutRecord,
    Record,
    TopicKind,
    TopicPartition,
    TopicSpec,
)
from reflow_kafka.log.embedded import EmbeddedLog, LogClient, RoamingLog, open_client
from reflow_kafka.log.embedded import log as log_module
from reflow_kafka.log.embedded.compaction import Compactor
from reflow_kafka.log.embedded.storage import RocksStorage
from tests.log import embedded_worker
from tests.log.contract import drain, edge, filled, out, values


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path / "data")
    await log.start()
    yield log
    await log.stop()


async def reopened(log: EmbeddedLog, data_dir: Path) -> EmbeddedLog:
    await log.stop()
    again = EmbeddedLog(data_dir)
    await again.start()
    return again


class Worker:
    """The process that is killed."""

    def __init__(self, data_dir: Path) -> None:
        command = [sys.executable, embedded_worker.__file__, str(data_dir)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.lines = self.process.stdout
        assert self.lines.readline() == "ready\n"

    def kill(self) -> int:
        """Kill it; the last commit it knew to be done."""
        self.process.kill()
        last = max((int(line) for line in self.lines if line.endswith("\n")), default=0)
        self.process.wait()
        self.lines.close()
        return last


class TestCrash:
    async def test_killing_loses_no_acknowledged_commit_and_splits_none(self, tmp_path: Path) -> None:
        one, two = (TopicPartition(name, 0) for name in embedded_worker.TOPICS)
        randomly = random.Random(7)
        for _ in range(5):
            worker = Worker(tmp_path)
            await asyncio.sleep(randomly.uniform(0.02, 0.3))
            acknowledged = worker.kill()
            log = EmbeddedLog(tmp_path)
            await log.start()
            writer = await log.take_over("f", 0)
            position = (await writer.committed([one]))[one]
            done = position.offset if position else 0
            assert done >= acknowledged
            for tp in (one, two):
                assert values(await drain(log, tp)) == [str(at) for at in range(1, done + 1)]
            await log.stop()

    async def test_positions_beyond_lost_uncommitted_records_stay_valid(
        self, log: EmbeddedLog, tmp_path: Path
    ) -> None:
        """At-least-once: a position may be committed behind records that a crash then takes away."""
        tp = TopicPartition(await edge(log, "t"), 0)
        upstream, downstream = await log.take_over("f", 0), await log.take_over("f", 1)
        await log.publish(*tp, [out("before")])
        await upstream.send({tp: [filled(upstream, ["a", "b"])]})
        await downstream.commit(Commit({}, {tp: CommittedPosition(3)}))
        log._writers.clear()  # as in a crash: nothing is aborted
        log = await reopened(log, tmp_path / "data")
        upstream = await log.take_over("f", 0)
        await upstream.commit(Commit({tp: [filled(upstream, ["a", "b"])]}))
        reader = log.reader()
        for start in (1, 2, 3):  # two offsets are gone
            reader.assign({tp: start})
            assert values((await reader.fetch())[tp]) == ["a", "b"]
        assert values(await drain(log, tp)) == ["before", "a", "b"]
        await log.stop()


class TestReopening:
    async def test_everything_is_there_again(self, log: EmbeddedLog, tmp_path: Path) -> None:
        a = TopicPartition(await edge(log, "f.a", 2), 1)
        b = TopicPartition(await edge(log, "f.b", 3, TopicKind.CHANGELOG), 2)
        writer = await log.take_over("f", 0)
        position = CommittedPosition(4, "ä")
        await writer.commit(Commit({a: [filled(writer, "abcdef")], b: [filled(writer, "x")]}, {a: position}))
        await log.trim({a: 2})
        before = [list(await drain(log, tp)) for tp in (a, b)]
        log = await reopened(log, tmp_path / "data")
        assert [list(await drain(log, tp)) for tp in (a, b)] == before
        assert await log.start_offsets([a, b]) == {a: 2, b: 0}
        assert await log.partition_counts(["f.a", "f.b"]) == {"f.a": 2, "f.b": 3}
        assert await (await log.take_over("f", 0)).committed([a, b]) == {a: position, b: None}
        assert await log.ensure_topics([TopicSpec("f.b", 3, TopicKind.CHANGELOG)]) == []
        await log.stop()

    async def test_trimming_gives_the_space_back(self, log: EmbeddedLog) -> None:
        tp = TopicPartition(await edge(log, "t", 2), 0)
        other = TopicPartition("t", 1)
        for _ in range(20):
            await log.publish(*tp, [OutRecord(None, os.urandom(1_000), 1)] * 100)
            await log.publish(*other, [out("x")])
        await log.trim({tp: 1_950})
        storage = log._storage
        assert isinstance(storage, RocksStorage)
        assert len(storage.scan(storage.key(b"B", tp))) == 1
        await log.trim({tp: 2_000})
        assert not storage.scan(storage.key(b"B", tp))
        assert len(await drain(log, other)) == 20

    async def test_a_damaged_batch_is_an_error_that_says_so(self, log: EmbeddedLog, tmp_path: Path) -> None:
        tp = TopicPartition(await edge(log, "t"), 0)
        await log.publish(*tp, [out("x")])
        storage = log._storage
        assert isinstance(storage, RocksStorage)
        key = storage.batch_key(tp, 0)
        step = WriteBatch(raw_mode=True)
        step.put(key, storage.db.get(key)[:-3])
        storage.commit(step)
        log = await reopened(log, tmp_path / "data")
        with pytest.raises(LogError, match="offset 0, is damaged"):
            await drain(log, tp)
        await log.stop()

    async def test_what_the_machine_lacks_is_not_called_damage(
        self, log: EmbeddedLog, tmp_path: Path
    ) -> None:
        await log.ensure_topics([TopicSpec("t", 1, TopicKind.EXTERNAL)])
        await log.publish("t", 0, [out("x")])
        await log.stop()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        told, unlocked = [], []
        for spare in range(1, 9):  # whatever needs a file first
            free = os.dup(0)  # the lowest number that is free, from which on there are to be so many
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, limits[1]))
            try:
                await (opened := EmbeddedLog(tmp_path / "data", serve=False)).start()
                await opened.stop()
            except LogError as error:
                told.append(str(error))
            except UsageError as error:  # the directory could not even be locked
                unlocked.append(str(error))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert told
        assert all("cannot be used: [Errno 24] Too many open files" in each for each in unlocked), unlocked
        assert all("log: too many open files: raise the limit" in each for each in told), told
        await log.start()
        assert values(await drain(log, TopicPartition("t", 0))) == ["x"]

    @pytest.mark.parametrize("noted", [True, False])
    async def test_a_copy_is_restored_as_the_message_advises(
        self, log: EmbeddedLog, tmp_path: Path, noted: bool
    ) -> None:
        data, copy = tmp_path / "data", tmp_path / "copy"
        await log.ensure_topics([TopicSpec("t", 1, TopicKind.EXTERNAL)])
        await log.publish("t", 0, [out("x")])
        await log.stop()
        shutil.copytree(data, copy)
        await log.start()
        await log.publish("t", 0, [out("y")])
        await log.stop()
        shutil.rmtree(data / "log")
        shutil.copytree(copy / "log", data / "log")
        with pytest.raises(LogError, match=r"is gone: restore it from a copy together with .*log.note"):
            await log.start()
        if noted:
            shutil.copy(copy / "log.note", data)
        else:
            (data / "log.note").unlink()
        await log.start()
        assert values(await drain(log, TopicPartition("t", 0))) == ["x"]


class TestLock:
    async def test_another_process_is_told_who_has_the_directory(self, tmp_path: Path) -> None:
        worker = Worker(tmp_path)
        try:
            with pytest.raises(UsageError, match=f"in use by process {worker.process.pid}"):
                await EmbeddedLog(tmp_path).start()
        finally:
            worker.kill()
        log = EmbeddedLog(tmp_path)
        await log.start()
        await log.stop()

    async def test_the_same_process_gets_it_once(self, log: EmbeddedLog, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
            await EmbeddedLog(tmp_path / "data").start()
        await log.publish(await edge(log, "t"), 0, [out("unharmed")])

    async def test_a_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="cannot be used"):
            await EmbeddedLog(tmp_path / "file" / "data").start()


def fold(records: list[Record]) -> dict[bytes | None, bytes | None]:
    """What a table built from these records holds."""
    table: dict[bytes | None, bytes | None] = {}
    for record in records:
        table[record.key] = record.value
    return {key: value for key, value in table.items() if value is not None}


class TestCompaction:
    @pytest.fixture
    async def compactor(self, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> Compactor:
        self.now = 1_000_000.0
        storage = log._storage
        assert isinstance(storage, log_module.EmbeddedStorage)
        storage.compactor = Compactor(
            storage, min_records=100, max_keys=7, tombstone_retention=10, clock=lambda: self.now
        )
        return storage.compactor

    async def fill(self, log: EmbeddedLog, tp: TopicPartition, seed: int = 1) -> None:
        randomly = random.Random(seed)
        for _ in range(50):
            records = [
                OutRecord(b"%d" % randomly.randrange(20), randomly.choice([None, b"%d" % n]), n)
                for n in range(randomly.randrange(1, 20))
            ]
            await log.publish(*tp, records)

    async def test_the_last_record_of_each_key_stays(self, log: EmbeddedLog, compactor: Compactor) -> None:
        tp = TopicPartition(await edge(log, "f.c", 1, TopicKind.CHANGELOG), 0)
        await self.fill(log, tp)
        before = await drain(log, tp)
        await log.trim({})
        after = await drain(log, tp)
        last = {record.key: record for record in before}
        assert sorted(after, key=lambda r: r.offset) == sorted(last.values(), key=lambda r: r.offset)
        assert len(after) == 20
        # From any position on, a reader still gets to the same table.
        reader = log.reader()
        for start in range(0, before[-1].offset, 37):
            reader.assign({tp: start})
            seen = list((await reader.fetch()).get(tp, ()))
            assert [r.offset for r in seen] == [r.offset for r in after if r.offset >= start]
            assert reader.position(tp) == before[-1].offset + 1
        await reader.close()

    async def test_only_compact_topics_that_grew_are_touched(
        self, log: EmbeddedLog, compactor: Compactor
    ) -> None:
        edges = TopicPartition(await edge(log, "f.e"), 0)
        small = TopicPartition(await edge(log, "f.c", 1, TopicKind.CHANGELOG), 0)
        await self.fill(log, edges)
        await log.publish(*small, [out("x")] * 90)
        before = [len(await drain(log, tp)) for tp in (edges, small)]
        await log.trim({})
        assert [len(await drain(log, tp)) for tp in (edges, small)] == before

    async def test_tombstones_go_after_their_time(self, log: EmbeddedLog, compactor: Compactor) -> None:
        tp = TopicPartition(await edge(log, "f.c", 1, TopicKind.CHANGELOG), 0)

        async def compact() -> list[bytes | None]:
            await log.publish(*tp, [out("x", "filler")] * 101)
            await log.trim({})
            return [record.key for record in await drain(log, tp)]

        await log.publish(*tp, [OutRecord(b"gone", b"1", 1), OutRecord(b"gone", None, 1)])
        assert await compact() == [b"gone", b"filler"]
        self.now += 9
        assert await compact() == [b"gone", b"filler"]
        self.now += 2
        assert await compact() == [b"filler"]

    async def test_an_open_transaction_limits_it(self, log: EmbeddedLog, compactor: Compactor) -> None:
        tp = TopicPartition(await edge(log, "f.c", 1, TopicKind.CHANGELOG), 0)
        await log.publish(*tp, [out(str(n)) for n in range(150)])
        writer = await log.take_over("f", 0)
        await writer.send({tp: [filled(writer, ["open"])]})
        await log.publish(*tp, [out("after")])
        await log.trim({})
        await writer.commit(Commit())
        assert values(await drain(log, tp)) == ["149", "open", "after"]

    async def test_a_crash_at_any_step_loses_nothing(
        self, log: EmbeddedLog, compactor: Compactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tp = TopicPartition(await edge(log, "f.c", 1, TopicKind.CHANGELOG), 0)
        storage = log._storage
        assert isinstance(storage, log_module.EmbeddedStorage)
        keep, steps = storage.commit, 0
        for crash_at in range(6):
            await self.fill(log, tp, crash_at)
            table = fold(await drain(log, tp))
            steps = 0

            def commit(batch: WriteBatch, crash_at: int = crash_at) -> None:
                nonlocal steps
                steps += 1
                if steps > crash_at:
                    raise LogError("crash")
                keep(batch)

            monkeypatch.setattr(storage, "commit", commit)
            with pytest.raises(LogError, match="crash"):
                await log.trim({})
            monkeypatch.undo()
            await log.stop()
            await log.start()
            assert fold(await drain(log, tp)) == table
        await log.trim({})
        assert fold(await drain(log, tp)) == table
        assert len(await drain(log, tp)) <= 20


class TestClients:
    @pytest.fixture(params=["remote", "direct", "roaming remote", "roaming direct"])
    async def client(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LogClient]:
        # A path that is too long for a socket, too.
        self.data_dir = data_dir = tmp_path / ("d" * 120) if request.param == "remote" else tmp_path
        worker = EmbeddedLog(data_dir)
        if request.param.endswith("remote"):
            await worker.start()
        if request.param.startswith("roaming"):
            roaming = RoamingLog(data_dir)
            yield roaming
            await roaming.close()
        else:
            async with open_client(data_dir) as client:
                yield client
        await worker.stop()

    async def test_everything_a_client_can_do(self, client: LogClient) -> None:
        spec = TopicSpec("ext", 2, TopicKind.EXTERNAL)
        assert await client.ensure_topics([spec]) == []
        assert await client.partition_counts(["ext", "none"]) == {"ext": 2, "none": None}
        records = [OutRecord(b"k", b"v", 1, [("h", b"x"), ("n", None)]), OutRecord(None, None, 2, [])]
        await client.publish("ext", 1, records)
        tp = TopicPartition("ext", 1)
        assert await client.start_offsets([tp]) == {tp: 0}
        assert await client.end_offsets([tp, TopicPartition("ext", 0)]) == {tp: 2, ("ext", 0): 0}
        page = await client.read("ext", 1, 0)
        found = [OutRecord(r.key, r.value, r.timestamp, list(r.headers)) for r in page.records]
        assert (found, page.next_offset) == (records, 2)
        page = await client.read("ext", 1, 0, max_records=1)
        assert (len(page.records), page.next_offset) == (1, 1)
        page = await client.read("ext", 1, 2, timeout=0.05)
        assert (list(page.records), page.next_offset) == ([], 2)

    async def test_a_read_waits_for_news(self, client: LogClient) -> None:
        await client.ensure_topics([TopicSpec("ext", 1, TopicKind.EXTERNAL)])
        async with open_client(self.data_dir) as other:
            waiting = asyncio.create_task(other.read("ext", 0, 0, timeout=20))
            await asyncio.sleep(0.05)
            started = time.monotonic()
            await client.publish("ext", 0, [out("news")])
            assert values((await waiting).records) == ["news"]
            assert time.monotonic() - started < 5

    async def test_large_records_come_in_several_pages(self, client: LogClient) -> None:
        await client.ensure_topics([TopicSpec("ext", 1, TopicKind.EXTERNAL)])
        for _ in range(12):
            await client.publish("ext", 0, [OutRecord(None, os.urandom(900_000), 1)])
        at, count, pages = 0, 0, 0
        while count < 12:
            page = await client.read("ext", 0, at)
            at, count, pages = page.next_offset, count + len(page.records), pages + 1
        assert pages > 2

    async def test_errors_come_as_they_are(self, client: LogClient) -> None:
        await client.ensure_topics([TopicSpec("ext", 1, TopicKind.EXTERNAL)])
        with pytest.raises(OffsetOutOfRange) as out_of_range:
            await client.read("ext", 0, 99)
        assert out_of_range.value.positions == {("ext", 0): 99}
        with pytest.raises(RecordRefused) as refused:
            await client.publish("ext", 0, [OutRecord(None, b"x" * 2_000_000, 1)])
        assert refused.value.partitions == (("ext", 0),)
        with pytest.raises(UsageError, match="internal"):
            await client.ensure_topics([TopicSpec("f.a.b", 1, TopicKind.EDGE)])
        with pytest.raises(LogError, match="no topic"):
            await client.publish("none", 0, [out("x")])

    async def test_the_socket_is_for_its_user_only(self, log: EmbeddedLog, tmp_path: Path) -> None:
        path = tmp_path / "data" / "log.sock"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await log.stop()
        assert not path.exists()

    async def test_a_client_of_a_worker_that_ends_is_told(self, log: EmbeddedLog, tmp_path: Path) -> None:
        async with open_client(tmp_path / "data") as client:
            waiting = asyncio.create_task(client.partition_counts(["x"]))
            await waiting
            await log.stop()
            with pytest.raises(BrokerUnavailable):
                await client.partition_counts(["x"])

    async def test_a_stopped_worker_is_named(self, tmp_path: Path) -> None:
        worker = Worker(tmp_path)
        try:
            (tmp_path / "log.sock").unlink()
            worker.process.send_signal(signal.SIGSTOP)
            with pytest.raises(UsageError, match=str(worker.process.pid)):
                async with open_client(tmp_path, timeout=0.2):
                    pass
        finally:
            worker.kill()

    async def test_nonsense_on_the_socket_harms_nobody(self, log: EmbeddedLog, tmp_path: Path) -> None:
        for nonsense in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x03abc", b"\x00\x00\x00\x09short"):
            _, writer = await asyncio.open_unix_connection(str(tmp_path / "data" / "log.sock"))
            writer.write(nonsense)
            await writer.drain()
            writer.close()
        async with open_client(tmp_path / "data") as client:
            assert await client.partition_counts(["x"]) == {"x": None}


class TestRoaming:
    @pytest.fixture
    async def roaming(self, tmp_path: Path) -> AsyncIterator[RoamingLog]:
        roaming = RoamingLog(tmp_path / "data", timeout=5)
        await roaming.ensure_topics([TopicSpec("ext", 1, TopicKind.EXTERNAL)])
        yield roaming
        await roaming.close()

    async def test_workers_come_and_go(self, roaming: RoamingLog, tmp_path: Path) -> None:
        """Whoever has the log, nothing is lost, and the next one always finds it free."""
        for n in range(3):
            await roaming.publish("ext", 0, [out(f"alone {n}")])
            worker = EmbeddedLog(tmp_path / "data", patience=5)
            await worker.start()
            await roaming.publish("ext", 0, [out(f"through a worker {n}")])
            await worker.stop()
        page = await roaming.read("ext", 0, 0)
        assert values(page.records) == [
            f"{way} {n}" for n in range(3) for way in ("alone", "through a worker")
        ]

    async def test_a_worker_starts_however_busy_a_client_is(
        self, roaming: RoamingLog, tmp_path: Path
    ) -> None:
        async def busy() -> None:
            while True:
                await roaming.publish("ext", 0, [out("x")])

        publishing = asyncio.create_task(busy())
        worker = EmbeddedLog(tmp_path / "data", patience=10)
        await worker.start()
        publishing.cancel()
        await asyncio.wait([publishing])
        await worker.stop()

    async def test_what_a_worker_wrote_that_has_gone_is_read(
        self, roaming: RoamingLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[Path] = []
        start = EmbeddedLog.start

        async def counted(log: EmbeddedLog) -> None:
            opened.append(tmp_path)
            await start(log)

        monkeypatch.setattr(EmbeddedLog, "start", counted)
        for _ in range(5):
            assert await roaming.read("ext", 0, 0, timeout=0.01) == ((), 0)
        assert len(opened) == 1, "it is not opened again and again to find nothing"
        worker = EmbeddedLog(tmp_path / "data")
        await worker.start()
        await worker.publish("ext", 0, [out("x")])
        await worker.stop()
        assert values((await roaming.read("ext", 0, 0)).records) == ["x"]

    async def test_a_worker_that_goes_in_the_middle_leaves_doubt_about_what_is_written(
        self, roaming: RoamingLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = EmbeddedLog(tmp_path / "data")
        await worker.start()
        called = asyncio.Event()

        async def never(*_: object) -> None:
            called.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(worker, "publish", never)
        monkeypatch.setattr(worker, "start_offsets", never)
        for call, wanted in (
            (roaming.publish("ext", 0, [out("x")]), pytest.raises(LogDoubt, match="may be written")),
            (roaming.start_offsets([TopicPartition("ext", 0)]), contextlib.nullcontext()),
        ):
            called.clear()
            waiting = asyncio.create_task(call)
            await called.wait()
            await worker.stop()
            with wanted:  # only looking is done again
                await waiting
            await worker.start()
        await worker.stop()

    async def test_a_log_that_is_neither_served_nor_free(self, tmp_path: Path) -> None:
        worker = EmbeddedLog(tmp_path, serve=False)
        await worker.start()
        roaming = RoamingLog(tmp_path, timeout=0.2)
        with pytest.raises(UsageError, match="in use by process"):
            await roaming.partition_counts(["x"])
        await worker.stop()
        assert await roaming.partition_counts(["x"]) == {"x": None}

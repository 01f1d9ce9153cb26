"""What every log must do, whatever it keeps its records in.

`LogContract` is run once per log: a parametrised fixture supplies `log`, started; `unique` is a prefix
that is also a valid flow name. Nothing here sleeps and hopes: everything waits for a condition, with a
deadline, since a real cluster takes its time over new topics and groups.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from reflow_kafka.errors import LaneLost, LogError, OffsetOutOfRange, RecordRefused, TopologyMismatch
from reflow_kafka.log.api import (
    BatchBuilder,
    Commit,
    CommittedPosition,
    LaneWriter,
    Log,
    MemberOptions,
    Membership,
    OutRecord,
    Reader,
    Record,
    TopicKind,
    TopicPartition,
    TopicSpec,
)
from tests.support.waiting import until

DEADLINE = 30.0


async def edge(log: Log, name: str, partitions: int = 1, kind: TopicKind = TopicKind.EDGE) -> str:
    """A new topic that every part of the log knows."""
    await log.ensure_topics([TopicSpec(name, partitions, kind)])
    deadline = time.monotonic() + DEADLINE
    while (await log.partition_counts([name]))[name] != partitions:
        assert time.monotonic() < deadline, f"topic {name} does not appear"
        await asyncio.sleep(0.05)
    return name


def out(value: str, key: str | None = "k", timestamp: int = 1_000) -> OutRecord:
    return OutRecord(key.encode() if key is not None else None, value.encode(), timestamp)


def filled(writer: LaneWriter, values: Iterable[str], *, early: bool = False) -> BatchBuilder:
    builder = writer.batch(early=early)
    for value in values:
        assert builder.append(timestamp=1_000, key=b"k", value=value.encode()) is not None
    return builder


def values(records: Iterable[Record]) -> list[str]:
    return [(record.value or b"").decode() for record in records]


async def drain(log: Log, tp: TopicPartition, *, committed: bool = True, count: int = 0) -> list[Record]:
    """Everything in a partition, from its start to its end; waits for at least `count` records.

    A commit that has returned is certain, but a cluster may take a moment to show it.
    """
    deadline = time.monotonic() + DEADLINE
    while True:
        start = (await log.start_offsets([tp]))[tp]
        end = (await log.end_offsets([tp], committed=committed))[tp]
        reader = log.reader(committed=committed)
        try:
            reader.assign({tp: start})
            records = await read_to(reader, tp, end)
        finally:
            await reader.close()
        if len(records) >= count or time.monotonic() > deadline:
            return records


async def holds(log: Log, tp: TopicPartition, wanted: Sequence[str]) -> None:
    """A committed reader finds exactly these values."""
    assert values(await drain(log, tp, count=len(wanted))) == list(wanted)


async def read_to(reader: Reader, tp: TopicPartition, end: int) -> list[Record]:
    """Read until the position reaches `end`."""
    records: list[Record] = []
    deadline = time.monotonic() + DEADLINE
    while reader.position(tp) < end:
        assert time.monotonic() < deadline, f"{tp} stands at {reader.position(tp)}, its end is {end}"
        records += (await reader.fetch(timeout=0.2)).get(tp, ())
    return records


async def first_of(reader: Reader, tp: TopicPartition, count: int) -> list[Record]:
    """The next `count` records of a partition (at least)."""
    records: list[Record] = []
    deadline = time.monotonic() + DEADLINE
    while len(records) < count:
        assert time.monotonic() < deadline, f"{tp} gave {len(records)} of {count} records"
        records += (await reader.fetch(timeout=0.2)).get(tp, ())
    return records


async def out_of_range(reader: Reader) -> OffsetOutOfRange:
    """The error that fetching must end in."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            assert not await reader.fetch(timeout=0.2)
        except OffsetOutOfRange as error:
            return error
    raise AssertionError("no OffsetOutOfRange")


class Follower:
    """What an engine does with its membership: runs what is wanted, stops and releases what is not."""

    def __init__(self, member: Membership) -> None:
        self.member = member
        self.lanes: set[int] = set()
        self.holding = False  # True: takes its time with stopping
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        await self.member.start()
        while True:
            self.follow()
            await self.member.changed()

    def follow(self) -> None:
        wanted = self.member.wanted()
        self.lanes |= wanted
        if not self.holding:
            for lane in self.lanes - wanted:
                self.lanes.discard(lane)
                self.member.released(lane)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.lanes.clear()
        await self.member.stop()


class TopicsContract:
    async def test_topics_are_created_once_and_counted(self, log: Log, unique: str) -> None:
        name = await edge(log, f"{unique}.a.b", 3)
        assert await log.partition_counts([name, f"{unique}.none"]) == {name: 3, f"{unique}.none": None}
        await log.ensure_topics([TopicSpec(name, 3, TopicKind.EDGE)])

    async def test_every_kind_of_topic_passes_its_own_verification(self, log: Log, unique: str) -> None:
        specs = [TopicSpec(f"{unique}.{kind.value}", 2, kind) for kind in TopicKind]
        for spec in specs:
            await edge(log, spec.name, spec.partitions, spec.kind)
        await log.ensure_topics(specs)

    async def test_a_topic_grows(self, log: Log, unique: str) -> None:
        name = await edge(log, f"{unique}.progress", 2, TopicKind.PROGRESS)
        await log.grow_topic(name, 3)
        await log.grow_topic(name, 3)  # by another engine at the same time, say
        assert await log.partition_counts([name]) == {name: 3}
        await log.publish(name, 2, [OutRecord(b"k", b"v", 1)])
        assert (await log.end_offsets([TopicPartition(name, 2)]))[TopicPartition(name, 2)] >= 1

    async def test_a_wrong_partition_count_is_refused(self, log: Log, unique: str) -> None:
        name = await edge(log, f"{unique}.a.b", 2)
        with pytest.raises(TopologyMismatch, match=name):
            await log.ensure_topics([TopicSpec(name, 3, TopicKind.EDGE)])

    async def test_a_wrong_cleanup_policy_is_refused(self, log: Log, unique: str) -> None:
        name = await edge(log, f"{unique}.a.b", 2)
        with pytest.raises(TopologyMismatch, match=name):
            await log.ensure_topics([TopicSpec(name, 2, TopicKind.CHANGELOG)])

    async def test_an_external_topic_is_taken_as_it_is(self, log: Log, unique: str) -> None:
        name = await edge(log, f"{unique}-ext", 2, TopicKind.EXTERNAL)
        await log.ensure_topics([TopicSpec(name, 5, TopicKind.EXTERNAL)])
        assert await log.partition_counts([name]) == {name: 2}


class ReadingContract:
    async def test_published_records_come_back_in_order(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        assert await log.start_offsets([tp]) == {tp: 0}
        assert await log.end_offsets([tp]) == {tp: 0}
        wanted = [f"v{at}" for at in range(3_000)]
        await log.publish(*tp, [out(value) for value in wanted[:10]])
        await log.publish(*tp, [out(value) for value in wanted[10:]])
        records = await drain(log, tp)
        assert values(records) == wanted
        offsets = [record.offset for record in records]
        assert offsets == sorted(set(offsets))

    async def test_every_part_of_a_record_comes_back(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        headers: list[tuple[str, bytes | None]] = [("trace", b"\x00\xff"), ("trace", b"2"), ("empty", b"")]
        sent = [
            OutRecord(b"\x00key\xff", b'{"a":1}', 1_262_304_000_000, headers),
            OutRecord(None, b"no key", 1, []),
            OutRecord(b"tombstone", None, 4_102_444_800_000, []),
            OutRecord(b"", b"", 0, []),
        ]
        await log.publish(*tp, sent)
        found = await drain(log, tp)
        parts = [OutRecord(r.key, r.value, r.timestamp, [(k, v) for k, v in r.headers]) for r in found]
        assert parts == sent

    async def test_max_records_limits_what_one_fetch_returns(self, log: Log, unique: str) -> None:
        name = await edge(log, unique, 2)
        a, b = TopicPartition(name, 0), TopicPartition(name, 1)
        for tp in (a, b):
            await log.publish(*tp, [out(f"{tp.partition}-{at}") for at in range(50)])
        reader = log.reader()
        reader.assign({a: 0, b: 0})
        found: dict[TopicPartition, list[str]] = {a: [], b: []}
        deadline = time.monotonic() + DEADLINE
        while len(found[a]) + len(found[b]) < 100:
            assert time.monotonic() < deadline
            fetched = await reader.fetch(max_records=7)
            assert sum(map(len, fetched.values())) <= 7
            for tp, records in fetched.items():
                found[TopicPartition(*tp)] += values(records)
        assert found == {tp: [f"{tp.partition}-{at}" for at in range(50)] for tp in (a, b)}
        await reader.close()

    async def test_a_subset_keeps_what_the_others_have(self, log: Log, unique: str) -> None:
        name = await edge(log, unique, 2)
        a, b = TopicPartition(name, 0), TopicPartition(name, 1)
        for tp in (a, b):
            await log.publish(*tp, [out("first"), out("second")])
        reader = log.reader()
        reader.assign({a: 0, b: 0})
        seen: list[str] = []
        deadline = time.monotonic() + DEADLINE
        while len(seen) < 2:
            assert time.monotonic() < deadline
            fetched = await reader.fetch([a])
            assert b not in fetched
            seen += values(fetched.get(a, ()))
        assert reader.position(b) == 0
        assert values(await first_of(reader, b, 2)) == ["first", "second"]
        await reader.close()

    async def test_seek_goes_back_and_forth(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        await log.publish(*tp, [out(str(at)) for at in range(20)])
        reader = log.reader()
        reader.assign({tp: 0})
        assert len(await first_of(reader, tp, 20)) == 20
        reader.seek(tp, 15)
        assert reader.position(tp) == 15
        assert values(await first_of(reader, tp, 5)) == [str(at) for at in range(15, 20)]
        reader.seek(tp, 3)
        assert values(await first_of(reader, tp, 17))[:2] == ["3", "4"]
        await reader.close()

    async def test_assign_replaces_what_was_assigned(self, log: Log, unique: str) -> None:
        name = await edge(log, unique, 2)
        a, b = TopicPartition(name, 0), TopicPartition(name, 1)
        for tp in (a, b):
            await log.publish(*tp, [out("x"), out("y")])
        reader = log.reader()
        reader.assign({a: 0})
        await first_of(reader, a, 2)
        reader.assign({b: 1})
        assert values(await first_of(reader, b, 1)) == ["y"]
        assert not await reader.fetch(timeout=0.05)
        await reader.close()

    async def test_a_waiting_fetch_wakes_up_for_new_records(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        await log.publish(*tp, [out("old")])
        reader = log.reader()
        reader.assign({tp: 0})
        await first_of(reader, tp, 1)
        waiting = asyncio.create_task(reader.fetch(timeout=DEADLINE))
        await asyncio.sleep(0)
        await log.publish(*tp, [out("new")])
        started = time.monotonic()
        assert values((await waiting)[tp]) == ["new"]
        assert time.monotonic() - started < DEADLINE / 3
        await reader.close()

    async def test_an_empty_fetch_ends_in_time(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        reader = log.reader()
        reader.assign({tp: 0})
        await reader.fetch(timeout=0.1)
        started = time.monotonic()
        assert not await reader.fetch(timeout=0.2)
        assert time.monotonic() - started < 5
        await reader.close()

    async def test_a_cancelled_fetch_loses_nothing(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        reader = log.reader()
        reader.assign({tp: 0})
        seen: list[str] = []
        for at in range(20):
            waiting = asyncio.create_task(reader.fetch(timeout=DEADLINE))
            await asyncio.sleep(0)
            await log.publish(*tp, [out(str(at))])
            waiting.cancel()
            (result,) = await asyncio.gather(waiting, return_exceptions=True)
            if not isinstance(result, BaseException):
                seen += values(result.get(tp, ()))
        if len(seen) < 20:
            seen += values(await first_of(reader, tp, 20 - len(seen)))
        assert seen == [str(at) for at in range(20)]
        await reader.close()

    async def test_positions_outside_the_log_are_named(self, log: Log, unique: str) -> None:
        name = await edge(log, unique, 2)
        tp, fine = TopicPartition(name, 0), TopicPartition(name, 1)
        await log.publish(*tp, [out(str(at)) for at in range(10)])
        reader = log.reader()
        reader.assign({tp: 999, fine: 0})
        assert (await out_of_range(reader)).positions == {tp: 999}
        await reader.close()

    async def test_trimmed_records_are_gone_and_the_rest_stays(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        await log.publish(*tp, [out(str(at)) for at in range(5)])
        await log.publish(*tp, [out(str(at)) for at in range(5, 10)])
        for asked, start in ((4, 4), (5, 5), (7, 7), (6, 7)):
            await log.trim({tp: asked})
            assert await log.start_offsets([tp]) == {tp: start}
        await holds(log, tp, ["7", "8", "9"])
        reader = log.reader()
        reader.assign({tp: 2})
        assert (await out_of_range(reader)).positions == {tp: 2}
        reader.seek(tp, 8)
        assert values(await first_of(reader, tp, 2)) == ["8", "9"]
        await log.trim({tp: 10})
        assert await log.start_offsets([tp]) == await log.end_offsets([tp]) == {tp: 10}
        await log.publish(*tp, [out("10")])
        assert values(await first_of(reader, tp, 1)) == ["10"]
        await reader.close()


class CommitContract:
    async def test_a_commit_is_seen_whole(self, log: Log, unique: str) -> None:
        a = TopicPartition(await edge(log, f"{unique}.a", 2), 1)
        b = TopicPartition(await edge(log, f"{unique}.b"), 0)
        source = TopicPartition(await edge(log, f"{unique}.s"), 0)
        await log.publish(*source, [out("in")] * 9)
        writer = await log.take_over(unique, 0)
        assert await writer.committed([source, a]) == {source: None, a: None}
        position = CommittedPosition(7, 'finished: 9,11 \u00e4 {"x": [1]}' + "z" * 2_000)
        batches = {a: [filled(writer, ["a0", "a1"]), filled(writer, ["a2"])], b: [filled(writer, ["b0"])]}
        assert await writer.commit(Commit(batches, {source: position})) == {a: 0, b: 0}
        await holds(log, a, ["a0", "a1", "a2"])
        await holds(log, b, ["b0"])
        assert await writer.committed([source, b]) == {source: position, b: None}
        await writer.close()

    async def test_commits_follow_each_other(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        writer = await log.take_over(unique, 0)
        for at in range(5):
            first = await writer.commit(Commit({tp: [filled(writer, [f"{at}a", f"{at}b"])]}))
            assert first == {tp: at * (2 + writer.marker)}
        assert await writer.commit(Commit()) == {}
        await holds(log, tp, [f"{at}{part}" for at in range(5) for part in "ab"])
        await writer.close()

    async def test_positions_alone_can_be_committed_and_moved_back(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        await log.publish(*tp, [out("x")] * 5)
        writer = await log.take_over(unique, 0)
        for offset in (5, 2):
            await writer.commit(Commit({}, {tp: CommittedPosition(offset)}))
            assert await writer.committed([tp]) == {tp: CommittedPosition(offset)}
        await writer.close()

    async def test_positions_belong_to_one_flow(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        await log.publish(*tp, [out("x")])
        one = await log.take_over(f"{unique}-1", 0)
        two = await log.take_over(f"{unique}-2", 0)
        await one.commit(Commit({}, {tp: CommittedPosition(1, "mine")}))
        assert await two.committed([tp]) == {tp: None}
        await one.close()
        await two.close()

    async def test_a_builder_fills_up_but_takes_one_record_of_any_size(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        writer = await log.take_over(unique, 0)
        builder = writer.batch()
        while builder.append(timestamp=1, key=b"k", value=os.urandom(10_000)) is not None:
            assert builder.record_count() < 1_000, "a builder must be bounded"
        count = builder.record_count()
        assert count >= 10
        assert builder.size() >= count * 10_000
        large = writer.batch()
        assert large.append(timestamp=1, key=None, value=os.urandom(900_000)) is not None
        assert large.append(timestamp=1, key=None, value=b"more") is None
        await writer.commit(Commit({tp: [builder, large]}))
        found = await drain(log, tp, count=count + 1)
        assert [len(record.value or b"") for record in found] == [10_000] * count + [900_000]
        await writer.close()

    async def test_a_record_that_is_too_large_is_refused(self, log: Log, unique: str) -> None:
        name = await edge(log, unique, 2)
        fine, tp = TopicPartition(name, 0), TopicPartition(name, 1)
        writer = await log.take_over(unique, 0)
        builder = writer.batch()
        assert builder.append(timestamp=1, key=b"k", value=os.urandom(5_000_000)) is not None
        with pytest.raises(RecordRefused) as refused:
            await writer.commit(Commit({fine: [filled(writer, ["fine"])], tp: [builder]}))
        assert tp in refused.value.partitions
        with pytest.raises(LogError):
            await writer.commit(Commit())
        writer = await log.take_over(unique, 0)
        await writer.commit(Commit({fine: [filled(writer, ["again"])]}))
        await holds(log, fine, ["again"])
        await writer.close()

    async def test_eight_lanes_write_into_one_partition(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)

        async def run(lane: int) -> None:
            writer = await log.take_over(unique, lane)
            for at in range(5):
                await writer.commit(Commit({tp: [filled(writer, [f"{lane}:{at}:{n}" for n in range(20)])]}))
            await writer.close()

        await asyncio.gather(*map(run, range(8)))
        records = await drain(log, tp, count=8 * 5 * 20)
        offsets = [record.offset for record in records]
        assert offsets == sorted(set(offsets))
        for lane in range(8):
            mine = [value for value in values(records) if value.startswith(f"{lane}:")]
            assert mine == [f"{lane}:{at}:{n}" for at in range(5) for n in range(20)]


class IsolationContract:
    async def test_what_is_sent_is_seen_by_uncommitted_readers_only(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        await log.publish(*tp, [out("before")])
        writer = await log.take_over(unique, 0)
        await writer.send({tp: [filled(writer, ["one"])]})
        await writer.send({tp: [filled(writer, ["two", "three"])]})
        dirty, clean = log.reader(committed=False), log.reader()
        dirty.assign({tp: 0})
        clean.assign({tp: 0})
        assert values(await first_of(dirty, tp, 4)) == ["before", "one", "two", "three"]
        assert values(await first_of(clean, tp, 1)) == ["before"]
        assert await log.end_offsets([tp]) == {tp: 1}
        assert await log.end_offsets([tp], committed=False) == {tp: 4}
        assert not await clean.fetch(timeout=0.2)
        assert await writer.commit(Commit({tp: [filled(writer, ["four"])]})) == {tp: 1}
        assert values(await first_of(clean, tp, 4)) == ["one", "two", "three", "four"]
        assert values(await first_of(dirty, tp, 1)) == ["four"]
        end = (await log.end_offsets([tp]))[tp]
        for reader in (dirty, clean):
            assert not await read_to(reader, tp, end)
            await reader.close()
        await writer.close()

    async def test_what_is_sent_early_is_there_before_the_commit_and_after_it(
        self, log: Log, unique: str
    ) -> None:
        topic = await edge(log, unique, 2)
        tp, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
        writer = await log.take_over(unique, 0)
        dirty = log.reader(committed=False)
        dirty.assign({tp: 0})
        for value in ("one", "two"):
            await writer.send({tp: [filled(writer, [value], early=True)]})
        assert values(await first_of(dirty, tp, 2)) == ["one", "two"]
        await writer.send({tp: [filled(writer, [str(n)], early=True) for n in range(5)]})
        await writer.commit(Commit({other: [filled(writer, ["mine"])]}, {tp: CommittedPosition(1)}))
        await holds(log, tp, ["one", "two", "0", "1", "2", "3", "4"])
        await holds(log, other, ["mine"])
        await dirty.close()
        await writer.close()

    async def test_an_open_transaction_holds_committed_readers_back(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        slow, quick = await log.take_over(unique, 0), await log.take_over(unique, 1)
        await slow.send({tp: [filled(slow, ["slow"])]})
        reader, dirty = log.reader(), log.reader(committed=False)
        reader.assign({tp: 0})
        dirty.assign({tp: 0})
        assert values(await first_of(dirty, tp, 1)) == ["slow"]
        await quick.commit(Commit({tp: [filled(quick, ["quick"])]}))
        assert values(await first_of(dirty, tp, 1)) == ["quick"]
        assert not await reader.fetch(timeout=0.2)
        waiting = asyncio.create_task(first_of(reader, tp, 2))
        await slow.commit(Commit())
        assert values(await waiting) == ["slow", "quick"]
        for each in (reader, dirty, slow, quick):
            await each.close()

    async def test_a_reader_tells_whether_there_may_be_more(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        slow, quick = await log.take_over(unique, 0), await log.take_over(unique, 1)
        await quick.commit(Commit({tp: [filled(quick, ["1", "2", "3"])]}))
        await slow.send({tp: [filled(slow, ["open"])]})
        reader = log.reader()
        reader.assign({tp: 0})
        assert reader.behind(tp)
        deadline = time.monotonic() + DEADLINE
        records: list[Record] = []
        while len(records) < 3:
            assert reader.behind(tp), "it has not been given all"
            assert time.monotonic() < deadline
            records += (await reader.fetch(timeout=0.2, max_records=1)).get(tp, ())
        while reader.behind(tp):  # the end of the writer's transaction may take an offset
            assert time.monotonic() < deadline
            assert not await reader.fetch(timeout=0.2)
        reader.seek(tp, 2)
        assert reader.behind(tp)
        for each in (reader, slow, quick):
            await each.close()

    async def test_taking_over_aborts_what_was_open(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        first = await log.take_over(unique, 0)
        await first.commit(Commit({tp: [filled(first, ["kept"])]}, {tp: CommittedPosition(1)}))
        await first.send({tp: [filled(first, ["lost"])]})
        dirty = log.reader(committed=False)
        dirty.assign({tp: 0})
        assert values(await first_of(dirty, tp, 2)) == ["kept", "lost"]
        second = await log.take_over(unique, 0)
        assert await second.committed([tp]) == {tp: CommittedPosition(1)}
        end = (await log.end_offsets([tp]))[tp]
        assert end == (await log.end_offsets([tp], committed=False))[tp]
        await holds(log, tp, ["kept"])
        await second.commit(Commit({tp: [filled(second, ["mine"])]}))
        await holds(log, tp, ["kept", "mine"])
        await dirty.close()
        await first.close()
        await second.close()

    async def test_a_fenced_writer_is_told_and_leaves_nothing(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        first = await log.take_over(unique, 0)
        await first.commit(Commit({tp: [filled(first, ["first"])]}, {tp: CommittedPosition(1)}))
        second = await log.take_over(unique, 0)
        with pytest.raises(LaneLost):
            await first.commit(Commit({tp: [filled(first, ["zombie"])]}, {tp: CommittedPosition(0)}))
        await first.close()
        await second.commit(Commit({tp: [filled(second, ["second"])]}))
        assert await second.committed([tp]) == {tp: CommittedPosition(1)}
        await holds(log, tp, ["first", "second"])
        await second.close()

    async def test_a_position_passes_what_was_aborted(self, log: Log, unique: str) -> None:
        tp = TopicPartition(await edge(log, unique), 0)
        for at in range(3):
            writer = await log.take_over(unique, 0)
            await writer.commit(Commit({tp: [filled(writer, [f"good {at}"])]}))
            await writer.send({tp: [filled(writer, [f"bad {at}"] * 3)]})
        await log.take_over(unique, 0)
        end = (await log.end_offsets([tp]))[tp]
        assert end >= 3
        reader = log.reader()
        reader.assign({tp: 0})
        assert values(await read_to(reader, tp, end)) == ["good 0", "good 1", "good 2"]
        assert reader.position(tp) == end
        await reader.close()


class MembershipContract:
    async def member(self, log: Log, flow: str, **changes: Any) -> Follower:
        await edge(log, f"{flow}.progress", 4, TopicKind.PROGRESS)
        settings: dict[str, Any] = {"flow": flow, "lanes": 4, "plan": "p", "started": 1, **changes}
        return Follower(log.membership(MemberOptions(**settings)))

    async def test_one_member_gets_every_lane(self, log: Log, unique: str) -> None:
        one = await self.member(log, unique)
        await until(lambda: one.lanes == {0, 1, 2, 3}, "all lanes run")
        assert one.member.run
        assert time.monotonic() - one.member.proof() < DEADLINE
        await one.stop()

    async def test_a_second_member_gets_its_share_only_after_release(self, log: Log, unique: str) -> None:
        one = await self.member(log, unique)
        await until(lambda: len(one.lanes) == 4, "the first member runs all lanes")
        one.holding = True
        two = await self.member(log, unique)
        await until(lambda: len(one.member.wanted()) == 2, "the first member is asked for two lanes")
        assert not two.lanes & one.lanes
        one.holding = False
        one.follow()
        await until(lambda: len(one.lanes) == len(two.lanes) == 2, "each has its half")
        assert one.lanes | two.lanes == {0, 1, 2, 3}
        assert one.member.run == two.member.run
        kept = set(two.lanes)
        await one.stop()
        await until(lambda: two.lanes == {0, 1, 2, 3}, "the lanes of who left are taken")
        assert kept <= two.lanes
        await two.stop()

    async def test_a_group_that_starts_afresh_is_another_run(self, log: Log, unique: str) -> None:
        runs = []
        for _ in range(2):
            member = await self.member(log, unique)
            await until(lambda: len(member.lanes) == 4, "all lanes run")  # noqa: B023
            runs.append(member.member.run)
            await member.stop()
        assert runs[0] != runs[1]

    async def test_after_the_end_of_a_run_lanes_are_for_the_next_run_only(
        self, log: Log, unique: str
    ) -> None:
        one = await self.member(log, unique)
        await until(lambda: len(one.lanes) == 4, "all lanes run")
        one.member.end_run()
        await until(lambda: not one.lanes, "the ended run gives its lanes back")
        two = await self.member(log, unique, started=2)
        assert not two.lanes
        await one.stop()
        await until(lambda: len(two.lanes) == 4, "the next run has all lanes")
        assert two.member.run != one.member.run
        await two.stop()

    async def test_lanes_go_to_the_newest_plan(self, log: Log, unique: str) -> None:
        old = await self.member(log, unique)
        await until(lambda: len(old.lanes) == 4, "the old plan runs")
        new = await self.member(log, unique, plan="q", started=2)
        await until(lambda: len(new.lanes) == 4 and not old.lanes, "the new plan has all lanes")
        await new.stop()
        await old.stop()


class LogContract(TopicsContract, ReadingContract, CommitContract, IsolationContract, MembershipContract):
    """All of it."""

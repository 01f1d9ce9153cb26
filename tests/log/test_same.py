"""The memory log and the embedded log do the same, whatever is done to them."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reflow_kafka.errors import LogError
from reflow_kafka.log.api import (
    BatchBuilder,
    Commit,
    CommittedPosition,
    LaneWriter,
    OutRecord,
    TopicKind,
    TopicPartition,
    TopicSpec,
)
from reflow_kafka.log.embedded import EmbeddedLog
from reflow_kafka.log.local import LocalLog
from reflow_kafka.log.memory import MemoryLog
from tests.log.contract import drain

pytestmark = pytest.mark.slow

# Opening a database waits for the disk many times: in memory this takes a tenth of the time.
RAM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

LANES = st.integers(0, 1)
TPS = [TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("u", 0)]
PARTITIONS = st.sampled_from(TPS)
PART = st.none() | st.binary(max_size=40)
HEADERS = st.lists(st.tuples(st.text(max_size=3), PART), max_size=2)
RECORDS = st.lists(st.builds(OutRecord, PART, PART, st.integers(0, 2**45), HEADERS), max_size=8)
CONTENT = st.dictionaries(PARTITIONS, RECORDS, max_size=3)
SHARES = st.floats(0, 1)


class SameLogs(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir=RAM)
        self.runner = asyncio.Runner()
        # Small batches: much is split, searched and decoded.
        embedded = EmbeddedLog(
            Path(self.directory.name),
            max_batch_bytes=150,
            max_record_bytes=140,
            serve=False,
        )
        memory = MemoryLog(max_batch_bytes=150, max_record_bytes=140)
        self.logs: tuple[LocalLog, LocalLog] = (memory, embedded)
        self.writers: dict[int, list[LaneWriter]] = {}
        for log in self.logs:
            self.run(log.start())
            specs = [TopicSpec("t", 2, TopicKind.EDGE), TopicSpec("u", 1, TopicKind.CHANGELOG)]
            self.run(log.ensure_topics(specs))
        self.readers = [[log.reader(committed=committed) for log in self.logs] for committed in (True, False)]
        self.assign()

    def teardown(self) -> None:
        for log in self.logs:
            self.run(log.stop())
        self.runner.close()
        self.directory.cleanup()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What it returns or raises, in a form that can be compared."""

        async def outcome() -> Any:
            try:
                return await work
            except LogError as error:
                return type(error)

        return self.runner.run(outcome())

    def both(self, works: list[Coroutine[Any, Any, Any]]) -> Any:
        one, two = map(self.run, works)
        assert one == two
        return one

    def assign(self) -> None:
        """From the start on."""
        starts = self.both([log.start_offsets(TPS) for log in self.logs])
        for pair in self.readers:
            for reader in pair:
                reader.assign(starts)

    @rule(tp=PARTITIONS, records=RECORDS)
    def publish(self, tp: TopicPartition, records: list[OutRecord]) -> None:
        self.both([log.publish(*tp, records) for log in self.logs])

    @rule(lane=LANES)
    def take_over(self, lane: int) -> None:
        self.writers[lane] = [self.run(log.take_over("f", lane)) for log in self.logs]

    @precondition(lambda self: self.writers)
    @rule(lane=LANES, content=CONTENT)
    def send(self, lane: int, content: dict[TopicPartition, list[OutRecord]]) -> None:
        if writers := self.writers.get(lane):
            self.both([writer.send(built(writer, content)) for writer in writers])

    @precondition(lambda self: self.writers)
    @rule(lane=LANES, content=CONTENT, positions=st.dictionaries(PARTITIONS, st.integers(0, 50)))
    def commit(
        self, lane: int, content: dict[TopicPartition, list[OutRecord]], positions: dict[TopicPartition, int]
    ) -> None:
        if writers := self.writers.get(lane):
            committed = {tp: CommittedPosition(at, f"at {at}") for tp, at in positions.items()}
            self.both([writer.commit(Commit(built(writer, content), committed)) for writer in writers])

    @rule(tp=PARTITIONS, share=SHARES)
    def trim(self, tp: TopicPartition, share: float) -> None:
        end = self.both([log.end_offsets([tp], committed=False) for log in self.logs])[tp]
        self.both([log.trim({tp: int(end * share)}) for log in self.logs])

    @rule(which=st.integers(0, 1), most=st.integers(1, 30), tp=st.none() | PARTITIONS)
    def fetch(self, which: int, most: int, tp: TopicPartition | None) -> None:
        only = None if tp is None else [tp]
        pair = self.readers[which]
        fetched = self.both([reader.fetch(only, max_records=most, timeout=0) for reader in pair])
        if isinstance(fetched, type):
            self.assign()
        else:
            assert sum(map(len, fetched.values())) <= most
            one, two = ([reader.position(at) for at in TPS] for reader in pair)
            assert one == two

    @rule(which=st.integers(0, 1), tp=PARTITIONS, share=SHARES)
    def seek(self, which: int, tp: TopicPartition, share: float) -> None:
        end = self.both([log.end_offsets([tp], committed=False) for log in self.logs])[tp]
        for reader in self.readers[which]:
            reader.seek(tp, int(end * share))

    @rule()
    def reopen(self) -> None:
        for log in self.logs:
            self.run(log.stop())
            self.run(log.start())
        self.writers = {}
        self.assign()

    @invariant()
    def same(self) -> None:
        for tp in TPS:
            self.both([log.start_offsets([tp]) for log in self.logs])
            for committed in (True, False):
                self.both([log.end_offsets([tp], committed=committed) for log in self.logs])
                self.both([drain(log, tp, committed=committed) for log in self.logs])
            for writers in self.writers.values():
                self.both([writer.committed([tp]) for writer in writers])


def built(
    writer: LaneWriter, content: dict[TopicPartition, list[OutRecord]]
) -> dict[TopicPartition, list[BatchBuilder]]:
    """Records in as many builders as they need."""
    batches: dict[TopicPartition, list[BatchBuilder]] = {}
    for tp, records in content.items():
        builders = batches[tp] = [writer.batch()]
        for key, value, timestamp, headers in records:
            while not builders[-1].append(timestamp=timestamp, key=key, value=value, headers=headers):
                builders.append(writer.batch())
    return batches


TestSameLogs = SameLogs.TestCase
TestSameLogs.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)

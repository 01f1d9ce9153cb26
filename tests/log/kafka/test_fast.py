"""The shorter ways through aiokafka do what the long ones do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.log.kafka import fast

TP = TopicPartition("t", 0)
PRODUCERS = (5, 6)


@dataclass(frozen=True)
class Batch:
    """What one producer wrote at once; `kept`: which of its records compaction has left."""

    producer: int
    kept: tuple[bool, ...]
    transactional: bool
    headers: bool
    compressed: bool
    corrupt: bool


batches = st.lists(
    st.builds(
        Batch,
        producer=st.sampled_from(PRODUCERS),
        kept=st.lists(st.booleans(), min_size=1, max_size=6).map(tuple),
        transactional=st.booleans(),
        headers=st.booleans(),
        compressed=st.booleans(),
        corrupt=st.sampled_from([False] * 9 + [True]),
    ),
    max_size=6,
)


def encoded(batch: Batch, base: int) -> bytes:
    builder = DefaultRecordBatchBuilder(
        2, int(batch.compressed), int(batch.transactional), batch.producer, 0, 0, 1 << 20
    )
    # The last record's place is kept even if the record is not: here by a first and a last one that stay.
    for at, kept in enumerate(batch.kept):
        if kept or at in (0, len(batch.kept) - 1):
            value = None if at == 2 else b"v"
            builder.append(at, 1000 + at, b"k%d" % at, value, [("h", b"x")] * batch.headers)
    data = bytearray(builder.build())
    data[0:8] = base.to_bytes(8, "big")
    if batch.corrupt:
        data[-1] ^= 1
    return bytes(data)


def content(record: Any) -> tuple[Any, ...]:
    return record.offset, record.timestamp, record.key, record.value, list(record.headers)


def long_way(data: bytes, aborted: Any, start: int, isolation: int) -> tuple[list[Any], int, bool]:
    records: Any = PartitionRecords(TP, MemoryRecords(data), aborted, start, None, None, True, isolation)
    found, corrupt = [], False
    try:
        for record in records:
            found.append(content(record))  # noqa: PERF401 - kept when it ends in an error
    except CorruptRecordException:
        corrupt = True
    return found, records.next_fetch_offset, corrupt


def short_way(data: bytes, aborted: Any, start: int, isolation: int, limit: int) -> tuple[Any, int, bool]:
    records: Any = PartitionRecords(TP, MemoryRecords(data), aborted, start, None, None, True, isolation)
    records.__class__ = fast._BatchRecords
    records.batch = None
    found, corrupt, more = [], False, True
    try:
        while more:
            taken, more = records.take(limit)
            assert len(taken) <= limit
            found += [content(record) for record in taken]
    except CorruptRecordException:
        corrupt = True
        assert records.take(limit) == ([], False), "nothing is read past what is corrupt"
    return found, records.next_fetch_offset, corrupt


@given(batches, st.integers(0, 10), st.integers(1, 8), st.booleans(), st.lists(st.sampled_from(PRODUCERS)))
def test_reading(written: list[Batch], start: int, limit: int, committed: bool, aborted: list[int]) -> None:
    if written:  # a fetch begins with the batch around its offset
        start = min(start, len(written[0].kept) - 1)
    data, base = b"", 0
    for batch in written:
        data += encoded(batch, base)
        base += len(batch.kept)
    isolation = READ_COMMITTED if committed else READ_UNCOMMITTED
    transactions = [(producer, 3 * at) for at, producer in enumerate(aborted)]
    found, end, corrupt = short_way(data, list(transactions), start, isolation, limit)
    wanted, wanted_end, wanted_corrupt = long_way(data, list(transactions), start, isolation)
    assert corrupt == wanted_corrupt
    if corrupt:  # what came before it in the same call is fetched again
        assert found == wanted[: len(found)]
    else:
        assert (found, end) == (wanted, wanted_end)


def test_writing() -> None:
    def build(direct: bool) -> tuple[bytes, list[bool], int]:
        builder: Any = BatchBuilder(300, 0, is_transactional=1)
        if direct:
            builder = fast.shorten_writing(builder)
        fits = [
            builder.append(timestamp=at, key=b"k" if at % 2 else None, value=b"v" * 50, headers=[("h", b"x")])
            is not None
            for at in range(8)
        ]
        builder._set_producer_state(1, 0, 0)
        return bytes(builder._build()), fits, builder.record_count()

    data, fits, count = build(direct=True)
    assert (data, fits, count) == build(direct=False)
    assert 0 < count < 8, "a builder is bounded"


@pytest.mark.parametrize("usable", [True, False])
def test_writing_by_position(monkeypatch: pytest.MonkeyPatch, usable: bool) -> None:
    monkeypatch.setattr(fast, "USABLE", usable)
    builder = fast.shorten_writing(BatchBuilder(300, 0))
    assert builder.append(1, b"k", b"v") is not None
    assert builder.append(2, None, b"w", [("h", b"x")]) is not None
    wanted = BatchBuilder(300, 0)
    wanted.append(timestamp=1, key=b"k", value=b"v")
    wanted.append(timestamp=2, key=None, value=b"w", headers=[("h", b"x")])
    assert bytes(builder._build()) == bytes(wanted._build())
    assert builder.append(3, b"k", b"v") is None, "it is closed now"


def test_the_installed_library_is_as_expected() -> None:
    assert fast.USABLE


def test_another_library_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast._BatchRecords, "take", lambda self, limit: ([], False))
    assert fast._find_fault() is not None
    monkeypatch.undo()
    monkeypatch.setattr(fast, "USABLE", False)
    builder = BatchBuilder(300, 0)
    assert type(fast.shorten_writing(builder)) is fast._UsualBuilder

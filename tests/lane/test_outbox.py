from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.dead_letter import MAX_KEY, PREFIX, DeadLetterPlace, error_headers, fitting
from reflow_kafka.lane.outbox import MAX_RECORD, Channel, Outbox, OversizedOutput
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local import LocalBuilder, LocalRecord
from reflow_kafka.serde.keys import partition_of

keys = st.none() | st.binary(max_size=3)


def small() -> LocalBuilder:
    return LocalBuilder(100)


def content(outbox: Outbox) -> dict[TopicPartition, list[tuple[bytes | None, bytes | None]]]:
    return {
        tp: [(r.key, r.value) for builder in builders for r in builder.records()]  # type: ignore[attr-defined]
        for tp, builders in outbox.take().items()
    }


@given(st.lists(st.tuples(keys, st.none() | st.binary(max_size=90)), max_size=60), st.integers(1, 5))
def test_everything_is_taken_once_and_in_order(
    events: list[tuple[bytes | None, bytes | None]], partitions: int
) -> None:
    outbox = Outbox(small)
    channel = outbox.channel("t", partitions)
    for key, value in events:
        channel.append(1, key, value)
    assert bool(outbox) is bool(events)
    assert outbox.size() >= sum(len(key or b"") + len(value or b"") for key, value in events)
    taken = content(outbox)
    assert sorted(map(repr, events)) == sorted(repr(e) for found in taken.values() for e in found)
    for tp, found in taken.items():
        ours = [e for e in events if e[0] is not None and partition_of(e[0], partitions) == tp.partition]
        assert [e for e in found if e[0] is not None] == ours
    assert not outbox
    assert outbox.size() == 0
    assert outbox.take() == {}


def test_events_without_key_go_round() -> None:
    channel = Channel("t", 3, small)
    assert sorted(channel.place(None) for _ in range(6)) == [0, 0, 1, 1, 2, 2]


def test_a_discarded_outbox_is_as_new() -> None:
    outbox = Outbox(small)
    channel = outbox.channel("t", 1)
    for _ in range(5):
        channel.append(1, b"k", b"x" * 60)
    outbox.discard()
    assert not outbox
    channel.append(1, b"k", b"again")
    assert content(outbox) == {TopicPartition("t", 0): [(b"k", b"again")]}


@pytest.mark.parametrize("make", [LocalBuilder, small])
@pytest.mark.parametrize("before", [0, 1])
def test_what_no_topic_surely_takes_is_refused_without_effect(
    make: Callable[[], LocalBuilder], before: int
) -> None:
    outbox = Outbox(make)
    channel = outbox.channel("t", 1)
    for _ in range(before):
        channel.append(1, b"k", b"v")
    with pytest.raises(OversizedOutput, match=r"1,000,001 bytes, limit 1,000,000"):
        channel.append(1, b"k", b"x" * MAX_RECORD)
    channel.append(1, b"", b"x" * MAX_RECORD)
    assert [len(value or b"") for _, value in content(outbox)[TopicPartition("t", 0)]] == [1] * before + [
        MAX_RECORD
    ]


def a_record(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]) -> LocalRecord:
    return LocalRecord(7, 1_000, key, value, headers)


def test_a_dead_letter_tells_its_cause_and_keeps_its_own_headers() -> None:
    record = a_record(b"k", b"v", [("trace", b"1"), (PREFIX + "stage", b"of a former life"), ("trace", None)])
    try:
        raise LookupError("no such thing: \udcff")
    except LookupError as error:
        headers = error_headers(record, TopicPartition("in", 3), "f", "s", error, attempts=2)
    assert headers[:2] == [("trace", b"1"), ("trace", None)]
    facts = {name.removeprefix(PREFIX): value for name, value in headers[2:]}
    assert b"LookupError" in (facts.pop("traceback") or b"")
    assert facts == {
        "flow": b"f",
        "stage": b"s",
        "topic": b"in",
        "partition": b"3",
        "offset": b"7",
        "attempts": b"2",
        "type": b"LookupError",
        "message": b"no such thing: ?",
    }


def test_a_long_story_is_cut() -> None:
    headers = error_headers(
        a_record(None, None, []), TopicPartition("in", 0), "f", "s", ValueError("x" * 10**6)
    )
    assert sum(len(value or b"") for _, value in headers) < 12_000


sizes = st.sampled_from([0, 1, MAX_KEY, MAX_KEY + 1, MAX_RECORD - 20_000, MAX_RECORD, 3 * MAX_RECORD])


@given(key=st.none() | sizes, value=st.none() | sizes, header=sizes)
def test_a_dead_letter_always_fits(key: int | None, value: int | None, header: int) -> None:
    record = a_record(
        None if key is None else b"k" * key, None if value is None else b"v" * value, [("h", b"h" * header)]
    )
    headers = error_headers(record, TopicPartition("in", 0), "f", "s", ValueError("bad"))
    outbox = Outbox(LocalBuilder)
    place = DeadLetterPlace(outbox.channel("dead", 2), record.key)
    place.append(record.timestamp, record.key, record.value, headers)
    ((builder,),) = outbox.take().values()
    assert builder.size() <= MAX_RECORD + MAX_KEY
    whole = (key or 0) + (value or 0) + sum(len(name) + len(data or b"") for name, data in headers)
    found_key, found_value, found_headers = fitting(record.key, record.value, headers)
    complete = (found_key, found_value) == (record.key, record.value)
    assert complete == (whole <= MAX_RECORD) or value is None
    assert {name for name, _ in headers if name.startswith(PREFIX)} <= {name for name, _ in found_headers}

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.serde import keys
from reflow_kafka.serde.keys import (
    MissingField,
    PartitionCache,
    decode_key,
    encode_key,
    key_getter,
    murmur2,
    partition_of,
    timestamp_getter,
)

# From Kafka's own UtilsTest.java, there as signed integers.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("hash_of", [murmur2, keys._portable])
def test_murmur2_is_java_s(hash_of: Any) -> None:
    for data, signed in JAVA.items():
        assert hash_of(data) == signed & 0xFFFFFFFF


@given(st.binary(max_size=200))
def test_murmur2_is_aiokafka_s(data: bytes) -> None:
    assert murmur2(data) == keys._portable(data) == aiokafka_murmur2(data) & 0xFFFFFFFF


@given(st.binary())
def test_any_key_bytes_survive_as_text(key: bytes) -> None:
    assert encode_key(decode_key(key)) == key


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers())
def test_text_and_integers_are_readable(text: str, number: int) -> None:
    assert encode_key(text) == text.encode()
    assert encode_key(number) == str(number).encode()


@given(st.dictionaries(st.text("abc"), st.integers(-100, 100)))
def test_equal_objects_give_equal_keys(key: dict[str, int]) -> None:
    backwards = dict(reversed(list(key.items())))
    assert encode_key(key) == encode_key(backwards)
    assert orjson.loads(encode_key(key) or b"") == key


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (None, None),
        (b"\xff", b"\xff"),
        (bytearray(b"a"), b"a"),
        (memoryview(b"a"), b"a"),
        (True, b"true"),
        (2**80, str(2**80).encode()),
        (("a", 1), b'["a",1]'),
        (Colour.RED, b"red"),
        (Decimal("1.50"), b'"1.50"'),
        ({"b", "a"}, b'["a","b"]'),
    ],
)
def test_key_bytes(key: object, wanted: bytes | None) -> None:
    assert encode_key(key) == wanted


def test_what_cannot_be_a_key_is_refused() -> None:
    with pytest.raises(TypeError):
        encode_key(object())


@given(st.lists(st.binary(max_size=6)), st.integers(1, 50))
def test_partition_cache_agrees_and_is_bounded(found: list[bytes], partitions: int) -> None:
    cache = PartitionCache(partitions, limit=5)
    for key in found:
        assert cache[key] == partition_of(key, partitions) < partitions
        assert len(cache) <= 5


@dataclass
class Reading:
    station: Any
    at: Any = 0


class ReadOnly(dict[str, Any]):
    pass


def test_a_key_is_a_field_of_a_mapping_or_an_object() -> None:
    get = key_getter("station")
    for key, wanted in (("a", b"a"), (5, b"5"), (None, None), ("\udcff", b"\xff"), (b"x", b"x")):
        assert get({"station": key}) == get(Reading(key)) == get(ReadOnly(station=key)) == wanted


def test_a_key_is_a_function_of_the_value() -> None:
    assert key_getter(lambda v: (v["a"], v["b"]))({"a": 1, "b": "x"}) == b'[1,"x"]'


def test_no_key_means_the_event_keeps_its_own() -> None:
    assert key_getter(None) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"city": 1, "at": 2}, "the key is missing: found fields city, at, wanted station"),
        ({}, "the key is missing: found fields (none), wanted station"),
        (7, "the key is missing: found int, wanted station"),
        (["station"], "the key is missing: found list, wanted station"),
    ],
)
def test_a_missing_key_says_what_was_found(value: Any, message: str) -> None:
    with pytest.raises(KeyError) as caught:
        key_getter("station")(value)
    assert isinstance(caught.value, MissingField)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "at",
    [
        1_262_304_000_000,
        1_262_304_000_000.9,
        datetime(2010, 1, 1, tzinfo=UTC),
        "2010-01-01T00:00",
        "2010-01-01",
        "2010-01-01T00:00:00Z",
        "2010-01-01T01:00:00+01:00",
    ],
)
def test_timestamps(at: Any) -> None:
    assert timestamp_getter("at")({"at": at}) == 1_262_304_000_000
    assert timestamp_getter(lambda v: v.at)(Reading("a", at)) == 1_262_304_000_000


@pytest.mark.parametrize(
    ("at", "ms"),
    [
        (1_262_304_000, 1_262_304_000_000),
        (1_262_304_000.25, 1_262_304_000_250),
        (100_000_000, 100_000_000_000),
        (99_999_999, 99_999_999),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (0, 0),
        (-5, -5),
        (1.7, 1),
        (-1_262_304_000, -1_262_304_000_000),
        (-1_262_304_000_000, -1_262_304_000_000),
    ],
)
def test_numbers_are_seconds_where_only_seconds_make_sense(at: float, ms: int) -> None:
    assert timestamp_getter("at")({"at": at}) == ms


@pytest.mark.parametrize("at", ["yesterday", None, float("nan"), float("inf"), True, []])
def test_what_is_no_time_is_refused(at: Any) -> None:
    with pytest.raises(ValueError, match="as timestamp, wanted epoch milliseconds"):
        timestamp_getter("at")({"at": at})


def test_a_missing_timestamp_says_so() -> None:
    with pytest.raises(KeyError, match="the timestamp is missing"):
        timestamp_getter("at")({})


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_iso_text_and_datetime_agree(at: datetime) -> None:
    get = timestamp_getter("at")
    assert get({"at": at}) == get({"at": at.isoformat()})

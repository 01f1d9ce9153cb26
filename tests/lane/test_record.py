from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.record import LaneRecord, decode, encode

offsets = st.dictionaries(st.text(max_size=20), st.integers(0, 2**62), max_size=4)
records = st.builds(
    LaneRecord,
    incarnation=st.text(max_size=40),
    plan=st.text(max_size=40),
    changelogs=offsets,
    positions=offsets,
    inputs=offsets,
    run=st.text(max_size=40),
    done=st.lists(st.text(max_size=10), max_size=4).map(tuple),
)


@given(records)
def test_it_comes_back_as_it_was(record: LaneRecord) -> None:
    assert decode(encode(record)) == record


@given(st.binary(max_size=60))
def test_garbage_is_a_value_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):  # a ValueError
        decode(data)


@given(records, st.data())
def test_a_damaged_record_is_a_value_error_or_another_record(record: LaneRecord, data: st.DataObject) -> None:
    encoded = bytearray(encode(record))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        assert isinstance(decode(bytes(encoded)), LaneRecord)


def test_later_versions_may_say_more() -> None:
    assert decode(b'{"incarnation":"i","plan":"p","watermark":7}') == LaneRecord("i", "p")

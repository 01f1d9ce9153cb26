"""Keys of several parts sort as their parts do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.state.ordered import after, number, read_number, read_text, text

NUMBERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.binary(max_size=8) | st.lists(st.sampled_from([0, 1, 254, 255]), max_size=5).map(bytes)


@given(st.lists(st.tuples(TEXTS, NUMBERS, TEXTS), min_size=2, max_size=6))
def test_bytes_sort_as_the_parts(keys: list[tuple[bytes, int, bytes]]) -> None:
    assert sorted(keys) == sorted(keys, key=lambda k: text(k[0]) + number(k[1]) + text(k[2]))


@given(TEXTS, NUMBERS, TEXTS)
def test_parts_are_read_back(first: bytes, at: int, second: bytes) -> None:
    data = text(first) + number(at) + text(second)
    found, place = read_text(data)
    assert (found, read_number(data, place)) == (first, at)
    assert read_text(data, place + 8) == (second, len(data))


@given(TEXTS, TEXTS, TEXTS)
def test_nothing_lies_between_keys_with_the_same_beginning(key: bytes, other: bytes, rest: bytes) -> None:
    prefix = text(key)
    assert (prefix <= text(other) + rest < after(prefix)) == (other == key)


@pytest.mark.parametrize("data", [b"", b"abc", b"abc\x00", b"abc\x00\xff", b"abc\x00\x01"])
def test_bytes_without_end(data: bytes) -> None:
    with pytest.raises(ValueError, match="wanted bytes with an end"):
        read_text(data)

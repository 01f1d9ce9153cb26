"""Copies of values that are handed over as objects."""

from __future__ import annotations

import copy
import threading
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.lane.copies import copied


class Colour(Enum):
    RED = 1


@dataclass
class Order:
    id: str
    items: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    items: list[Any]


@dataclass(slots=True)
class Slots:
    items: list[Any]


@dataclass
class Counted:
    items: list[Any]
    copies: int = 0

    def __deepcopy__(self, memo: Any) -> Counted:
        return Counted(copy.deepcopy(self.items, memo), self.copies + 1)


class Struct(msgspec.Struct):
    items: list[Any]


class FrozenStruct(msgspec.Struct, frozen=True):
    items: list[Any]


class Plain:
    def __init__(self, items: list[Any]) -> None:
        self.items = items


Point = namedtuple("Point", "items")  # noqa: PYI024

HOLDERS: list[Callable[[list[Any]], Any]] = [
    lambda items: items,
    lambda items: {"items": items},
    lambda items: (items,),
    lambda items: Order("a", items),
    Frozen,
    Slots,
    Counted,
    Struct,
    FrozenStruct,
    Plain,
    Point,
]


def held(value: Any) -> list[Any]:
    match value:
        case list():
            return value
        case dict():
            return value["items"]  # type: ignore[no-any-return]
        case tuple():
            return value[0]  # type: ignore[no-any-return]
    return value.items  # type: ignore[no-any-return]


@pytest.mark.parametrize("outer", HOLDERS)
@pytest.mark.parametrize("inner", HOLDERS)
def test_nothing_that_can_be_changed_is_shared(
    outer: Callable[[list[Any]], Any], inner: Callable[[list[Any]], Any]
) -> None:
    value = outer([inner([1, "two", None])])
    twin = copied(value)
    assert type(twin) is type(value)
    assert type(held(twin)[0]) is type(held(value)[0])
    assert held(held(twin)[0]) == [1, "two", None]
    held(held(twin)[0]).append(4)
    held(twin).append(5)
    assert held(held(value)[0]) == [1, "two", None]
    assert len(held(value)) == 1


@pytest.mark.parametrize(
    "value",
    [None, True, 1, 1.5, "text", b"raw", datetime(2024, 1, 1, tzinfo=UTC), Decimal("1.5"), Colour.RED],
)
def test_what_nobody_can_change_is_handed_over_itself(value: Any) -> None:
    assert copied(value) is value
    assert copied([value]) == [value]


def test_sets_and_what_says_itself_how_it_is_copied() -> None:
    given = {1, 2}
    twin = copied(given)
    twin.add(3)
    assert given == {1, 2}
    assert copied(Counted([])).copies == 1


def test_what_cannot_be_copied_is_handed_over_itself() -> None:
    lock = threading.Lock()
    twin = copied({"lock": lock, "list": (original := [1])})
    assert twin["lock"] is lock
    assert twin["list"] == original
    assert twin["list"] is not original


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(plain)
def test_plain_data_is_copied_as_deepcopy_does(value: Any) -> None:
    twin = copied(value)
    assert twin == value
    assert _shared(twin, value) == _shared(copy.deepcopy(value), value) == []


def _shared(one: Any, other: Any) -> list[Any]:
    """Lists and dicts that both hold."""
    found = [one] if isinstance(one, list | dict) and one is other else []
    if isinstance(one, list | tuple):
        pairs = list(zip(one, other, strict=True))
    elif isinstance(one, dict):
        pairs = [(one[key], other[key]) for key in one]
    else:
        return found
    return found + [each for a, b in pairs for each in _shared(a, b)]

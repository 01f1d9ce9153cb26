"""Which types fit which, once a value went over an edge as JSON."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, NewType, Protocol, TypedDict, TypeVar, Union
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.definition.types import fits, holds, lacks

T = TypeVar("T")
UserId = NewType("UserId", int)


@dataclass
class Row:
    a: int
    note: str = ""


@dataclass
class Wider(Row):
    b: list[int] = field(default_factory=list)


@dataclass
class Needs:
    a: int
    b: str


@dataclass
class Tree:
    children: list[Tree]


@dataclass
class Forest:
    children: list[Forest]


@dataclass
class TextTree:
    children: list[str]


class Struct(msgspec.Struct, rename="camel"):
    a: int
    long_name: str = ""


class Camel(msgspec.Struct):
    a: int
    longName: str  # noqa: N815 — as it stands in JSON


class Tuple(msgspec.Struct, array_like=True):
    a: int


class Model(pydantic.BaseModel):
    a: int


class Totals(TypedDict):
    a: int


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class HasA(Protocol):
    a: int


class Opaque: ...


FIT = [
    (int, int),
    (int, float),
    (float, int),
    (int, Decimal),
    (str, Decimal),
    (datetime, str),
    (str, UUID),
    (bytes, str),
    (timedelta, str),
    (date, datetime),
    (Colour, str),
    (str, Colour),
    (Level, int),
    (Literal["a", "b"], str),
    (UserId, int),
    (Annotated[int, "x"], int),
    (Row, Row),
    (Wider, Row),
    (Row, dict),
    (dict, Row),
    (dict[str, str], Row),
    (Row, Mapping[str, Any]),
    (Row, Model),
    (Row, Totals),
    (Row, Struct),
    (Totals, Row),
    (Struct, Camel),
    (Model, Row),
    (Tree, Forest),
    (list[int], set[float]),
    (list, list[int]),
    (tuple[int, ...], list[int]),
    (tuple[int, int], Sequence[int]),
    (Point, list[int]),
    (Tuple, list[int]),
    (list[Any], list[int]),
    (dict[str, int], dict[str, float]),
    (int | str, str),
    (int, str | int),
    (int | None, str | None),
    (NoneType, str | None),
]
MISFIT = [
    (int, str),
    (str, int),
    (bool, int),
    (int, bool),
    (int, datetime),
    (Colour, int),
    (Level, str),
    (Literal["a"], int),
    (UserId, str),
    (Annotated[int, "x"], str),
    (Row, str),
    (Row, list),
    (dict, list),
    (str, list),
    (list, dict[str, Any]),
    (Row, Needs),
    (Model, Needs),
    (Totals, Needs),
    (Struct, Needs),
    (Tree, TextTree),
    (list[int], list[str]),
    (list[Row], list[Needs]),
    (tuple[int, int], tuple[int, int, int]),
    (tuple[int, str], tuple[int, int]),
    (tuple[int, str], list[int]),
    (dict[str, int], dict[str, str]),
    (int | float, str | None),
    (NoneType, int),
    (bytes, int),
]
ANYTHING = [Any, object, T, Opaque, HasA, Iterable]


def named(pairs: list[tuple[Any, Any]]) -> list[Any]:
    return [pytest.param(g, w, id=f"{g}-{w}".replace("tests.", "")) for g, w in pairs]


@pytest.mark.parametrize(("given_type", "wanted"), named(FIT))
def test_fits(given_type: Any, wanted: Any) -> None:
    assert fits(given_type, wanted)


@pytest.mark.parametrize(("given_type", "wanted"), named(MISFIT))
def test_does_not_fit(given_type: Any, wanted: Any) -> None:
    assert not fits(given_type, wanted)


@pytest.mark.parametrize("unknown", ANYTHING[:5])
@pytest.mark.parametrize("known", [int, Row, list[int], None, dict[str, Any]])
def test_nothing_is_said_about_the_unknown(unknown: Any, known: Any) -> None:
    assert fits(unknown, known)
    assert fits(known, unknown)


def optional(annotation: Any) -> Any:
    return Union[annotation, None]  # noqa: UP007 — of a type chosen at run time


leaves = st.sampled_from([t for pair in FIT + MISFIT for t in pair] + ANYTHING)
types = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda t: list[t]),
        inner.map(lambda t: dict[str, t]),
        st.tuples(inner, inner).map(lambda ts: tuple[ts]),
        inner.map(optional),
    ),
    max_leaves=4,
)


@given(types)
def test_every_type_fits_itself(wanted: Any) -> None:
    assert fits(wanted, wanted)


@given(types, types)
def test_a_union_fits_what_its_members_fit(one: Any, other: Any) -> None:
    assert fits(optional(one), other) or not fits(one, other)
    assert fits(one, optional(other)) or not fits(one, other)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (0, int, True),
        (0, float, True),
        (0.5, int, False),
        (0, str, False),
        (None, int | None, True),
        (None, int, False),
        ([], list[str], True),
        ({}, Totals, True),
        ([], Totals, False),
        ({}, dict[str, Row], True),
        (Wider(1), Row, True),
        (Row(1), Wider, False),
        ("a", Literal["a"], True),
        ("b", Literal["a"], False),
        (1, UserId, True),
        (Opaque(), HasA, True),
        (Opaque(), Any, True),
        (Opaque(), T, True),
    ],
)
def test_holds(value: object, annotation: Any, expected: bool) -> None:
    assert holds(value, annotation) is expected


@pytest.mark.parametrize(
    ("annotation", "name", "expected"),
    [
        (Row, "a", False),
        (Row, "b", True),
        (Row | Wider | None, "b", True),
        (Totals, "a", False),
        (Totals, "items", True),
        (Model, "a", False),
        (Model, "b", True),
        (Struct, "long_name", False),
        (Struct, "longName", True),
        (dict[str, int], "a", False),
        (Opaque, "a", False),
        (Any, "a", False),
    ],
)
def test_lacks(annotation: Any, name: str, expected: bool) -> None:
    assert lacks(annotation, name) is expected

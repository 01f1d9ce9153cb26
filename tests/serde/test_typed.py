from __future__ import annotations

import enum
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import orjson
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflow_kafka.serde.json import (
    DecodeError,
    EncodeError,
    SerdeError,
    UnsupportedType,
    dumps,
    dumps_exactly,
    loads,
)
from reflow_kafka.serde.typed import Codec, edge_codec, state_codec
from reflow_kafka.serde.types import type_name


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Reading:
    station: str
    temp: float
    at: datetime | None = None


@dataclass
class Rich:
    price: Decimal
    id: UUID
    colours: set[Colour]
    pair: tuple[int, str]
    by_number: dict[int, list[Reading]]
    wait: timedelta
    raw: bytes = b""
    _hidden: int = 0
    next: Rich | None = None


@dataclass
class Total:
    count: int = 0
    mean: float = 0.0


class Order(msgspec.Struct):
    id: int
    lines: list[str]


class Movement(TypedDict):
    x: float
    y: float


class Point(NamedTuple):
    x: int
    y: int


class Person(pydantic.BaseModel):
    name: str
    born: date | None = None
    full_name: str = pydantic.Field(default="", alias="fullName")


@dataclass
class Crowd:
    people: list[Person]
    leader: Person | None = None


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
floats = st.floats(allow_nan=False, allow_infinity=False)
naive = st.datetimes(datetime(1, 1, 1), datetime(9999, 1, 1))  # noqa: DTZ001
readings = st.builds(Reading, words, floats, st.none() | naive)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
rich = st.builds(
    Rich,
    price=st.decimals(allow_nan=False, allow_infinity=False),
    id=st.uuids(),
    colours=st.sets(st.sampled_from(Colour)),
    pair=st.tuples(st.integers(-(2**63), 2**63), words),
    by_number=st.dictionaries(st.integers(-(2**62), 2**62), st.lists(readings, max_size=2), max_size=3),
    wait=st.timedeltas(timedelta(days=-1000), timedelta(days=1000)),
    raw=st.binary(),
    _hidden=st.integers(0, 9),
)
people = st.builds(Person, name=words, born=st.none() | st.dates(), fullName=words)
TYPED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (float, floats),
    (bool, st.booleans()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (UUID, st.uuids()),
    (datetime, naive),
    (date, st.dates()),
    (Colour, st.sampled_from(Colour)),
    (Reading, readings),
    (Rich, rich),
    (Order, st.builds(Order, st.integers(), st.lists(words))),
    (Movement, st.fixed_dictionaries({"x": floats, "y": floats})),
    (Point, st.builds(Point, st.integers(), st.integers())),
    (Person, people),
    (Crowd, st.builds(Crowd, st.lists(people, max_size=2), st.none() | people)),
    (list[Reading], st.lists(readings)),
    (list[Person], st.lists(people, max_size=2)),
    (dict[str, Decimal], st.dictionaries(words, st.decimals(allow_nan=False, allow_infinity=False))),
    (dict[int, float], st.dictionaries(st.integers(-(2**62), 2**62), floats)),
    (set[int], st.sets(st.integers())),
    (frozenset[str], st.frozensets(words)),
    (tuple[int, ...], st.lists(st.integers()).map(tuple)),
    (int | str, st.integers() | words),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (dict, st.dictionaries(words, plain)),
    (dict[str, Any], st.dictionaries(words, plain)),
    (Mapping[str, Any], st.dictionaries(words, plain)),
    (list, st.lists(plain)),
    (Sequence[Any], st.lists(plain)),
    (Counter, st.dictionaries(words, st.integers()).map(Counter)),
    (OrderedDict, st.dictionaries(words, st.integers()).map(OrderedDict)),
    (deque, st.lists(st.integers()).map(deque)),
    (deque[int], st.lists(st.integers()).map(deque)),
    (defaultdict[str, int], st.dictionaries(words, st.integers()).map(lambda d: defaultdict(int, d))),
    (Any, plain),
]


@settings(max_examples=40)  # for each of many types
@given(st.data())
@pytest.mark.parametrize(("type_", "values"), TYPED, ids=[type_name(t) for t, _ in TYPED])
def test_values_come_back_as_they_were(
    type_: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    for codec in (edge_codec(type_), state_codec(type_)):
        again = codec.decode(codec.encode(value))
        assert again == value
        assert type(again) is type(value)


@given(words, st.binary())
def test_text_and_bytes_are_raw_on_edges_and_json_in_states(text: str, data: bytes) -> None:
    assert edge_codec(str).encode(text) == edge_codec(Any, "str").encode(text) == text.encode()
    assert edge_codec(str | None).decode(text.encode()) == text
    assert edge_codec(bytes).encode(data) == edge_codec(dict, "bytes").decode(data) == data
    for type_, value in ((str, text), (bytes, data)):
        codec = state_codec(type_)
        assert codec.decode(codec.encode(value)) == value
        orjson.loads(codec.encode(value))


@given(st.binary(max_size=30))
@pytest.mark.parametrize("type_", [Any, dict, int, str, Reading, Rich, Person, Colour], ids=type_name)
def test_bytes_that_do_not_fit_raise_valueerror(type_: Any, data: bytes) -> None:
    for codec in (edge_codec(type_), state_codec(type_)):
        try:
            value = codec.decode(data)
        except ValueError:
            continue
        assert codec.decode(codec.encode(value)) == value or value != value


def test_a_dict_may_stand_for_a_dataclass_if_it_fits() -> None:
    codec = edge_codec(Reading)
    data = codec.encode({"station": "a", "temp": 1, "more": True})
    assert orjson.loads(data) == {"station": "a", "temp": 1, "more": True}
    assert codec.decode(data) == Reading("a", 1.0)
    with pytest.raises(EncodeError, match=r"found dict where Reading was .* required field `temp`"):
        codec.encode({"station": "a"})
    with pytest.raises(EncodeError, match="found str where int was expected"):
        edge_codec(int).encode("1")
    with pytest.raises(EncodeError, match="found list where dict was expected"):
        edge_codec(dict).encode([1])
    with pytest.raises(EncodeError, match="found dict where Movement was expected"):
        edge_codec(Movement).encode({"x": 1.0})
    with pytest.raises(EncodeError, match="found dict where Person was expected"):
        edge_codec(Person).encode({})


def test_an_integer_fits_a_float() -> None:
    assert edge_codec(float).decode(edge_codec(float).encode(3)) == 3.0
    assert edge_codec(Decimal).decode(edge_codec(Decimal).encode(1.5)) == Decimal("1.5")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks(bad: float) -> None:
    for type_, value in ((Reading, Reading("a", bad)), (list[Reading], [Reading("a", bad)]), (float, bad)):
        with pytest.raises(EncodeError, match="JSON has no such number"):
            edge_codec(type_).encode(value)
    for type_, value in ((Any, {"a": [bad]}), (dict, {"a": [bad]}), (Total, Total(1, bad)), (float, bad)):
        with pytest.raises(EncodeError, match="JSON has no such number"):
            state_codec(type_).encode(value)
    assert edge_codec(Any).encode({"a": bad}) == b'{"a":null}'


def test_a_state_that_would_not_come_back_is_refused_at_once() -> None:
    with pytest.raises(EncodeError, match=r"Expected `int`, got `float` - at `\$.count`"):
        state_codec(Total).encode(Total(count=1.5))  # type: ignore[arg-type]
    for value, found in [
        ({1: 2}, "a key of type int at \\$"),
        ({"a": {"b": {1, 2}}}, r"set at \$\.a\.b"),
        ({"a": [Reading("a", 1)]}, r"Reading at \$\.a\[0\]"),
        ({"a": datetime(2010, 1, 1)}, r"datetime at \$\.a"),  # noqa: DTZ001
        ({"a": defaultdict(int)}, r"defaultdict at \$\.a"),
    ]:
        for type_ in (dict, Any):
            with pytest.raises(EncodeError, match=f"found {found}"):
                state_codec(type_).encode(value)
    with pytest.raises(EncodeError):
        state_codec(dict).encode([])


def test_an_untyped_edge_takes_whatever_json_can_express() -> None:
    value = {"d": Decimal("1.5"), "s": {1}, "k": {1: 2}, "m": Person(name="a"), "q": deque([1]), "big": 2**70}
    assert loads(dumps(value)) == {
        "d": "1.5",
        "s": [1],
        "k": {"1": 2},
        "m": {"name": "a", "born": None, "fullName": ""},
        "q": [1],
        "big": 2**70,
    }
    for bad in (object(), {"a": object()}, "\ud800", {(1, 2): 3}):
        with pytest.raises(EncodeError, match="wanted something JSON can express"):
            dumps(bad)


def test_integers_beyond_64_bits_stay_exact() -> None:
    assert loads(dumps_exactly({"wei": 2**200 + 1})) == {"wei": 2**200 + 1}


def test_what_is_kept_does_not_hold_what_the_encoder_needed_for_it() -> None:
    raw = b'{"t":1}'  # of orjson's making it would hold 4 kB, which nothing tells but the process's memory
    kept = Codec(lambda value: raw, loads).for_keeping().encode({"t": 1})
    assert kept == raw
    assert kept is not raw


class Plain:
    pass


@pytest.mark.parametrize("type_", [Plain, list[Plain], complex, "Nowhere", int | Plain, Reading | Total])
def test_types_that_cannot_be_read_back_are_refused(type_: Any) -> None:
    for make in (edge_codec, state_codec):
        with pytest.raises(UnsupportedType, match="cannot be written as JSON and read back"):
            make(type_)


def test_a_defaultdict_needs_its_factory() -> None:
    with pytest.raises(SerdeError, match=r"defaultdict\[str, int\]"):
        state_codec(defaultdict).encode(defaultdict(int, a=1))


def test_raw_edges_refuse_other_values() -> None:
    with pytest.raises(EncodeError, match="found int, wanted str"):
        edge_codec(str).encode(1)
    with pytest.raises(EncodeError, match="not Unicode"):
        edge_codec(str).encode("\ud800")
    with pytest.raises(EncodeError, match="found str, wanted bytes"):
        edge_codec(bytes).encode("a")
    with pytest.raises(DecodeError, match="UTF-8"):
        edge_codec(str).decode(b"\xff")


@dataclass
class Upper:
    """A format of one's own; unhashable, as any dataclass is by default."""

    options: dict[str, int] = field(default_factory=dict)

    def codec(self, type: Any) -> Codec:
        return Codec(lambda v: v.upper().encode(), lambda b: b.decode().lower())


def test_a_format_of_ones_own() -> None:
    codec = edge_codec(str, Upper())
    assert codec.encode("a") == b"A"
    assert codec.decode(b"A") == "a"


@pytest.mark.parametrize("format", ["avro", 7])
def test_unknown_formats_are_refused(format: Any) -> None:
    with pytest.raises(UnsupportedType, match="found"):
        edge_codec(dict, format)


def test_codecs_are_made_once() -> None:
    assert edge_codec(Reading) is edge_codec(Reading | None)
    assert state_codec(Reading) is state_codec(Reading)


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        (Any, "Any"),
        (int | None, "int | None"),
        (dict[str, list[Reading]], "dict[str, list[Reading]]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a"], "Literal['a']"),
        ("X", "'X'"),
    ],
)
def test_names_of_types(type_: Any, name: str) -> None:
    assert type_name(type_) == name


def test_what_users_types_refuse_is_told_as_text() -> None:
    @dataclass
    class Price:
        currency: str

        def __post_init__(self) -> None:
            raise KeyError(self.currency)

    assert edge_codec(Price).told(b'{"currency":"XYZ"}') == '{"currency":"XYZ"}'

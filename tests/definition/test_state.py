"""What `state=` may be, and the type it is stored as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from reflow_kafka import DefinitionError, State
from reflow_kafka.definition.handlers import read_handler
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import ANY, StateSpec
from reflow_kafka.definition.state import read_state

NOWHERE = Place("here.py:1")


@dataclass
class Last:
    temps: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    a: int = 0


class Counter(msgspec.Struct):
    n: int = 0


class FrozenCounter(msgspec.Struct, frozen=True):
    n: int = 0


class Model(pydantic.BaseModel):
    names: set[str] = {"a", "b", "c"}


class FrozenModel(pydantic.BaseModel, frozen=True):
    n: int = 0


class Totals(TypedDict, total=False):
    n: int


class Opaque:
    pass


def unannotated(state, value): ...
def box(state: State[Any], value: Any) -> None: ...
def bare_box(state: State, value: Any) -> None: ...  # type: ignore[type-arg]
def box_of_float(state: State[float], value: Any) -> None: ...
def box_of_optional(state: State[int | None], value: Any) -> None: ...
def dict_of_last(state: dict[str, Last], value: Any) -> None: ...
def totals(state: Totals, value: Any) -> None: ...
def last(state: Last, value: Any) -> None: ...


def make_dict() -> dict[str, Last]:
    return {}


def read(factory: Any, handler: Callable[..., Any] = unannotated) -> StateSpec:
    found = read_handler(handler, ("state", "value"), stage="s", place=NOWHERE)
    return read_state(factory, found, stage="s", place=NOWHERE)


@pytest.mark.parametrize(
    ("factory", "handler", "stored_as"),
    [
        (list, unannotated, list),
        (list[str], unannotated, list[str]),
        (set, unannotated, set),
        (Last, unannotated, Last),
        (Last, last, Last),
        (Counter, unannotated, Counter),
        (Model, unannotated, Model),
        (lambda: {"n": 0}, unannotated, dict),
        (lambda: Last([1.0]), unannotated, Last),
        (make_dict, unannotated, dict[str, Last]),
        # The handler's annotation, where it says more than the factory.
        (dict, dict_of_last, dict[str, Last]),
        (dict, totals, Totals),
        (lambda: {"a": Last()}, dict_of_last, dict[str, Last]),
    ],
)
def test_changed_in_place(factory: Any, handler: Any, stored_as: Any) -> None:
    state = read(factory, handler)
    assert (state.factory, state.type, state.boxed) == (factory, stored_as, False)


@pytest.mark.parametrize(
    ("factory", "handler", "stored_as"),
    [
        (int, box, int),
        (int, bare_box, int),
        (int, box_of_float, float),
        (int, box_of_optional, int | None),
        (lambda: None, box_of_optional, int | None),
        (lambda: None, bare_box, ANY),
        (Frozen, box, Frozen),
        (FrozenCounter, box, FrozenCounter),
        (Last, box, Last),
    ],
)
def test_boxed(factory: Any, handler: Any, stored_as: Any) -> None:
    state = read(factory, handler)
    assert (state.type, state.boxed) == (stored_as, True)


@pytest.mark.parametrize(
    "factory",
    [int, str, float, bool, bytes, tuple, frozenset, Frozen, FrozenCounter, FrozenModel, lambda: None],
)
def test_immutable_state_needs_a_box(factory: Any) -> None:
    with pytest.raises(DefinitionError, match=r"its state is immutable .* State\["):
        read(factory)


@pytest.mark.parametrize(
    "factory", [Opaque, lambda: [Opaque()], lambda: {"fn": print}, lambda: [float("nan")]]
)
def test_what_cannot_be_stored(factory: Any) -> None:
    with pytest.raises(DefinitionError, match=r"cannot be stored|does not survive"):
        read(factory)


def test_the_factory_runs_once() -> None:
    made = []

    def make() -> list[int]:
        made.append(1)
        return []

    read(make)
    assert made == [1]


def test_a_failing_factory_is_the_cause() -> None:
    def make() -> list[int]:
        raise RuntimeError("no disk")

    with pytest.raises(DefinitionError, match="RuntimeError: no disk") as caught:
        read(make)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_state_of_another_class_is_refused() -> None:
    with pytest.raises(DefinitionError, match="makes a value of type Counter, but the handler takes Last"):
        read(Counter, last)

"""What is read from a handler: its shape, its parameters, its types."""

from __future__ import annotations

import functools
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Sequence,
)
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import pytest

from reflow_kafka import Context, Event, State
from reflow_kafka.definition.handlers import factory_parameters, fill_by_name, plain_callable, read_handler
from reflow_kafka.definition.place import Place, callers_place
from reflow_kafka.definition.spec import ANY, Handler, Shape, StateBy

if TYPE_CHECKING:
    from nowhere import Missing

T = TypeVar("T")
NOWHERE = Place("here.py:1")


@dataclass
class Row:
    a: int


def read(target: Any, *data: Any) -> Handler:
    return read_handler(target, data or ("value",), stage="s", place=NOWHERE)


def plain(value): ...


async def coroutine(value: Row) -> Row | None: ...


def generator(value: Row) -> Iterator[Event[Row] | None]:
    yield None


async def async_generator(value: Row) -> AsyncIterator[int]:
    yield 1


def of_generator(value: Row) -> Generator[int, None, None]:
    return (i for i in range(value.a))


def of_async_generator(value: Row) -> AsyncGenerator[int, None]:
    return async_generator(value)  # type: ignore[return-value]


def of_coroutine(value: Row) -> Coroutine[Any, Any, Row | None]:
    return coroutine(value)


def of_awaitable(value: Row) -> Awaitable[Row | None]:
    return coroutine(value)


class Called:
    async def __call__(self, value: Row) -> int: ...


class Built:
    def __init__(self, pool: object, *, size: int = 3) -> None: ...

    def __call__(self, value: Event[Row], ctx: Context) -> Iterator[int]:
        yield 1

    def method(self, value: Row, cache: object = None) -> str: ...


@pytest.mark.parametrize(
    ("target", "shape", "value_type", "result_type"),
    [
        (plain, Shape.PLAIN, ANY, ANY),
        (lambda value: value, Shape.PLAIN, ANY, ANY),
        (coroutine, Shape.COROUTINE, Row, Row),
        (generator, Shape.GENERATOR, Row, Row),
        (async_generator, Shape.ASYNC_GENERATOR, Row, int),
        (of_generator, Shape.GENERATOR, Row, int),
        (of_async_generator, Shape.ASYNC_GENERATOR, Row, int),
        (of_coroutine, Shape.COROUTINE, Row, Row),
        (of_awaitable, Shape.COROUTINE, Row, Row),
        (functools.partial(coroutine), Shape.COROUTINE, Row, Row),
        (functools.partial(functools.partial(generator)), Shape.GENERATOR, Row, Row),
        (Called(), Shape.COROUTINE, Row, int),
        (Built, Shape.GENERATOR, Row, int),
        (Built(None).method, Shape.PLAIN, Row, str),
        (str.upper, Shape.PLAIN, ANY, ANY),
        (max, Shape.PLAIN, ANY, ANY),
    ],
)
def test_shapes_and_types(target: Any, shape: Shape, value_type: Any, result_type: Any) -> None:
    handler = read(target)
    assert (handler.shape, handler.value_type, handler.result_type) == (shape, value_type, result_type)


def test_kinds() -> None:
    kinds = [read(t).kind for t in (plain, Built(None).method, functools.partial(plain), Called(), Built)]
    assert kinds == ["function", "function", "function", "instance", "class"]


def test_wrapped_functions_are_read_through() -> None:
    def timed(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await fn(*args, **kwargs)

        return wrapper

    @timed
    async def add(value: Row, *, pool: object) -> int: ...

    handler = read(add)
    assert (handler.shape, handler.value_type, handler.result_type) == (Shape.COROUTINE, Row, int)
    assert handler.by_name == ("pool",)


def returns(annotation: Any) -> Any:
    def handler(value): ...

    handler.__annotations__["return"] = annotation
    return read(handler).result_type


@pytest.mark.parametrize(
    ("annotation", "result_type"),
    [
        (None, NoneType),
        ("None", NoneType),
        (Row | None, Row),
        (Event[Row], Row),
        (Event, ANY),
        (Event[Row] | int | None, Row | int),
        (Event[Row | None], Row),
        (Any, ANY),
        (int | Any, ANY),
        (T, ANY),
        (list[T], list[T]),
        ("Missing", ANY),
        ("not python", ANY),
        (dict[str, Any], dict[str, Any]),
        (Iterator[int], int),
        (Iterator, ANY),
        (Annotated[int, "positive"], Annotated[int, "positive"]),
    ],
)
def test_result_types(annotation: Any, result_type: Any) -> None:
    assert returns(annotation) == result_type


def test_one_unknown_annotation_does_not_spoil_the_others() -> None:
    def add(value: Row, pool: Missing) -> int: ...

    handler = read(add)
    assert (handler.value_type, handler.result_type, handler.by_name) == (Row, int, ("pool",))


def test_types_local_to_the_function_that_defines_the_flow_are_seen() -> None:
    @dataclass
    class Local:
        b: int

    def add(value: Event[Local], pool: Missing) -> Local: ...

    def place() -> Place:
        return callers_place()

    handler = read_handler(add, ("value",), stage="s", place=place())
    assert (handler.value_type, handler.result_type, handler.takes_event) == (Local, Local, True)
    assert read(add).value_type is ANY


def test_state() -> None:
    def box(total: State[int | None], value: Row) -> None: ...
    def bare(total: State, value: Row) -> None: ...  # type: ignore[type-arg]
    def changed(total: dict[str, Row], event: Event[Row]) -> None: ...

    found = [read(fn, "state", "value") for fn in (box, bare, changed)]
    assert [h.state_by for h in found] == [StateBy.BOX, StateBy.BOX, StateBy.OBJECT]
    assert [h.state_type for h in found] == [int | None, ANY, dict[str, Row]]
    assert [h.takes_event for h in found] == [False, False, True]
    assert read(plain).state_by is StateBy.NONE


def test_optional_values() -> None:
    def add(value: Row | None) -> None: ...

    assert read(add).value_type is Row


def test_by_name() -> None:
    def add(last, value, ctx, *args, pool, size=3, **more): ...

    handler = read(add, "state", "value")
    assert handler.by_name == ("ctx", "pool", "size")
    assert read(lambda *args: None, "state", "value").by_name == ()

    filled, unfilled = fill_by_name(handler, {"ctx", "size", "other"})
    assert (filled.by_name, unfilled) == (("ctx", "size"), ["pool"])
    filled, unfilled = fill_by_name(handler, {"ctx", "pool"})
    assert (filled.by_name, unfilled) == (("ctx", "pool"), [])


def test_constructor_parameters() -> None:
    handler = read(Built)
    assert (handler.by_name, handler.init_by_name) == (("ctx",), ("pool", "size"))
    filled, unfilled = fill_by_name(handler, {"ctx"})
    assert (filled.init_by_name, unfilled) == ((), ["pool"])


def test_partial_arguments_are_not_filled_again() -> None:
    def add(value: Row, pool: object) -> None: ...

    filled, unfilled = fill_by_name(read(functools.partial(add, pool=1)), {"ctx"})
    assert (filled.by_name, unfilled) == ((), [])


def test_factory_parameters() -> None:
    def pool(settings, size=3, *args, **kwargs): ...

    assert factory_parameters(pool) == {"settings": True, "size": False}
    assert factory_parameters(dict) == {}


@pytest.mark.parametrize(
    ("fn", "wrong"),
    [
        (str, None),
        (len, None),
        (lambda value: value, None),
        (functools.partial(lambda a, b: a, 1), None),
        (coroutine, "is async"),
        (async_generator, "is async"),
        (generator, "is a generator"),
        (lambda: 1, "does not take 1 argument"),
        (3, "is 3"),
    ],
)
def test_plain_callables(fn: Any, wrong: str | None) -> None:
    assert plain_callable(fn, 1) == wrong


# ---- lists


def of_values(rows: list[Row]) -> list[int | None]: ...
def of_events(rows: list[Event[Row]]) -> list[Event[int]] | None: ...
def of_a_sequence(rows: Sequence[Row]) -> int: ...
async def awaited(rows: list[Row]) -> list[int]: ...


def generated(rows: list[Row]) -> Iterator[int]:
    yield len(rows)


def unsaid(rows): ...
def one(row: Row) -> list[int]: ...


@pytest.mark.parametrize(
    ("target", "takes_list", "takes_event", "takes", "gives"),
    [
        (of_values, True, False, Row, int),
        (of_events, True, True, Row, int),
        (of_a_sequence, True, False, Row, int),
        (awaited, True, False, Row, int),
        (generated, True, False, Row, int),
        (unsaid, True, False, ANY, ANY),
        (one, False, False, Row, list[int]),
    ],
)
def test_of_a_list_the_types_are_those_of_an_item(
    target: Any, takes_list: bool, takes_event: bool, takes: Any, gives: Any
) -> None:
    handler = read_handler(target, ("value",), lists=True, stage="s", place=NOWHERE)
    assert handler.takes_list is takes_list
    assert handler.takes_event is takes_event
    assert (handler.value_type, handler.result_type) == (takes, gives)


def test_without_a_batch_a_list_is_a_value() -> None:
    handler = read(of_values)
    assert not handler.takes_list
    assert handler.value_type == list[Row]
    assert handler.result_type == list[int | None]

"""What may stand for an argument where a flow is defined: things that fit, and things that never do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Literal

from hypothesis import strategies as st

from reflow_kafka import Batch, Event, Flow, Rate, Retry, State


class Handling:
    def __call__(self, value: Any) -> Any:
        return value


class Unfinished:
    __call__ = None


class Static:
    @staticmethod
    def __call__(value: Any) -> Any:
        return value


class Signed:
    """Its signature is no signature."""

    __signature__ = "nonsense"

    def __call__(self, value: Any) -> Any:
        return value


class Nameless:
    """Claims a name that is no text."""

    __name__ = 5
    __qualname__ = "Nameless"

    def __call__(self, value: Any) -> Any:
        return value


Nameless.__name__ = "Nameless"


def plain(value: Any) -> Any:
    return value


def two(state: Any, value: Any) -> Any:
    return value


def boxed(state: State[int], value: Any) -> Any:
    return value


def needing(value: Any, *, pool: Any) -> Any:
    return value


def generator(value: Any) -> Iterator[Any]:
    yield value


async def waiting(value: Any) -> Any:
    return value


async def stream() -> Any:
    yield 1


def nothing() -> None:
    """Takes no value."""


def positional(value: Any, other: Any, /) -> None:
    """Its second cannot be filled."""


def annotated(annotation: Any, returned: Any) -> Callable[..., Any]:
    """A function with annotations that need not be types."""

    def handler(value: Any) -> Any:
        return value

    handler.__annotations__ = {"value": annotation, "return": returned}
    return handler


class Rude:
    """Cannot be compared or hashed, like an array."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ValueError("do not compare me")


def _ring() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


HANDLERS: list[Any] = [
    *(plain, two, boxed, needing, generator, waiting, stream, nothing, positional),
    *(Handling, Handling(), Unfinished, Static, Static(), Signed, Signed(), Nameless()),
    *(
        print,
        len,
        dict.get,
        int,
        str,
        dict,
        list,
        type,
        super,
        object,
        property,
        "text".upper,
        Handling.__call__,
    ),
    *(lambda: None, lambda v: v, lambda *a, **k: None, functools.partial(plain), functools.partial(two, 1)),
    *(functools.partialmethod(plain), staticmethod(plain), classmethod(plain), property(plain)),
    *(
        Exception,
        Event,
        State,
        Flow,
        Retry,
        Literal,
        Any,
        list[int],
        Callable[..., Any],
        int | str,
        NotImplemented,
    ),
]
ANNOTATIONS: list[Any] = [
    *(3, [], {}, "", "nowhere", "3 +", (), {"a": 1}, print, b"", Ellipsis, object(), Rude()),
    *(int, str, bytes, None, Any, dict, list[int], dict[str, Any], set, complex, type, Callable[..., Any]),
    *(
        Event[int],
        Event,
        State,
        State[int],
        Literal[1],
        Iterator[int],
        Event["Nowhere"],
        int | None,
    ),
    *(list[3], dict[[], 1], Event[Rude], Literal[[]], tuple[()], type[int]),  # type: ignore[misc, valid-type]
]
text = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=6),
    st.sampled_from(
        ["a", "b", "s", "changelog", "progress", "dead-letters", "a.error", "a.", ".", "s.s", "A", "a" * 300]
    ),
)
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 10**400, -(10**400), 2**31, 2**63, float("nan"), float("inf"), True, False]),
)
objects = st.one_of(
    st.none(),
    text,
    numbers,
    st.binary(max_size=3),
    st.sampled_from(
        [
            [],
            {},
            (),
            set(),
            [None],
            ["a", "a"],
            [[]],
            {"a": 1},
            object(),
            Rude(),
            timedelta(-1),
            timedelta.max,
        ]
    ),
    st.sampled_from(
        [Retry, Batch, Rate, Retry(), Batch(), Rate(1), Batch(per_key=True), "thread", "process", "stop"]
    ),
    st.sampled_from(HANDLERS),
    st.builds(annotated, st.sampled_from(ANNOTATIONS), st.sampled_from(ANNOTATIONS)),
)
handlers = st.sampled_from(HANDLERS) | st.builds(
    annotated, st.sampled_from(ANNOTATIONS), st.sampled_from(ANNOTATIONS)
)
states = (
    st.sampled_from(
        [
            dict,
            list,
            int,
            set,
            object,
            lambda: None,
            lambda: {1: 2},
            lambda: {"a": object()},
            lambda: float("nan"),
            lambda: 1 / 0,
            lambda x: x,
            lambda: (1, 2),
            _ring,
            lambda: 10**400,
            lambda: "\ud800",
            Rude,
        ]
    )
    | objects
)

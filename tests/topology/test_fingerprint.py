from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reflow_kafka.topology.fingerprint import fingerprint


def by(field: str) -> Callable[[Any], Any]:
    return lambda value: value[field]


class Colour(enum.Enum):
    RED = 1


class Keys:
    def one(self, value: Any) -> Any:
        return value

    def two(self, value: Any) -> Any:
        return (value,)


@dataclass
class Settings:
    topic: str
    next: Settings | None = None


def versions(*fields: str) -> type:
    return type("Record", (), {"__annotations__": dict.fromkeys(fields, int)})


def test_different_things_differ() -> None:
    things: list[Any] = [
        None,
        True,
        1,
        1.0,
        "1",
        b"1",
        [],
        [1],
        [[1], 2],
        [1, [2]],
        {1},
        {1: 2},
        Any,
        dict,
        dict[str, int],
        dict[str, str],
        int | None,
        Colour,
        Colour.RED,
        by("a"),
        by("b"),
        lambda value: value,
        lambda value: (value,),
        lambda value, more=1: value,
        lambda value, more=2: value,
        functools.partial(by, "a"),
        functools.partial(by, "b"),
        Keys().one,
        Keys().two,
        versions("a"),
        versions("a", "b"),
        Settings("a"),
        Settings("b"),
        len,
        str.upper,
    ]
    assert len({fingerprint(thing) for thing in things}) == len(things)


def test_the_same_is_the_same() -> None:
    for make in (
        lambda: by("a"),
        lambda: Keys().one,
        lambda: versions("a"),
        lambda: functools.partial(by, "a"),
        lambda: {"b": 1, "a": {2, 3}},
        object,
    ):
        assert fingerprint(make()) == fingerprint(make())


def test_what_speaks_of_itself_ends() -> None:
    endless = Settings("a")
    endless.next = endless
    assert fingerprint(endless) == fingerprint(endless)

    def again(n: int) -> int:
        return again(n - 1)

    assert fingerprint(again)

"""Named key-value stores of a stage: what ``stores=`` says of one, and what ``ctx.store(name)`` gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from reflow_kafka.definition.place import callers_place
from reflow_kafka.units import Duration, as_seconds

T = TypeVar("T")


class Store(Protocol[T]):
    """Values by keys of a stage's own choice, in the lane of the event that is handled.

    What an event puts there counts once it is finished; a failing event leaves no trace. A value is stored
    as it is when it is put: to change it, put it again.
    """

    def get(self, key: str) -> T | None:
        """The value of a key, None if there is none."""

    def put(self, key: str, value: T) -> None:
        """Set the value of a key."""

    def delete(self, key: str) -> None:
        """Forget a key."""

    def range(self, start: str = "", end: str | None = None, *, prefix: str = "") -> Iterator[tuple[str, T]]:
        """Keys and values from `start` to before `end` (None: to the last), in the order of the keys.

        With `prefix` only those whose keys begin with it.
        """


@dataclass(frozen=True, slots=True, init=False)
class KeyValue:
    """A named store whose values have this type, for ``stores={"name": KeyValue(Order, ttl=3600)}``.

    With `ttl` a key that was not put for so long by the wall clock is forgotten, at most a sixteenth later.

    Raises:
        DefinitionError: `ttl` is no time.
    """

    type: Any
    ttl: float | None
    """Seconds."""

    def __init__(self, type: Callable[..., Any], *, ttl: Duration | None = None) -> None:
        place = callers_place()
        seconds = None if ttl is None else as_seconds(ttl)
        if seconds is not None and not seconds >= 0.001:
            place.fail(f"KeyValue(ttl={ttl!r}): ttl is a time in seconds or a timedelta, from 1 ms on")
        object.__setattr__(self, "type", type)
        object.__setattr__(self, "ttl", seconds)

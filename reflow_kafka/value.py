"""`State[T]`: the box in which a handler takes an immutable state value."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

S = TypeVar("S")

CLEARED: Final[Any] = object()
"""What a box holds after `clear()`: the key is to be forgotten."""


class State(Generic[S]):
    """Holds the state of one key; read and set it through `value`. In a unit test: ``State(0)``."""

    __slots__ = ("value",)

    def __init__(self, value: S) -> None:
        self.value: S = value

    def clear(self) -> None:
        """Forget the key: its next event starts from the factory's value again."""
        self.value = CLEARED

    def __repr__(self) -> str:
        return "State(<cleared>)" if self.value is CLEARED else f"State({self.value!r})"

"""The state that users keep for a key, or a key and a window: how it is made, handed over, stored (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reflow_kafka.timed.program import Call
from reflow_kafka.value import CLEARED, State


class States:
    """What `state=` of a stage says: objects that code changes in place, or values in a ``State[T]``."""

    def __init__(
        self,
        factory: Callable[[], Any],
        *,
        boxed: bool,
        encode: Callable[[Any], bytes],
        decode: Callable[[bytes], Any],
    ) -> None:
        self.factory = factory
        self.boxed = boxed
        self._decode = decode
        self._encode = encode
        self.encode: Callable[[Any], bytes] = self._unboxed if boxed else encode
        """The bytes of a state; raises ValueError or TypeError if it cannot be encoded."""

    def new(self) -> Any:
        """A fresh state, as code takes it."""
        value = self.factory()
        return State(value) if self.boxed else value

    def holding(self, value: Any) -> Any:
        """A state with this value, as code takes it."""
        return State(value) if self.boxed else value

    def value(self, state: Any) -> Any:
        """The value of a state that code has taken."""
        return state.value if self.boxed else state

    def is_cleared(self, state: Any, call: Call) -> bool:
        """Whether the code that was called with this state has asked to forget it."""
        return call.cleared or (self.boxed and state.value is CLEARED)

    def _unboxed(self, state: Any) -> bytes:
        return self._encode(state.value)

    def decode(self, raw: bytes) -> Any:
        """A state from its bytes, as code takes it.

        Raises:
            ValueError: the bytes are no state of this stage.
        """
        value = self._decode(raw)
        return State(value) if self.boxed else value

"""A piece of the user's code that a timed stage calls: its handler, or what it does when time has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reflow_kafka.definition.spec import Shape
from reflow_kafka.lane.calls import collect, within


@dataclass(frozen=True, slots=True)
class Code:
    """How one piece of code is called, and how it gives its results."""

    function: Callable[..., Any]
    shape: Shape
    by_name: Mapping[str, Any]
    timeout: float | None = None
    """Seconds that one call may take, if it can wait."""

    def call(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """The results of code that does not wait."""
        out = self.function(*arguments, **self.by_name)
        if self.shape is Shape.GENERATOR:
            return list(out)
        return () if out is None else (out,)

    async def call_waiting(self, arguments: Sequence[Any]) -> Sequence[Any]:
        """The results of any code."""
        if not self.shape.suspends:
            return self.call(arguments)
        made = self.function(*arguments, **self.by_name)
        work = collect(made) if self.shape is Shape.ASYNC_GENERATOR else made
        out = await (work if self.timeout is None else within(self.timeout, work))
        return out if self.shape is Shape.ASYNC_GENERATOR else (out,)

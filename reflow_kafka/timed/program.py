"""What a stage with windows, timers, joins and the like does with its events: a *program* (pure).

A program decides from its store, an event and the time. What is to be done it gives as a generator of
*acts*: call the user's code, or emit an event. Whoever drives it calls the code, waits for it if need be, and
goes on with the generator when it has succeeded; if it has not, the generator is closed and everything that
it has put on its shelves since it began is dropped. So a program is written as if nothing could fail, and it
knows nothing of waiting.

    for act in program.event(incoming): ...         # an event
    while (due := program.due(watermark, now)): ... # what time has brought

Everything that a program remembers lies on shelves (`state.shelf`): it is given the same ones after a
restart, and may keep nothing else but what it can find there again (`rewound` tells it to look again).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from reflow_kafka.event import Event
from reflow_kafka.log.api import Headers
from reflow_kafka.units import LONG_AGO, NEVER

__all__ = [
    "LONG_AGO",
    "NEVER",
    "NO_HEADERS",
    "Act",
    "Apart",
    "Call",
    "Choosy",
    "Direct",
    "Due",
    "Emit",
    "Incoming",
    "Paired",
    "Program",
]

NO_HEADERS: Final[Headers] = []
"""Never changed."""


@dataclass(slots=True)
class Incoming:
    """An event as it enters a stage."""

    key: bytes | None
    value: Any
    timestamp: int
    upstream: str
    """Name of the stage it comes from (for a topic read directly: of the source)."""
    id: str
    """The same for the same event, whatever is restarted."""
    headers: Headers = field(default_factory=lambda: NO_HEADERS)
    side: int = 0
    """Which of the inputs it came by: the place of its upstream in the stage's `after`."""


@dataclass(slots=True)
class Call:
    """Call the user's code; what it returns is emitted, and inherits what stands here.

    The generator that gave it goes on when the code has succeeded.
    """

    arguments: tuple[Any, ...]
    key: bytes | None
    timestamp: int
    headers: Headers = field(default_factory=lambda: NO_HEADERS)
    code: str = "handler"
    """Which code: ``handler``, ``on_close``, ``on_timer``."""
    cleared: bool = False
    """Set by the driver after the call: the code has asked to forget the state."""
    quiet: bool = False
    """What it returns is dropped: the code is called for what it does to a state."""
    span: tuple[int, int] | None = None
    """Start and end of the window that it is called for, as `Window` has them."""


@dataclass(slots=True)
class Emit:
    """Emit an event without asking anybody; `event` overrides what else stands here, as a handler's does."""

    event: Event[Any] | Any
    key: bytes | None
    timestamp: int
    headers: Headers = field(default_factory=lambda: NO_HEADERS)


Act = Call | Emit


@dataclass(slots=True)
class Due:
    """Something whose time has come."""

    id: bytes
    """The same at each try: after a failure it is put off under this name."""
    at: int
    """When its time was: no event that it leads to is older."""
    acts: Iterator[Act]
    key: bytes | None = None
    side: int = 0
    """Of which side the event is that has waited for it, if one has."""


class Program(Protocol):
    """What a stage does, in one lane."""

    def event(self, incoming: Incoming, watermark: int, now: int) -> Iterator[Act]:
        """What an event leads to; `watermark` and `now` (wall clock) are epoch ms."""

    def due(self, watermark: int, now: int, put_off: frozenset[bytes] = frozenset()) -> Due | None:
        """The first thing whose time has come, but for those that are put off. Called until there is none."""

    def wake(self, now: int) -> int | None:
        """When by the wall clock something is due next (epoch ms), None if nothing is."""

    def tell(self, id: bytes) -> str:
        """What something due is, for people: its kind, and which of those of its key."""

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """Forget something due that cannot be done: the key and the value that its dead letter tells.

        Bytes are the value of an event as it came.
        """

    def holds(self, watermark: int) -> int:
        """The oldest timestamp that something may still be emitted with, given what is open at `watermark`.

        It bounds what is told to the stages that follow; without anything open, the watermark itself.
        """

    def pending(self) -> bool:
        """Whether time alone brings something that is emitted, be it long from now.

        What needs more events, or the end of a run, does not count: it may wait for ever.
        """

    def rewound(self) -> None:
        """The shelves hold something else now: forget what was derived from them."""


@runtime_checkable
class Choosy(Protocol):
    """A program that does not take any event at any time."""

    def takes(self, side: int, keys: Sequence[bytes | None]) -> int:
        """How many of the next events of a side may be taken now; 0: something of another side comes first.

        Whoever drives it takes one all the same if all sides would wait, or if nothing more comes.
        """


@runtime_checkable
class Direct(Protocol):
    """A program most of whose events lead to one call of the handler, with a state that is decoded already.

    Such an event needs no step: ``find``, the call, then ``keep`` or ``lose``. In W3 of the benchmarks (a
    windowed mean) that saves a third of the CPU time.
    """

    def find(self, key: bytes, timestamp: int, watermark: int) -> Any | None:
        """The state that the handler is to be called with; None: let `event` decide."""

    def keep(self, state: Any) -> None:
        """The handler has changed the state that was found last.

        Raises:
            ValueError, TypeError: it cannot be encoded; `lose` it.
        """

    def lose(self) -> None:
        """The handler has failed: the state is what it was before."""


@runtime_checkable
class Paired(Protocol):
    """A program whose events belong together one by one."""

    def gone(self, incoming: Incoming) -> Iterator[Act]:
        """An event has been given up: keep its place. Its value is not told: perhaps it cannot be read."""


@runtime_checkable
class Apart(Protocol):
    """A program for which the time of one side counts by itself, too."""

    @property
    def apart(self) -> int:
        """Which side."""

    def heard(self, until: int) -> bool:
        """No event of that side is expected any more that is older; `NEVER`: none. Whether this is new."""

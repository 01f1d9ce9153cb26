"""What is forgotten when nobody has touched it for so long, by the wall clock (pure).

On the shelf of touches (``l``) stands when something is to be forgotten, on the agenda (``x``) what is to be
forgotten then. Something touched again and again would move there each time; so it is given a sixteenth more
than its time to live, and moved only when less than its time to live is left. Nothing is forgotten before its
time, nor later than a sixteenth after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from reflow_kafka.state.ordered import number, read_number
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.timed.agenda import AHEAD, Agenda
from reflow_kafka.timed.program import NEVER, Act, Due


class Expiry:
    """Tells when something is over, and has it forgotten."""

    def __init__(self, times: Shelf[bytes], touches: Shelf[bytes], forget: Callable[[bytes], None]) -> None:
        self.now = 0
        """The wall clock (epoch ms); set at the beginning of each step."""
        self._agenda = Agenda(times)
        self._touches = touches
        self._forget = forget

    def touch(self, what: bytes, ttl: int) -> None:
        """Let something live for at least `ttl` ms from now."""
        at = self._end(what)
        latest = min(self.now + ttl + ttl // 16, NEVER - 1)
        if at is not None:
            if self.now + ttl <= at <= latest:
                return
            self._agenda.remove(at, what)
        self._agenda.add(latest, what)
        self._touches.put(what, number(latest))

    def over(self, what: bytes) -> bool:
        """Whether its time is over: then it counts as forgotten, even if it still lies there."""
        at = self._end(what)
        return at is not None and at <= self.now

    def drop(self, what: bytes) -> None:
        """It is forgotten already."""
        at = self._end(what)
        if at is not None:
            self._agenda.remove(at, what)
            self._touches.delete(what)

    def _end(self, what: bytes) -> int | None:
        found = self._touches.get(what)
        return None if found is None else read_number(found)

    def due(self, now: int) -> Due | None:
        """Forgets some of what is over."""
        if self._agenda.first(now) is None:
            return None
        return Due(b"x", NEVER, self._sweep(list(islice(self._agenda.entries(now), AHEAD))))

    def _sweep(self, keys: list[bytes]) -> Iterator[Act]:
        for key in keys:
            _, what = self._agenda.read(key)
            self.drop(what)
            self._forget(what)
        yield from ()

    def wake(self) -> int | None:
        """When the next thing is over."""
        first = self._agenda.first()
        return None if first is None else self._agenda.read(first)[0]

    def rewound(self) -> None:
        """The shelves hold something else now."""
        self._agenda.rewound()

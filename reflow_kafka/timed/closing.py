"""What is to be closed in order of time: found on a shelf whose keys begin with a time (pure).

Each is handed out once it is ripe, and is gone from the shelf when its step has succeeded. What is gone is
never looked for again, however much there is: keys are read some hundred at a time, each time from where the
last reading ended. So it has to be told of what is put on the shelf.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, Final

from reflow_kafka.state.ordered import number, read_number
from reflow_kafka.state.shelf import Shelf
from reflow_kafka.timed.program import LONG_AGO, NEVER

AT_ONCE: Final = 500
"""Keys that are read at a time."""
ALL: Final = NEVER + 1
"""The bound below which all times lie."""


class Closing:
    """What of a shelf is ripe; keys are a time (`ordered.number`) and what else makes them different."""

    def __init__(self, shelf: Shelf[Any]) -> None:
        self._shelf = shelf
        self._ahead: deque[bytes] = deque()
        self._given: list[bytes] = []
        self._failed: dict[bytes, None] = {}
        self.rewound()

    def rewound(self) -> None:
        """The shelf holds something else now: look again from its beginning."""
        self._ahead.clear()
        """Keys that were ripe when they were read."""
        self._given.clear()
        """Keys handed out last: still there if their step has failed."""
        self._failed.clear()
        """Keys handed out earlier that are still there."""
        self._from = b""
        """Where to read on: of what lies before, nothing is there but the above."""
        self._earliest = LONG_AGO
        """What lies from there on has no earlier time; `LONG_AGO`: it has not been looked yet."""
        self._bound = LONG_AGO

    def put(self, key: bytes) -> None:
        """Something is on the shelf now, or will be if this step succeeds."""
        if key < self._from:
            insort(self._ahead, key)
        elif (time := read_number(key)) < self._earliest:
            self._earliest = time

    def ripe(self, bound: int, put_off: AbstractSet[bytes], most: int = 1) -> list[bytes]:
        """The first keys with a time before `bound`, but for those that are put off: at most so many.

        It is to be asked between steps, with a bound that does not fall. What others than its step take
        from the shelf may still be among them.
        """
        if bound < self._bound:
            self.rewound()
        self._bound = bound
        self._settle()
        found = list(islice((key for key in self._failed if key not in put_off), most))
        for key in found:
            del self._failed[key]
        while len(found) < most and (self._ahead or self._read(bound)):
            found.append(self._ahead.popleft())
        self._given += found
        return found

    def gone(self, key: bytes) -> None:
        """This one, which had failed, will not come again."""
        self._failed.pop(key, None)

    def oldest(self) -> int | None:
        """The time of the first that is on the shelf, ripe or not; None if nothing is.

        It may be asked in the middle of a step: what was handed out counts until that has succeeded.
        """
        known = [read_number(key) for key in self._failed]
        known += [read_number(key) for key in self._given if self._shelf.raw(key) is not None]
        if self._ahead:
            known.append(read_number(self._ahead[0]))
        elif (following := self.following()) is not None:
            known.append(following)
        return min(known, default=None)

    def following(self) -> int | None:
        """The time of the next that will be ripe, None if there is nothing; not later than it really is."""
        if self._earliest == LONG_AGO:
            self._look(self._from)
        return None if self._earliest >= ALL else self._earliest

    def _settle(self) -> None:
        """Find out which of those handed out are still there."""
        for key in self._given:
            if key in self._shelf:
                self._failed[key] = None
        self._given.clear()

    def _read(self, bound: int) -> bool:
        """Read on before `bound`; whether there is something."""
        if self._earliest >= bound:
            return False
        end = None if bound >= ALL else number(bound)
        self._ahead.extend(islice(self._shelf.keys(self._from, end), AT_ONCE))
        if self._ahead:
            self._from, self._earliest = self._ahead[-1] + b"\x00", LONG_AGO
            return True
        if end is None:
            self._earliest = ALL
        else:
            self._from = max(self._from, end)
            self._look(self._from)
        return False

    def _look(self, start: bytes) -> None:
        first = self._shelf.first(start)
        self._earliest = ALL if first is None else read_number(first)

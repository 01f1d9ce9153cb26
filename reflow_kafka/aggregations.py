"""Aggregations: what ``flow.aggregate(…, of={"mean": Mean("temp_f")})`` makes of the values of a key.

`of` says what is aggregated: a field's name, a function of the value, or nothing for the value itself. Where
it is None nothing is counted; a field that is missing makes the event fail. What is kept of a value is what
JSON makes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from reflow_kafka.definition.handlers import wrong_key_of
from reflow_kafka.definition.place import Place, callers_place
from reflow_kafka.serde.json import to_plain
from reflow_kafka.serde.keys import KeyOf, field_getter


@runtime_checkable
class Aggregation(Protocol):
    """One aggregation; write your own with these four methods. It may keep nothing itself.

    A state is something that JSON gives back as it was: None, numbers, text, lists, dicts.
    """

    def make(self) -> Any:
        """The state before the first value."""

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        """The state with one more value (what the stage gets, whole); it may be the given one, changed."""

    def merge(self, state: Any, later: Any) -> Any:
        """One state of those of two sessions that have become one; it may be the first, changed."""

    def result(self, state: Any) -> Any:
        """What is emitted."""


class Aggregated:
    """What ready-made aggregations share: they find in a value what is aggregated."""

    by_time = False
    """Whether the time of an event matters."""

    def __init__(self, of: KeyOf | None = None) -> None:
        self._take(of, callers_place())

    def _take(self, of: Any, place: Place) -> None:
        self._get = _getter(of, type(self).__name__, "of", place)

    def make(self) -> Any:
        return None

    def result(self, state: Any) -> Any:
        return state


class Count(Aggregated):
    """How many events there were; with `of` those where it is not None."""

    def __init__(self, of: KeyOf | None = None) -> None:
        self._take(of, callers_place())
        self._all = of is None

    def make(self) -> Any:
        return 0

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        return state + 1 if self._all or self._get(value) is not None else state

    def merge(self, state: Any, later: Any) -> Any:
        return state + later


class Sum(Aggregated):
    """The sum; 0 of nothing."""

    def make(self) -> Any:
        return 0

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        return state if found is None else state + number(found)

    def merge(self, state: Any, later: Any) -> Any:
        return state + later


class Mean(Aggregated):
    """The mean; None of nothing."""

    def make(self) -> Any:
        return [0, 0]

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        if found is not None:
            state[1] += number(found)
            state[0] += 1
        return state

    def merge(self, state: Any, later: Any) -> Any:
        return [state[0] + later[0], state[1] + later[1]]

    def result(self, state: Any) -> Any:
        count, total = state
        return total / count if count else None


class Min(Aggregated):
    """The smallest number, or the first text in alphabetical order; None of nothing."""

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        if found is None:
            return state
        _ordered(found)
        return found if state is None or found < state else state

    def merge(self, state: Any, later: Any) -> Any:
        return state if later is None or (state is not None and state <= later) else later


class Max(Aggregated):
    """The largest number, or the last text in alphabetical order; None of nothing."""

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        if found is None:
            return state
        _ordered(found)
        return found if state is None or found > state else state

    def merge(self, state: Any, later: Any) -> Any:
        return state if later is None or (state is not None and state >= later) else later


class First(Aggregated):
    """The first to arrive; of merged sessions that of the older one."""

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        return _plain(self._get(value)) if state is None else state

    def merge(self, state: Any, later: Any) -> Any:
        return later if state is None else state


class Last(Aggregated):
    """The last to arrive; of merged sessions that of the younger one."""

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        return state if found is None else _plain(found)

    def merge(self, state: Any, later: Any) -> Any:
        return state if later is None else later


class Earliest(Aggregated):
    """That of the oldest event by its timestamp; of several the first to arrive."""

    by_time = True

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        if found is None or (state is not None and state[0] <= timestamp):
            return state
        return [timestamp, _plain(found)]

    def merge(self, state: Any, later: Any) -> Any:
        return state if later is None or (state is not None and state[0] <= later[0]) else later

    def result(self, state: Any) -> Any:
        return None if state is None else state[1]


class Latest(Aggregated):
    """That of the youngest event by its timestamp; of several the last to arrive."""

    by_time = True

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        if found is None or (state is not None and state[0] > timestamp):
            return state
        return [timestamp, _plain(found)]

    def merge(self, state: Any, later: Any) -> Any:
        return state if later is None or (state is not None and state[0] > later[0]) else later

    def result(self, state: Any) -> Any:
        return None if state is None else state[1]


class Collect(Aggregated):
    """All, in order of arrival; of merged sessions first those of the older one.

    All of them are read and written with each event, and a state must fit into a record of its changelog:
    this is for dozens, not for thousands.
    """

    def make(self) -> Any:
        return []

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        if found is not None:
            state.append(_plain(found))
        return state

    def merge(self, state: Any, later: Any) -> Any:
        return [*state, *later]


class TopK(Aggregated):
    """The `k` largest, the largest first; with `by` those for which it is largest.

    Of equal ones those that came first are kept.
    """

    def __init__(self, k: int, of: KeyOf | None = None, *, by: KeyOf | None = None) -> None:
        place = callers_place()
        if type(k) is not int or k < 1:
            place.fail(f"TopK(k={k!r}): k is how many are kept: a whole number from 1 on")
        self._take(of, place)
        self._k = k
        self._by = None if by is None else _getter(by, "TopK", "by", place)

    def make(self) -> Any:
        return []

    def add(self, state: Any, value: Any, timestamp: int) -> Any:
        found = self._get(value)
        rank = found if self._by is None else self._by(value)
        if found is None or rank is None:
            return state
        _ordered(rank)
        at = len(state)
        while at and state[at - 1][0] < rank:
            at -= 1
        if at < self._k:
            state.insert(at, [rank, _plain(found)])
            del state[self._k :]
        return state

    def merge(self, state: Any, later: Any) -> Any:
        both = [*state, *later]
        both.sort(key=itemgetter(0), reverse=True)  # equal ones stay in order
        return both[: self._k]

    def result(self, state: Any) -> Any:
        return [found for _, found in state]


# ---- what they share


def _getter(of: Any, kind: str, option: str, place: Place) -> Callable[[Any], Any]:
    if of is None:
        return _itself
    if wrong := wrong_key_of(of):
        wanted = "a field's name or a plain function of the value"
        place.fail(f"{kind}({option}=): {option} is {wanted}; it {wrong:.100}")
    getter: Callable[[Any], Any] = field_getter(of, "field") if isinstance(of, str) else of
    return getter


def _itself(value: Any) -> Any:
    return value


_NUMBERS: Final = (int, float)
_ORDERED: Final = (int, float, str)


def number(found: Any) -> Any:
    """A number, as it is.

    Raises:
        ValueError: it is none, or not finite.
    """
    if type(found) not in _NUMBERS or found - found != 0:  # infinities and NaN have no difference
        raise ValueError(f"found {found!r:.100}, wanted a finite number (int or float)")
    return found


def _ordered(found: Any) -> None:
    if type(found) not in _ORDERED:
        raise ValueError(f"found {found!r:.100}, wanted a number (int or float) or text to compare")


_SCALARS: Final = frozenset((int, float, str, bool, type(None)))


def _plain(found: Any) -> Any:
    """What JSON makes of it: a state must come back as it was."""
    return found if type(found) in _SCALARS else msgspec.to_builtins(found, enc_hook=to_plain, str_keys=True)

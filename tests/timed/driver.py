"""Drives a program as a lane does, with plain functions for the user's code.

A step that fails leaves no trace: what it called may have changed states in place, and what it would have
emitted is gone. Nothing is stored before `commit`; `restart` makes a new program over the same stores.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reflow_kafka.event import INHERITED, Event
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.shelf import MakeShelf, Shelf, Shelves
from reflow_kafka.state.store import LaneStores, StoreMark
from reflow_kafka.timed.program import LONG_AGO, Act, Call, Direct, Emit, Incoming, Program

STORE = "stage"
"""The store that programs get."""

Make = Callable[[LaneStores, Shelves], Program]
"""Makes a program whose shelves lie in `STORE`."""


class Failure(Exception):
    """What code raises that was told to fail."""


@dataclass(frozen=True, slots=True)
class Out:
    """An event that was emitted by a step that has succeeded."""

    value: Any
    key: bytes | None = field(compare=False)
    timestamp: int = field(compare=False)
    to: str | None = None
    headers: Any = field(default=(), compare=False)


class Driver:
    """One lane's worth of a stage.

    `code` maps ``handler``, ``on_close``, ``on_timer`` to functions that return None, a value, an `Event`, or
    an iterator of these. They are called with the arguments of the call; one that has a parameter ``call``
    gets the `Call` by that name (set its `cleared` to forget the state).
    """

    def __init__(self, make: Make, **code: Callable[..., Any]) -> None:
        self._make = make
        self._code = {name: _taking_call(function) for name, function in code.items()}
        self._backend = MemoryBackend()
        self.out: list[Out] = []
        """What all steps that have succeeded have emitted, in order."""
        self.failures: list[Exception] = []
        """What made steps fail, in order."""
        self.watermark = LONG_AGO
        self.now = 0
        self.put_off: set[bytes] = set()
        self.calls = 0
        """How often code was called."""
        self.in_short = False
        """Whether a `Direct` program is asked for a short way first."""
        self._fail_in: int | None = None
        self._events = 0
        self._open()

    def _open(self) -> None:
        self.stores = self._backend.open("flow", 0, [STORE])
        self.shelves = Shelves()
        self.program = self._make(self.stores, self.shelves)

    # ---- steps

    def event(
        self,
        value: Any,
        *,
        key: bytes | None = b"key",
        timestamp: int = 0,
        upstream: str = "before",
        side: int = 0,
        id: str | None = None,
        headers: Any = (),
        fail: int | None = None,
    ) -> list[Out] | None:
        """What an event leads to, None if its step has failed; with `fail=n` its n-th call (1, 2, …) does."""
        self._events += 1
        incoming = Incoming(key, value, timestamp, upstream, id or f"event-{self._events}", headers, side)
        if self.in_short and isinstance(self.program, Direct) and key is not None:
            state = self.program.find(key, timestamp, self.watermark)
            if state is not None:
                return self._short(self.program, state, incoming, fail)
        return self._step(self.program.event(incoming, self.watermark, self.now), fail)

    def advance(
        self,
        watermark: int | None = None,
        *,
        now: int | None = None,
        fail: int | None = None,
        most: int | None = None,
    ) -> list[Out]:
        """Move the clocks and do all that is due (`most`: at most so much); what fails waits for `retry`.

        With `fail=n` the n-th call of all that is due fails.
        """
        self.watermark = self.watermark if watermark is None else watermark
        self.now = self.now if now is None else now
        found: list[Out] = []
        calls, done = self.calls, 0
        while (
            done != most
            and (due := self.program.due(self.watermark, self.now, frozenset(self.put_off))) is not None
        ):
            assert due.id not in self.put_off, "what is put off is due again"
            done += 1
            left = None if fail is None or fail <= self.calls - calls else fail - (self.calls - calls)
            out = self._step(due.acts, left)
            if out is None:
                self.put_off.add(due.id)
            else:
                found += out
        return found

    def retry(self) -> list[Out]:
        """Do what was put off."""
        self.put_off.clear()
        return self.advance()

    def give_up(self, id: bytes) -> tuple[bytes | None, Any]:
        """Give up something that was put off; what its dead letter tells."""
        told = self.program.give_up(id)
        self.shelves.encode()
        self.shelves.accept()
        self.put_off.discard(id)
        return told

    def _step(self, acts: Iterator[Act], fail: int | None) -> list[Out] | None:
        self._fail_in = fail
        out: list[Out] = []
        try:
            for act in acts:
                out += self._carried_out(act)
            self.shelves.encode()
        except Exception as error:
            acts.close()  # type: ignore[attr-defined]
            self.shelves.drop()
            self.failures.append(error)
            return None
        self.shelves.accept()
        self.out += out
        return out

    def _short(self, program: Direct, state: Any, incoming: Incoming, fail: int | None) -> list[Out] | None:
        self._fail_in = fail
        try:
            out = self._carried_out(
                Call((state, incoming.value), incoming.key, incoming.timestamp, incoming.headers)
            )
            program.keep(state)
        except Exception as error:
            program.lose()
            self.failures.append(error)
            return None
        self.out += out
        return out

    def _carried_out(self, act: Act) -> list[Out]:
        if isinstance(act, Emit):
            return [_out(act.event, act)]
        self.calls += 1
        code, takes_call = self._code[act.code]
        result = code(*act.arguments, call=act) if takes_call else code(*act.arguments)
        results = list(result) if inspect.isgenerator(result) else [result]
        if self._fail_in is not None:
            self._fail_in -= 1
            if self._fail_in == 0:
                raise Failure(act.code)
        return [] if act.quiet else [_out(r, act) for r in results if r is not None]

    # ---- commits and crashes

    def commit(self) -> Mapping[str, Mapping[bytes, bytes | None]]:
        """Store what the steps so far have changed; what that is."""
        changes = self.shelves.snapshot()
        self.stores.write({store: found.items() for store, found in changes.items()}, self._mark())
        self.shelves.settled()
        return changes

    def restart(self) -> None:
        """A new program over what was committed; events since then are for the test to send again."""
        self.stores.close()
        self.put_off.clear()
        self._open()

    def rewind(self) -> None:
        """Go back to the last commit with the same program, as after a failed one."""
        self.shelves.rewind()
        self.program.rewound()
        self.put_off.clear()

    def stored(self) -> dict[bytes, bytes]:
        """All that is in the store, after a commit."""
        self.commit()
        return dict(self.stores.range(STORE, b""))

    def _mark(self) -> StoreMark:
        return StoreMark("incarnation", {STORE: 1}, 0)


def shelf_of(stores: LaneStores, shelves: Shelves) -> MakeShelf:
    """For programs that make their shelves themselves."""
    return lambda prefix, encode, decode: shelves.add(Shelf(stores, STORE, prefix, encode, decode))


def values(out: Sequence[Out] | None) -> list[Any]:
    """The values of what was emitted to the main output."""
    return [event.value for event in out or () if event.to is None]


def _taking_call(function: Callable[..., Any]) -> tuple[Callable[..., Any], bool]:
    return function, "call" in inspect.signature(function).parameters


def _out(result: Any, act: Call | Emit) -> Out:
    if not isinstance(result, Event):
        return Out(result, act.key, act.timestamp, None, act.headers)
    return Out(
        result.value,
        act.key if result._key is INHERITED else result._key,
        act.timestamp if result._timestamp is INHERITED else result._timestamp,
        result.to,
        act.headers if result._headers is INHERITED else result._headers,
    )

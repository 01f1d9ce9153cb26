"""For tests of one handler, which is a plain function: what it takes as `ctx`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from reflow_kafka.context import Context
from reflow_kafka.errors import UsageError
from reflow_kafka.event import NO_HEADERS
from reflow_kafka.serde.keys import encode_key
from reflow_kafka.timers import Timer
from reflow_kafka.units import LONG_AGO, Clock, Instant, epoch_ms

NO_STORES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})


class HandlerContext(Context):
    """A context that tells what a handler has asked of it."""

    __slots__ = ("_notes",)

    def __init__(self, flow: str, stage: str, lane: int, notes: Notes) -> None:
        super().__init__(flow, stage, lane)
        self._time = self._notes = notes

    @property
    def timers(self) -> list[Timer]:
        """The timers that are set, the next one first."""
        return sorted(self._notes.timers.values(), key=lambda timer: (timer.at, timer.name))

    @property
    def cleared(self) -> bool:
        """Whether the state is to be forgotten (`clear_state`)."""
        return self._cleared


def context(
    *,
    key: object = None,
    timestamp: Instant = 0,
    headers: Mapping[str, bytes] = NO_HEADERS,
    upstream: str = "",
    watermark: Instant | None = None,
    now: Instant = 0,
    stores: Mapping[str, Mapping[str, Any]] = NO_STORES,
    flow: str = "test",
    stage: str = "test",
    lane: int = 0,
    attempt: int = 1,
) -> HandlerContext:
    """A `Context` as a handler gets it: ``assert visit(State(0), {...}, ctx=context(key="ada")) == ...``.

    Args:
        key, timestamp, headers, upstream: of the event.
        watermark: how far event time has come (nobody knows).
        now: the wall clock, for timers.
        stores: named stores, and what they hold.
        flow, stage, lane, attempt: where the handler runs, and for the how-many-th time.
    """
    at = epoch_ms(timestamp)
    made = HandlerContext(flow, stage, lane, Notes(at, epoch_ms(now), stores))
    made.key_bytes = encode_key(key)
    made.timestamp = at
    made.watermark = LONG_AGO if watermark is None else epoch_ms(watermark)
    made.upstream = upstream
    made.attempt = attempt
    made._headers = list(headers.items())
    return made


class Notes:
    """Timers and stores of a test; see `TimeBook`."""

    def __init__(self, timestamp: int, now: int, stores: Mapping[str, Mapping[str, Any]]) -> None:
        self.timers: dict[str, Timer] = {}
        self._times = {"event-time": timestamp, "wall-clock": now}
        self._stores = {name: DictStore(values) for name, values in stores.items()}

    def timer(self, name: str, clock: Clock, at: int | None, delay: int) -> None:
        """Note a timer."""
        self.timers[name] = Timer(name, self._times[clock] + delay if at is None else at, clock)

    def cancel_timer(self, name: str) -> None:
        """Forget a timer."""
        self.timers.pop(name, None)

    def store(self, name: str) -> DictStore:
        """A named store."""
        if name not in self._stores:
            raise UsageError(f'found no store {name!r}, wanted context(stores={{"{name}": {{}}}})')
        return self._stores[name]


class DictStore:
    """A store in a dict; see `reflow_kafka.stores.Store`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)

    def get(self, key: str) -> Any:
        """The value of a key, None if there is none."""
        return self.values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Set the value of a key."""
        self.values[key] = value

    def delete(self, key: str) -> None:
        """Forget a key."""
        self.values.pop(key, None)

    def range(
        self, start: str = "", end: str | None = None, *, prefix: str = ""
    ) -> Iterator[tuple[str, Any]]:
        """Keys and values from `start` to before `end`, those that begin with `prefix`."""
        found = sorted(self.values.items())
        yield from (
            (k, v) for k, v in found if k >= start and (end is None or k < end) and k.startswith(prefix)
        )

"""What a handler can ask for beside its data: the parameter named `ctx`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reflow_kafka.errors import UsageError
from reflow_kafka.event import NO_HEADERS
from reflow_kafka.serde.keys import decode_key
from reflow_kafka.stores import Store
from reflow_kafka.timers import TimeBook, time_of
from reflow_kafka.units import LONG_AGO, Clock, Duration, Instant
from reflow_kafka.windows import Window


class Context:
    """The event being handled and where; filled afresh for each event, not to be kept after it."""

    __slots__ = (
        "_cleared",
        "_headers",
        "_id",
        "_offset",
        "_path",
        "_span",
        "_time",
        "_topic",
        "attempt",
        "flow",
        "key_bytes",
        "lane",
        "log",
        "stage",
        "timestamp",
        "upstream",
        "watermark",
    )

    def __init__(self, flow: str = "", stage: str = "", lane: int = 0) -> None:
        self.flow = flow
        self.stage = stage
        self.lane = lane
        self.log = _logger(flow, stage, lane)
        self.key_bytes: bytes | None = None
        """The raw key, None if the event has none."""
        self.attempt = 1
        """Which try this is: 1, and one more after each failure."""
        self.timestamp = -1
        """Event time in epoch milliseconds."""
        self.upstream = ""
        """Name of the stage the event comes from."""
        self.watermark = LONG_AGO
        """No older event is expected (epoch ms), as far as a stage with windows or timers knows."""
        self._headers: object = ()
        self._id = ""
        self._topic = ""
        self._offset = -1
        self._path = ""
        self._cleared = False
        self._span: tuple[int, int] | None = None
        self._time: TimeBook | None = None
        """Keeps timers and stores, if the stage has some."""

    @property
    def key(self) -> str:
        """The key as text, ``""`` if absent."""
        return "" if self.key_bytes is None else decode_key(self.key_bytes)

    @property
    def time(self) -> datetime:
        """Event time as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.timestamp / 1000, UTC)

    @property
    def headers(self) -> Mapping[str, bytes]:
        """The event's headers by name; of a repeated name the last value."""
        return dict(self._headers) if self._headers else NO_HEADERS  # type: ignore[call-overload]

    @property
    def window(self) -> Window | None:
        """The window that the code is called for, of a stage with windows."""
        return None if self._span is None else Window(*self._span, self.key)

    @property
    def id(self) -> str:
        """An idempotency key: the same for the same event, whatever is restarted."""
        return self._id or f"{self._topic}/{self.lane}/{self._offset}{self._path}"

    def fresh(self) -> Context:
        """Another one for the same stage and lane, where several events are handled at once."""
        context = Context.__new__(Context)
        context.flow, context.stage, context.lane, context.log = self.flow, self.stage, self.lane, self.log
        context._path = context._id = ""
        context.watermark = LONG_AGO
        context._cleared = False
        context._span = None
        context._time = self._time
        return context

    def clear_state(self) -> None:
        """Forget the state of this event's key once the handler has finished."""
        self._cleared = True

    # ---- timers and stores

    def timer(
        self, name: str, *, clock: Clock, at: Instant | None = None, delay: Duration | None = None
    ) -> None:
        """Set a timer of this event's key: `on_timer=` of the stage is called when its time has come.

        It takes the place of the key's timer of the same name, if there is one. It is stored with the state,
        so it outlives restarts, and fires once; one that is set for the past fires at once.

        Args:
            name: what to know it by, and to cancel it.
            clock: ``"event-time"``: it fires when no event is expected any more that is older than its time;
                ``"wall-clock"``: when its time has come.
            at: for when: epoch milliseconds or a datetime.
            delay: or how long from now: by event time after the event's own time; seconds or a timedelta.

        Raises:
            UsageError: something of it makes no sense, or the stage has no ``on_timer=``.
        """
        self._book("timer").timer(name, clock, *time_of(name, clock, at, delay))

    def cancel_timer(self, name: str) -> None:
        """Forget a timer of this event's key, if there is one of this name."""
        self._book("cancel_timer").cancel_timer(name)

    def store(self, name: str) -> Store[Any]:
        """A store that ``stores=`` of the stage names.

        Raises:
            UsageError: there is none of this name.
        """
        return self._book("store").store(name)

    def _book(self, asked: str) -> TimeBook:
        if self._time is None:
            wanted = 'stores={"name": dict}' if asked == "store" else "on_timer="
            raise UsageError(
                f"ctx.{asked}(...): stage {self.stage!r} has none; give it {wanted} (not beside window= nor "
                "in joins, gather and zip: let a stage of its own follow)"
            )
        return self._time

    def __getstate__(self) -> list[object]:
        """What goes along to a handler in another process; the logger is found there by its name."""
        return [getattr(self, name, None) for name in _CARRIED]

    def __setstate__(self, state: list[object]) -> None:
        for name, value in zip(_CARRIED, state, strict=True):
            setattr(self, name, value)
        self.log = _logger(self.flow, self.stage, self.lane)


_CARRIED = tuple(name for name in Context.__slots__ if name != "log")


@functools.lru_cache(maxsize=4096)
def _logger(flow: str, stage: str, lane: int) -> logging.LoggerAdapter[logging.Logger]:
    logger = logging.getLogger(f"reflow_kafka.flow.{flow}.{stage}")
    return logging.LoggerAdapter(logger, {"flow": flow, "stage": stage, "lane": lane})

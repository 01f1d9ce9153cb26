"""Bringing events together again: `gather`, `zip`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, overload

from reflow_kafka.definition.gathers import gather_spec, zip_spec
from reflow_kafka.definition.place import callers_place
from reflow_kafka.handle import Stage
from reflow_kafka.serde.keys import KeyOf
from reflow_kafka.surface.adding import Surface
from reflow_kafka.surface.typed import F, TimedOptions, Upstream, Upstreams
from reflow_kafka.units import Clock, Duration


class Gathers(Surface):
    """What a flow offers to bring events together again."""

    @overload
    def gather(
        self,
        fn: Callable[..., Any],
        /,
        *,
        after: Upstreams,
        expect: int | KeyOf,
        within: Duration,
        id: KeyOf | None = None,
        close_on: Clock = "event-time",
        **options: Unpack[TimedOptions],
    ) -> Stage[Any]: ...
    @overload
    def gather(
        self,
        /,
        *,
        after: Upstreams,
        expect: int | KeyOf,
        within: Duration,
        id: KeyOf | None = None,
        close_on: Clock = "event-time",
        **options: Unpack[TimedOptions],
    ) -> Callable[[F], F]: ...
    def gather(self, fn: Any = None, /, *, after: Any = None, **options: Any) -> Any:
        """A stage that collects the parts of a split event and calls ``fn(parts)`` once all are there.

        The parts of a set have its key; `fn` gets them as a list in order of arrival (of values, or of events
        if it is annotated ``list[Event[T]]``). Results inherit the headers of the first part and the latest
        timestamp. A set is closed when it is complete, or `within` after its first part: what is there then
        goes to output ``"timeout"``, as a list. What comes for a closed set goes to output ``"late"`` until
        `within` after its first part, or after the time-out; then the key may begin another set.

        Args:
            expect: how many parts a set has; or where a part tells it, a field's name or a function of the
                value: at least one part has to (a missing field, or None: this one does not).
            within: seconds, or a timedelta, after its first part at which an incomplete set is given up.
            id: what tells a part from the others, a field's name or a function of the value: each counts once
                (unless it is given, each event is a part of its own).
            close_on: ``"event-time"``: as the watermark tells; ``"wall-clock"``: since it came.
            after, name, key, when, partitions, outputs, retry, on_error, timeout, rate: as for `stage`.
        """
        return self._adding("gather", gather_spec, fn, after, options, callers_place())

    @overload
    def zip(
        self,
        fn: Callable[..., Any],
        /,
        *,
        after: tuple[Upstream, Upstream] | list[Any],
        limit: int = 100,
        **options: Unpack[TimedOptions],
    ) -> Stage[Any]: ...
    @overload
    def zip(
        self,
        /,
        *,
        after: tuple[Upstream, Upstream] | list[Any],
        limit: int = 100,
        **options: Unpack[TimedOptions],
    ) -> Callable[[F], F]: ...
    def zip(self, fn: Any = None, /, *, after: Any = None, **options: Any) -> Any:
        """A stage that calls ``fn(left, right)`` with the first event of each of two upstreams, the second
        of each, and so on, for each key.

        Results inherit the headers of the left one and the later timestamp. One side may be `limit` events of
        a key ahead; then nothing more of it is taken in that lane, whatever its key, until the other side has
        caught up: it stays in its topic. Two sides that would wait for each other, by different keys, do not:
        the limit is exceeded then. What is left over when a run ends goes to output ``"timeout"``, as
        ``[left, None]`` or ``[None, right]``.

        Args:
            limit: how many events of a key one side may be ahead.
            after: two upstreams.
            name, key, when, partitions, outputs, retry, on_error, timeout, rate: as for `stage`.
        """
        return self._adding("zip", zip_spec, fn, after, options, callers_place())

"""Passing equal events on once: `dedupe`."""

from __future__ import annotations

from typing import Any, Unpack, overload

from reflow_kafka.definition.dedupe import dedupe_spec
from reflow_kafka.definition.place import callers_place
from reflow_kafka.handle import Stage
from reflow_kafka.serde.keys import KeyOf
from reflow_kafka.surface.adding import Surface, called
from reflow_kafka.surface.typed import DedupeOptions, Upstreams, V
from reflow_kafka.units import Duration


class Dedupes(Surface):
    """What a flow offers against events that come twice."""

    @overload
    def dedupe(
        self,
        name: str,
        /,
        *,
        after: Stage[V],
        within: Duration,
        by: KeyOf | None = None,
        **options: Unpack[DedupeOptions],
    ) -> Stage[V]: ...
    @overload
    def dedupe(
        self,
        name: str,
        /,
        *,
        after: Upstreams,
        within: Duration,
        by: KeyOf | None = None,
        **options: Unpack[DedupeOptions],
    ) -> Stage[Any]: ...
    def dedupe(self, name: str, /, *, after: Any = None, **options: Any) -> Any:
        """A stage that passes an event on, unchanged, if no equal one was passed on within a time.

        Events are equal if they have the same key and, with `by`, the same id. Their times, not their order,
        say whether they are within `within` of each other; both earlier and later ones count. Ids are
        forgotten when the watermark has passed that time. What is not passed on goes to output
        ``"duplicate"``.

        Args:
            by: the id: a field's name or a function of the value. Unless `key` is given too, it becomes the
                key, so that equal events meet wherever they come from.
            within: how far the times of equal events lie apart at most: seconds, or a timedelta.
            key: key of the events, if equal ones have the same (a field's name, a function of the value).
            after, when, partitions, on_error: as for `stage`.
        """
        place = callers_place()
        draft = self._draft
        if after is None:
            place.fail("it has no upstream: write flow.dedupe(name, after=...)", stage=called(name, {}))
        options.setdefault("on_error", draft.on_error)
        refs = draft.refs(after, place, stage=called(name, {}))
        return draft.add(dedupe_spec(name, place, after=refs, **options), place)

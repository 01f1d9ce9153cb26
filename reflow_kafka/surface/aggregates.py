"""Making one of many values: `aggregate` and `reduce`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Unpack, overload

from reflow_kafka.aggregations import Aggregation
from reflow_kafka.definition.aggregate import aggregate_spec
from reflow_kafka.definition.place import callers_place
from reflow_kafka.definition.reduce import reduce_spec
from reflow_kafka.handle import Stage
from reflow_kafka.surface.adding import Surface, called
from reflow_kafka.surface.typed import Fold, FoldOptions, R, Upstreams
from reflow_kafka.windows import WindowSpec


class Aggregates(Surface):
    """What a flow offers to make one of many values."""

    def aggregate(
        self,
        name: str,
        /,
        *,
        after: Upstreams,
        of: Mapping[str, Aggregation],
        window: WindowSpec | None = None,
        emit: Literal["close", "update"] | None = None,
        **options: Unpack[FoldOptions],
    ) -> Stage[dict[str, Any]]:
        """A stage that aggregates the events of each key, in windows or from the beginning on.

        It emits ``{"key": …, "start": …, "end": …, **of}``: once for each window, when it is closed, or with
        ``emit="update"`` for each event and window. Without a window it emits ``{"key": …, **of}`` for each
        event. Tombstones have nothing to aggregate.

        Args:
            of: what is aggregated, by its name in the results, such as ``{"mean": Mean("temp_f")}``; see
                `reflow_kafka.aggregations`.
            window: such as ``Tumbling(60)``; what comes too late for it goes to output ``"late"``.
            close_on: of a window: ``"event-time"``, which the watermark tells, or ``"wall-clock"``.
            ttl: without a window: seconds after which a key is forgotten that nothing touches.
            after, key, when, partitions, retry, on_error, rate: as for `stage`.
        """
        place = callers_place()
        draft = self._draft
        given: dict[str, Any] = {"on_error": draft.on_error, **options}
        refs = draft.refs(after, place, stage=called(name, {}))
        spec = aggregate_spec(name, place, draft.retry, after=refs, of=of, window=window, emit=emit, **given)
        return draft.add(spec, place)

    @overload
    def reduce(
        self,
        fn: Callable[[R, R], R],
        /,
        *,
        after: Upstreams,
        name: str = ...,
        window: WindowSpec | None = None,
        emit: Literal["close", "update"] | None = None,
        **options: Unpack[FoldOptions],
    ) -> Stage[R]: ...
    @overload
    def reduce(
        self,
        /,
        *,
        after: Upstreams,
        name: str = ...,
        window: WindowSpec | None = None,
        emit: Literal["close", "update"] | None = None,
        **options: Unpack[FoldOptions],
    ) -> Callable[[Fold], Fold]: ...
    def reduce(self, fn: Any = None, /, *, after: Any = None, **options: Any) -> Any:
        """A stage that folds the values of each key into one: ``fn(so far, next)`` gives the new value.

        The first value is taken as it is. It emits each new value; with ``emit="close"`` that of a window,
        once, when it is closed. `fn` is a plain function, and what it is annotated to take is how values are
        stored. Tombstones are no values.

        Args:
            window: such as ``Tumbling(60)``: windows begin with nothing; what comes too late for its window
                goes to output ``"late"``.
            close_on, ttl: as for `aggregate`.
            after, name, key, when, partitions, retry, on_error, rate: as for `stage`.
        """
        return self._adding("reduce", reduce_spec, fn, after, options, callers_place())

"""Handling events: `stage`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack, overload

from reflow_kafka.definition.place import callers_place
from reflow_kafka.definition.stages import stage_spec
from reflow_kafka.handle import Stage
from reflow_kafka.options import Batch
from reflow_kafka.surface.adding import Surface
from reflow_kafka.surface.typed import (
    Events,
    Factory,
    Later,
    Many,
    Once,
    S,
    StageOptions,
    Takes,
    TakesList,
    TakesState,
    TakesStateAndList,
    Unfollowed,
    Upstreams,
    V,
)


class Stages(Surface):
    """What a flow offers to handle events."""

    @overload
    def stage(
        self,
        fn: Callable[..., Any],
        /,
        *,
        after: Upstreams,
        state: Factory[Any] = ...,
        batch: Batch | None = ...,
        **options: Unpack[StageOptions],
    ) -> Stage[Any]: ...
    @overload
    def stage(
        self, /, *, after: Stage[V], state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesState[S, V]: ...
    @overload
    def stage(
        self, /, *, after: Unfollowed, state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesState[S, Any]: ...
    @overload
    def stage(
        self, /, *, after: Events[V], state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesState[S, V]: ...
    @overload
    def stage(
        self, /, *, after: Later[V], state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesState[S, V]: ...
    @overload
    def stage(
        self, /, *, after: Many[V], state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesState[S, V]: ...
    @overload
    def stage(
        self, /, *, after: Once[V], state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesState[S, V]: ...
    @overload
    def stage(self, /, *, after: Stage[V], **options: Unpack[StageOptions]) -> Takes[V]: ...
    @overload
    def stage(self, /, *, after: Unfollowed, **options: Unpack[StageOptions]) -> Takes[Any]: ...
    @overload
    def stage(self, /, *, after: Events[V], **options: Unpack[StageOptions]) -> Takes[V]: ...
    @overload
    def stage(self, /, *, after: Later[V], **options: Unpack[StageOptions]) -> Takes[V]: ...
    @overload
    def stage(self, /, *, after: Many[V], **options: Unpack[StageOptions]) -> Takes[V]: ...
    @overload
    def stage(self, /, *, after: Once[V], **options: Unpack[StageOptions]) -> Takes[V]: ...
    @overload
    def stage(
        self, /, *, after: Stage[V], batch: Batch, state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesStateAndList[S, V]: ...
    @overload
    def stage(
        self,
        /,
        *,
        after: Unfollowed,
        batch: Batch,
        state: Factory[S],
        **options: Unpack[StageOptions],
    ) -> TakesStateAndList[S, Any]: ...
    @overload
    def stage(
        self, /, *, after: Events[V], batch: Batch, state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesStateAndList[S, V]: ...
    @overload
    def stage(
        self, /, *, after: Later[V], batch: Batch, state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesStateAndList[S, V]: ...
    @overload
    def stage(
        self, /, *, after: Many[V], batch: Batch, state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesStateAndList[S, V]: ...
    @overload
    def stage(
        self, /, *, after: Once[V], batch: Batch, state: Factory[S], **options: Unpack[StageOptions]
    ) -> TakesStateAndList[S, V]: ...
    @overload
    def stage(self, /, *, after: Stage[V], batch: Batch, **options: Unpack[StageOptions]) -> TakesList[V]: ...
    @overload
    def stage(
        self, /, *, after: Unfollowed, batch: Batch, **options: Unpack[StageOptions]
    ) -> TakesList[Any]: ...
    @overload
    def stage(
        self, /, *, after: Events[V], batch: Batch, **options: Unpack[StageOptions]
    ) -> TakesList[V]: ...
    @overload
    def stage(self, /, *, after: Later[V], batch: Batch, **options: Unpack[StageOptions]) -> TakesList[V]: ...
    @overload
    def stage(self, /, *, after: Many[V], batch: Batch, **options: Unpack[StageOptions]) -> TakesList[V]: ...
    @overload
    def stage(self, /, *, after: Once[V], batch: Batch, **options: Unpack[StageOptions]) -> TakesList[V]: ...
    def stage(self, fn: Any = None, /, *, after: Any = None, **options: Any) -> Any:
        """A processing stage: it takes the events of its upstreams and emits new ones.

        `fn` is a function (also async, a generator, an async generator), a class that is built once per
        worker, or an object with ``__call__``. It is called with ``([state,] value)``; every other parameter
        is filled by name: ``ctx`` and resources.

        Args:
            after: the upstream: a handle, a name (``"name"``, ``"name.output"``, also of one to come), the
                decorated object, or a list of these.
            name: the stage's name (that of the function).
            key: key of the events entering it: a field's name or a function of the value (the key they have).
            when: only values for which it is true enter.
            state: what makes the state of a key, a class or a function; the handler then takes it first.
            ttl: how long a state is kept untouched by events and timers: seconds or a timedelta (for ever).
            stores: names of key-value stores, each with the type of its values or a `KeyValue`; the handler
                finds them by ``ctx.store(name)``.
            on_timer: called with ``([state,] timer)`` when a timer fires that ``ctx.timer(...)`` has set.
            partitions: how many lanes run it (as many as the flow's); 1 = a global singleton.
            outputs: names of further outputs, for ``Event(value, to="name")``.
            retry: when an event that fails is tried again (the flow's); while it waits, only its key waits.
            on_error: what becomes of it then: ``"dead-letter"``, ``"stop"``, ``"skip"`` or a function of
                (error, event) whose result is emitted instead (the flow's).
            timeout: seconds, or a timedelta, that one call may take; longer is a failure (no limit). For
                ``async def``, and for handlers in threads and processes.
            concurrency: how many events of different keys are in progress at once in a worker (1). For
                ``async def``, and for handlers in threads and processes. Events of one key keep their order.
            batch: the handler takes a list of values or events, as long as `Batch` says. A list that it
                returns is as long: its item i follows from event i, None emits nothing.
            run_in: ``"loop"``, ``"thread"`` for a handler that blocks, ``"process"`` for one that computes.
            rate: how many events its lanes take together in a time, such as ``Rate(100)`` (no limit).
            chain: True: it runs inside its upstream's worker, with no topic between.
            window: one state per key and window, such as ``Tumbling(60)``; what the handler returns is an
                update. What comes after the end and grace of a window goes to the output ``"late"``.
            on_close: called with (state, window) once for each window that something has come into.
            close_on: ``"event-time"``, which the watermark tells, or ``"wall-clock"``.
        """
        return self._adding("stage", stage_spec, fn, after, options, callers_place())

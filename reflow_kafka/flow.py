"""`Flow`: the decorators and calls by which a user joins functions into a flow.

A flow is a definition only: making it opens nothing, and runs nothing but factories of state, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Never, Unpack, overload

from reflow_kafka.connector import Sink, Source
from reflow_kafka.definition.draft import Draft
from reflow_kafka.definition.place import callers_place
from reflow_kafka.definition.resources import resource_spec
from reflow_kafka.definition.sinks import reply_spec, sink_spec
from reflow_kafka.definition.sources import source_spec
from reflow_kafka.definition.spec import FlowSpec, OnError
from reflow_kafka.definition.stages import stage_spec
from reflow_kafka.handle import Stage
from reflow_kafka.options import Batch, Retry
from reflow_kafka.surface.adding import called, decorator
from reflow_kafka.surface.aggregates import Aggregates
from reflow_kafka.surface.dedupes import Dedupes
from reflow_kafka.surface.gathers import Gathers
from reflow_kafka.surface.joins import Joins
from reflow_kafka.typed import (
    Events,
    F,
    Factory,
    FunctionSinkOptions,
    GeneratorOptions,
    Later,
    Many,
    Once,
    S,
    ScheduleOptions,
    StageOptions,
    T,
    Takes,
    TakesList,
    TakesState,
    TakesStateAndList,
    TopicOptions,
    TopicSinkOptions,
    Unfollowed,
    Upstreams,
    V,
)

if TYPE_CHECKING:
    from reflow_kafka.topology.graph import Topology


class Flow(Joins, Gathers, Dedupes, Aggregates):
    """A named graph of stages, joined by durable edges.

    `name` is part of every topic's name and is the consumer group; `partitions` is how many lanes run each
    stage. Unless a stage says otherwise, an event that fails is tried again as `retry` says, and then treated
    as `on_error` says. If more than the share `dead_letter_limit` of a stage's events within a minute become
    dead letters, something else is broken than the events, and the flow stops (1.0: it never does).

    Used as a decorator, `stage`, `source` and `sink` return the decorated object unchanged; called with it,
    they return a `Stage` handle. All methods raise `DefinitionError` for what cannot work.
    """

    def __init__(
        self,
        name: str,
        *,
        partitions: int = 8,
        retry: Retry = Retry(),
        on_error: OnError = "dead-letter",
        dead_letter_limit: float = 0.5,
    ) -> None:
        self.name = name
        self.partitions = partitions
        self._draft = Draft(self, name, partitions, retry, on_error, dead_letter_limit, callers_place())

    # ---- stages

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
        place = callers_place()
        return self._adding(
            fn,
            after,
            place,
            options,
            "stage",
            lambda target, refs: stage_spec(target, place, self._draft.retry, after=refs, **options),
        )

    @overload
    def source(
        self, name: str, connector: Source | None = None, /, *, type: type[T], **options: Unpack[TopicOptions]
    ) -> Stage[T]: ...
    @overload
    def source(
        self, name: str, connector: Source | None = None, /, **options: Unpack[TopicOptions]
    ) -> Stage[Any]: ...
    @overload
    def source(self, name: str, /, **options: Unpack[ScheduleOptions]) -> Stage[dict[str, Any]]: ...
    @overload
    def source(
        self, fn: Callable[..., Any], /, *, name: str, **options: Unpack[GeneratorOptions]
    ) -> Stage[Any]: ...
    @overload
    def source(self, /, *, name: str = ..., **options: Unpack[GeneratorOptions]) -> Callable[[F], F]: ...
    def source(self, subject: Any = None, connector: Any = None, /, **options: Any) -> Any:
        """A source: ``source(name, topic=...)``, ``source(name, connector)``, ``source(name, every=60)``,
        or a generator: ``@source()``.

        Args:
            topic: name of a topic, or a list of names.
            type: what its values are decoded as (JSON of any kind).
            format: how they are written: ``"json"``, ``"str"``, ``"bytes"`` or a `Format`.
            key: key of the events leaving it: a field's name or a function of the value (the key they have).
            timestamp: event time: a field's name or a function of the value (the record's timestamp). There
                it is a datetime, text in ISO 8601, or a number of milliseconds, or seconds, since 1970.
            out_of_orderness: by how much an event may be older than one before it and not be late (nothing).
            idle_after: when a lane without traffic stops holding up the time of others (after 30 seconds).
            auto_offset_reset: where a topic is read from at first: ``"earliest"``, ``"latest"``, ``"none"``.
            every, cron, timezone: a period in seconds or a timedelta; or a cron expression, and its time zone
                (UTC). Once each time, in the whole flow, it emits ``{"scheduled": ISO time, "tick": n}``.
            missed: what fires late if no engine was there: the ``"last"`` of them, ``"all"``, or ``"skip"``.
            name, state: of a generator: its stage's name (its own), and what makes its position, which it
                takes as its argument and sets before each ``yield``; without it, every start begins anew.
        """
        place = callers_place()
        if callable(subject) and connector is None and not options:
            name = called(subject, options)
            place.fail(f"write @flow.source() with parentheses, or flow.source({name}, name=...)", stage=name)

        def add(target: Any) -> Stage[Any]:
            draft = self._draft
            return draft.add(source_spec(target, connector, place, draft.on_error, **options), place)

        return decorator(add) if subject is None else add(subject)

    @overload
    def sink(
        self,
        name: str,
        connector: Sink | None = None,
        /,
        *,
        after: Upstreams,
        **options: Unpack[TopicSinkOptions],
    ) -> Stage[Never]: ...
    @overload
    def sink(
        self, fn: Callable[..., Any], /, *, after: Upstreams, **options: Unpack[FunctionSinkOptions]
    ) -> Stage[Never]: ...
    @overload
    def sink(self, /, *, after: Upstreams, **options: Unpack[FunctionSinkOptions]) -> Callable[[F], F]: ...
    def sink(
        self, subject: Any = None, connector: Any = None, /, *, after: Any = None, **options: Any
    ) -> Any:
        """A sink: ``sink(name, topic=...)``, ``sink(name, connector)``, or a function: ``@sink(after=...)``.

        Args:
            topic: name of a topic, or a function of the value that gives it.
            format: how values are written to the topic: ``"json"``, ``"str"``, ``"bytes"`` or a `Format`.
            partitions: how many lanes run a connector or function (as many as the flow's).
            batch: how many events a connector is given at a time, and a function takes as a list.
            retry: of a connector: when it is opened and given its events again after an error (for ever: an
                outage is not a bad event); of a function as for `stage`.
            after, name, key, when, on_error: as for `stage`; a function takes all that says how it is run.
        """
        place = callers_place()
        return self._adding(
            subject,
            after,
            place,
            options,
            "sink",
            lambda target, refs: sink_spec(
                target, connector, place, self._draft.retry, after=refs, **options
            ),
        )

    def reply(
        self, *, after: Upstreams, name: str = "reply", when: Callable[[Any], object] | None = None
    ) -> Stage[Never]:
        """The answer to requests: what its upstreams emit goes back to whoever asked, see `Client.request`.

        An event answers the request that it comes from: its headers say which, and are inherited along the
        flow. One that nobody asked for goes nowhere. The first answer to a request counts.

        Args:
            after, name, when: as for `stage`.
        """
        place = callers_place()
        refs = self._draft.refs(after, place, stage=called(None, {"name": name}))
        return self._draft.add(reply_spec(place, after=refs, name=name, when=when), place)

    def __getitem__(self, stage: str | Callable[..., Any] | Stage[Any]) -> Stage[Any]:
        """The handle of a stage that is defined already, by its name or by the decorated object."""
        return Stage(self, self._draft.find(stage, callers_place()))

    # ---- resources

    @overload
    def resource(self, fn: F, /, *, per: Literal["engine", "worker"] = "engine") -> F: ...
    @overload
    def resource(self, /, *, per: Literal["engine", "worker"] = "engine") -> Callable[[F], F]: ...
    def resource(self, fn: Any = None, /, *, per: Literal["engine", "worker"] = "engine") -> Any:
        """Something handlers take by name: a function that makes it, or a generator that yields it once.

        It is opened once per engine before lanes start and closed after the last has stopped, or with
        ``per="worker"`` once per worker. Parameters of the function are other resources.
        """
        place = callers_place()

        def add(factory: Any) -> Any:
            self._draft.add_resource(resource_spec(factory, per, place), place)
            return factory

        return add if fn is None else add(fn)

    # ---- the whole

    def spec(self) -> FlowSpec:
        """The flow as data, checked and resolved. All that is still wrong with it shows here."""
        return self._draft.spec()

    def topology(self) -> Topology:
        """The graph of stages and edges."""
        from reflow_kafka.topology.graph import Topology

        return Topology.of(self.spec())

    def describe(self, format: Literal["tree", "text", "json", "mermaid", "dot"] = "tree") -> str:
        """The flow for people (``tree``, ``text``), programs (``json``), pictures (``mermaid``, ``dot``)."""
        from reflow_kafka.topology.describe import describe

        return describe(self.spec(), format)

    def __repr__(self) -> str:
        return f"<flow {self.name!r}>"

"""Where events come from and go to: `source`, `sink`, `reply`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Never, Unpack, overload

from reflow_kafka.connector import Sink, Source
from reflow_kafka.definition.place import callers_place
from reflow_kafka.definition.sinks import reply_spec, sink_spec
from reflow_kafka.definition.sources import source_spec
from reflow_kafka.handle import Stage
from reflow_kafka.surface.adding import Surface, called, decorator
from reflow_kafka.surface.typed import (
    F,
    FunctionSinkOptions,
    GeneratorOptions,
    ScheduleOptions,
    T,
    TopicOptions,
    TopicSinkOptions,
    Upstreams,
)


class Ends(Surface):
    """What a flow offers to take events in and give them away."""

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
        return self._adding("sink", partial(sink_spec, connector), subject, after, options, callers_place())

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

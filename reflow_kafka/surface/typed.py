"""Types by which mypy and pyright follow values along a flow.

First the shapes of what `after=` may be, each with the type `V` of what it emits; then what the decorators
ask of a handler that takes a `V`. Where a result is annotated ``dict[str, Any]`` nothing is followed further:
the next handler may well say more about it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypedDict, TypeVar, overload

from reflow_kafka.definition.schedule import Missed
from reflow_kafka.definition.spec import OnError, RunIn
from reflow_kafka.event import Event
from reflow_kafka.handle import Stage
from reflow_kafka.options import Batch, Rate, Retry
from reflow_kafka.serde.keys import KeyOf
from reflow_kafka.serde.typed import Format
from reflow_kafka.units import Clock, Duration
from reflow_kafka.value import State
from reflow_kafka.windows import WindowSpec

F = TypeVar("F", bound=Callable[..., Any])
Fold = TypeVar("Fold", bound=Callable[[Any, Any], Any])
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
V = TypeVar("V")

Upstream = str | Stage[Any] | Callable[..., Any]
"""A name (``"name"`` or ``"name.output"``), a handle, or the decorated object."""
Upstreams = Upstream | Sequence[Upstream]
Untyped = str | Sequence[Upstream] | type[Any]
"""Upstreams whose results nobody follows: names, merges, classes."""
Dicts = (
    Callable[..., Coroutine[Any, Any, dict[str, Any] | None]]
    | Callable[..., dict[str, Any] | None]
    | Callable[..., Iterator[dict[str, Any]]]
    | Callable[..., AsyncIterator[dict[str, Any]]]
)
Events = (
    Callable[..., Coroutine[Any, Any, Event[V] | None]]
    | Callable[..., Event[V] | None]
    | Callable[..., Iterator[Event[V]]]
    | Callable[..., AsyncIterator[Event[V]]]
)
Later = Callable[..., Coroutine[Any, Any, Event[V] | V | None]]
Many = Callable[..., Iterator[Event[V] | V]] | Callable[..., AsyncIterator[Event[V] | V]]
Once = Callable[..., Event[V] | V | None]
Lists = (
    Callable[Concatenate[list[Any], ...], Coroutine[Any, Any, list[Any] | None]]
    | Callable[Concatenate[list[Any], ...], list[Any] | None]
    | Callable[Concatenate[Any, list[Any], ...], Coroutine[Any, Any, list[Any] | None]]
    | Callable[Concatenate[Any, list[Any], ...], list[Any] | None]
)
"""From a list to a list: with a batch it emits the items, without one the list, and nobody sees which."""
Unfollowed = Untyped | Dicts | Lists
Factory = Callable[[], S]


class Takes(Protocol[V]):
    """Decorates a handler of one value."""

    @overload
    def __call__(self, fn: type[T], /) -> type[T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Event[V], P], R], /
    ) -> Callable[Concatenate[Event[V], P], R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[V, P], R], /) -> Callable[Concatenate[V, P], R]: ...


class TakesState(Protocol[S, V]):
    """Decorates a handler of a state and a value."""

    @overload
    def __call__(self, fn: type[T], /) -> type[T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[State[S], Event[V], P], R], /
    ) -> Callable[Concatenate[State[S], Event[V], P], R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # one function cannot be both for the same S
        self, fn: Callable[Concatenate[State[S], V, P], R], /
    ) -> Callable[Concatenate[State[S], V, P], R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[S, Event[V], P], R], /
    ) -> Callable[Concatenate[S, Event[V], P], R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[S, V, P], R], /) -> Callable[Concatenate[S, V, P], R]: ...


class TakesList(Protocol[V]):
    """Decorates a handler of a batch of values."""

    @overload
    def __call__(self, fn: type[T], /) -> type[T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[list[Event[V]], P], R], /
    ) -> Callable[Concatenate[list[Event[V]], P], R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[list[V], P], R], /
    ) -> Callable[Concatenate[list[V], P], R]: ...


class TakesStateAndList(Protocol[S, V]):
    """Decorates a handler of a state and a batch of values."""

    @overload
    def __call__(self, fn: type[T], /) -> type[T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[State[S], list[Event[V]], P], R], /
    ) -> Callable[Concatenate[State[S], list[Event[V]], P], R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]  # as above
        self, fn: Callable[Concatenate[State[S], list[V], P], R], /
    ) -> Callable[Concatenate[State[S], list[V], P], R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[S, list[Event[V]], P], R], /
    ) -> Callable[Concatenate[S, list[Event[V]], P], R]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[S, list[V], P], R], /
    ) -> Callable[Concatenate[S, list[V], P], R]: ...


class SourceOptions(TypedDict, total=False):
    """What every source can be told."""

    key: KeyOf | None
    timestamp: KeyOf | None
    out_of_orderness: Duration
    idle_after: Duration


class TableOptions(TypedDict, total=False):
    """What a table over a topic can be told besides `type` and `key`."""

    format: str | Format
    timestamp: KeyOf | None
    out_of_orderness: Duration
    idle_after: Duration


class GeneratorOptions(SourceOptions, total=False):
    """What a source over a generator can be told besides its `name`."""

    state: Callable[[], Any]


class TopicOptions(SourceOptions, total=False):
    """What a source over topics can be told besides `type`."""

    topic: str | Sequence[str]
    format: str | Format
    auto_offset_reset: Literal["earliest", "latest", "none"]


class ScheduleOptions(TypedDict, total=False):
    """What a source that fires by the clock can be told."""

    every: Duration
    cron: str
    timezone: str
    missed: Missed
    key: KeyOf | None


class EdgeOptions(TypedDict, total=False):
    """What every stage with an upstream can be told."""

    key: KeyOf | None
    partitions: int
    on_error: OnError


class HandlerOptions(TypedDict, total=False):
    """How the handler of a stage or sink is run, besides `batch`."""

    name: str
    retry: Retry
    timeout: Duration | None
    concurrency: int
    run_in: RunIn
    rate: Rate | None
    chain: bool


class StageOptions(EdgeOptions, HandlerOptions, total=False):
    """What a stage after a `V` can be told besides `after`, `state` and `batch`."""

    when: Callable[[Any], object] | None
    outputs: Sequence[str]
    window: WindowSpec
    close_on: Clock
    on_close: Callable[..., Any]
    ttl: Duration | None
    stores: Mapping[str, Any]
    on_timer: Callable[..., Any] | None


class TimedOptions(EdgeOptions, total=False):
    """What a stage that handles one event after the other, by its own rules, can be told."""

    name: str
    when: Callable[[Any], object] | None
    outputs: Sequence[str]
    retry: Retry
    timeout: Duration | None
    rate: Rate | None


class DedupeOptions(EdgeOptions, total=False):
    """What a stage that passes equal events on once can be told besides `by` and `within`."""

    when: Callable[[Any], object] | None


class FoldOptions(EdgeOptions, total=False):
    """What a stage that makes one of many values can be told."""

    when: Callable[[Any], object] | None
    retry: Retry
    rate: Rate | None
    close_on: Clock
    ttl: Duration


class SinkOptions(EdgeOptions, total=False):
    """What every sink can be told besides `after`."""

    when: Callable[[Any], object] | None


class TopicSinkOptions(SinkOptions, total=False):
    """What a sink into a topic or connector can be told."""

    topic: str | Callable[[Any], str]
    format: str | Format
    batch: Batch | None
    retry: Retry


class FunctionSinkOptions(SinkOptions, HandlerOptions, total=False):
    """What a sink over a function can be told."""

    batch: Batch | None

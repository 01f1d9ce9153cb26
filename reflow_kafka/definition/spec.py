"""What a flow says, as frozen data: made by `Flow`, checked by `definition.check`, read by everybody else.

Nothing here opens, runs or decides anything.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Final, Literal, NoReturn

from reflow_kafka.connector import Sink, Source
from reflow_kafka.definition.operators import Operator
from reflow_kafka.definition.schedule import Schedule
from reflow_kafka.errors import DefinitionError
from reflow_kafka.event import Event
from reflow_kafka.options import Batch, Rate, Retry
from reflow_kafka.serde.keys import KeyOf


class Unset(enum.Enum):
    """Marks "not given" where None means something."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
OnError = Literal["dead-letter", "stop", "skip"] | Callable[[Exception, Event[Any]], Any]
"""What happens to an event that fails; a function's result is emitted instead."""
RunIn = Literal["loop", "thread", "process"]
"""Where a handler is called."""

ANY: Final[Any] = Any
"""The type of an edge about which nobody said anything: JSON."""

RESERVED_OUTPUTS: Final = ("error",)
"""Outputs every stage has without declaring them: if something follows it, failing events go there."""


class Shape(enum.Enum):
    """How a handler gives its results."""

    PLAIN = "def"
    COROUTINE = "async def"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"

    @property
    def suspends(self) -> bool:
        """Whether the handler can wait."""
        return self in (Shape.COROUTINE, Shape.ASYNC_GENERATOR)


class StateBy(enum.Enum):
    """How a handler takes its state."""

    NONE = "none"
    OBJECT = "object"  # changed in place
    BOX = "State[T]"  # set through .value


@dataclass(frozen=True, slots=True)
class UpstreamRef:
    """An upstream stage, and which of its outputs is followed (None: the main one)."""

    stage: str
    output: str | None = None

    def __str__(self) -> str:
        return self.stage if self.output is None else f"{self.stage}.{self.output}"


@dataclass(frozen=True, slots=True)
class Handler:
    """The user's code of one stage, and how it wants to be called."""

    target: Any
    """The object registered: a function, a class (built once per worker), or an instance."""
    kind: Literal["function", "class", "instance"]
    shape: Shape
    state_by: StateBy
    takes_event: bool
    """The value parameter is annotated ``Event[T]`` ."""
    by_name: tuple[str, ...]
    """Parameters filled by name when called: ``ctx``, resources."""
    init_by_name: tuple[str, ...]
    """For a class: constructor parameters filled by name."""
    value_type: Any
    """Annotated type of the value (`ANY` if none)."""
    result_type: Any
    """Type of one emitted value (`ANY` if unknown), Optional, Event[] and iterators stripped.

    ``NoneType`` for a handler annotated ``-> None``: it emits nothing.
    """
    state_type: Any = ANY
    """Annotated type of the state, State[] stripped (`ANY` if none)."""
    takes_list: bool = False
    """It is called with a list of values or events (``batch=``); the types above are those of one item."""
    side_types: tuple[Any, ...] = ()
    """Of a handler that takes a value of each input: their annotated types."""


@dataclass(frozen=True, slots=True)
class StateSpec:
    """Keyed state of a stage."""

    factory: Callable[[], Any]
    type: Any
    """The type state is encoded as: what the factory makes, or the handler's annotation if it says more."""
    boxed: bool


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What a source stage reads: topics, a connector, a schedule, or a generator (the stage's handler)."""

    topics: tuple[str, ...] = ()
    connector: Source | None = None
    schedule: Schedule | None = None
    position: Callable[[], Any] | None = None
    """For a generator: factory of its position (``state=``); its type stands in the stage's `state`."""
    format: Any = "json"
    timestamp: KeyOf | None = None
    out_of_orderness: float = 0.0
    """Seconds by which an event may be older than one before it, in its lane, without being late."""
    idle_after: float = 30.0
    """Seconds without traffic after which a lane does not hold up the time of others."""
    auto_offset_reset: Literal["earliest", "latest", "none"] = "earliest"


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """Where a sink stage writes: a topic (or a function of the value naming it), a connector, or back to
    whoever asked. None of these: the stage's handler is the sink.
    """

    topic: str | Callable[[Any], str] | None = None
    connector: Sink | None = None
    format: Any = "json"
    reply: bool = False
    """It answers requests."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One stage, with everything resolved that can be resolved without running anything."""

    name: str
    kind: Literal["source", "stage", "sink"]
    where: str
    """``file:line`` of the definition."""
    after: tuple[UpstreamRef, ...] = ()
    handler: Handler | None = None
    type: Any = ANY
    """Type of the values that leave a source, or enter a topic or connector sink."""
    state: StateSpec | None = None
    key: KeyOf | Unset | None = UNSET
    """On a stage or sink: key of what enters it; on a source: of what leaves it. UNSET or None: as it is."""
    when: Callable[[Any], object] | None = None
    partitions: int | None = None
    outputs: tuple[str, ...] = ()
    source: SourceSpec | None = None
    sink: SinkSpec | None = None
    on_error: OnError = "dead-letter"
    retry: Retry = Retry()
    timeout: float | None = None
    """Seconds that one call of the handler may take; longer is a failure."""
    concurrency: int = 1
    """Events (with `batch`: lists) of different keys in progress at once in a worker."""
    batch: Batch | None = None
    run_in: RunIn = "loop"
    rate: Rate | None = None
    """Of all lanes together."""
    chain: bool = False
    """It runs inside its upstream's worker."""
    operator: Operator | None = None
    """What it does besides calling its handler once for each event; it is a *timed* stage then."""
    codes: Mapping[str, Handler] = field(default_factory=dict)
    """Code of the user's besides the handler, by what it is for: ``on_close``, ``on_timer``."""
    copartitioned: bool = False
    """Its inputs have the same keys in partitions of the same number, whoever wrote them: so it is told."""
    table: bool = False
    """What it emits are the rows of a table: the last of a key counts, a tombstone deletes it."""

    def fail(self, message: str) -> NoReturn:
        """Raise a `DefinitionError` that points to its definition."""
        raise DefinitionError(message, stage=self.name, where=self.where)

    @property
    def result_type(self) -> Any:
        """Type of one emitted value (`ANY` if unknown), whichever code emits it; NoneType if none does."""
        if self.operator is not None and self.operator.gives is not None:
            return self.operator.gives
        codes = [*([] if self.handler is None else [self.handler]), *self.codes.values()]
        found = {code.result_type for code in codes}
        if not found:
            return self.type
        emitted = found - {NoneType}
        return emitted.pop() if len(emitted) == 1 else ANY if emitted else NoneType

    def accepts(self, side: int = 0) -> Any:
        """The type it asks for from an input, by its place in `after` (`ANY`: it does not say)."""
        if self.operator is not None and (wanted := self.operator.takes(side)) is not None:
            return wanted
        if self.handler is None:
            return self.type
        return self.handler.side_types[side] if self.handler.side_types else self.handler.value_type

    def key_of(self, side: int = 0) -> KeyOf | None:
        """The key that it gives what enters from an input, None if events keep theirs."""
        key = None if self.operator is None else self.operator.key(side)
        return key or (None if isinstance(self.key, Unset) else self.key)

    @property
    def hands_on(self) -> bool:
        """Whether it emits what it takes, as it is."""
        operator = self.operator
        return self.handler is None and (self.table if operator is None else operator.hands_on)

    @property
    def remembers(self) -> bool:
        """Whether it has a store: all events of a key must meet in one lane."""
        return self.state is not None or self.operator is not None

    @property
    def overlaps(self) -> bool:
        """Whether its events need not finish in the order in which they came."""
        return self.concurrency > 1 or self.run_in != "loop" or self.batch is not None


def emitted_by(stage: StageSpec) -> tuple[str, ...]:
    """The named outputs of a stage, those that exist without being declared included."""
    own = () if stage.operator is None else stage.operator.outputs
    return (*stage.outputs, *RESERVED_OUTPUTS, *own)


@dataclass(frozen=True, slots=True)
class GlobalTableSpec:
    """A topic whose whole content each engine holds."""

    topic: str
    type: Any = ANY
    format: Any = "json"
    key: KeyOf | None = None


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """A resource: opened once per engine (or worker) and handed to handlers by name."""

    name: str
    factory: Callable[..., Any]
    per: Literal["engine", "worker"]
    by_name: tuple[str, ...]
    """Other resources that the factory itself takes."""
    where: str
    table: GlobalTableSpec | None = None
    """It is a table, which the engine makes."""


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """A whole flow: stages in the order of their definition."""

    name: str
    partitions: int
    stages: tuple[StageSpec, ...]
    resources: Mapping[str, ResourceSpec] = field(default_factory=dict)
    dead_letter_limit: float = 0.5
    """Share of a stage's events within a minute that may become dead letters; beyond it the stage stops the
    flow. 1.0: it never does."""

    @property
    def tables(self) -> Mapping[str, GlobalTableSpec]:
        """The global tables."""
        return {name: each.table for name, each in self.resources.items() if each.table is not None}

    def stage(self, name: str) -> StageSpec:
        """The stage of that name."""
        return next(s for s in self.stages if s.name == name)

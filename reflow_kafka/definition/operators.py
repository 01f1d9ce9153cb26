"""What a stage does besides calling its handler once for each event: windows, timers, joins and the like.

Each kind is frozen data; `lane.programs` makes the program that does it. A stage with an operator is *timed*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from reflow_kafka.definition.references import Answer, Reference
from reflow_kafka.serde.keys import KeyOf
from reflow_kafka.stores import KeyValue
from reflow_kafka.units import Clock

How = Literal["inner", "left", "outer"]
"""Whose events, or rows, a join emits though there is nothing on the other side."""


@dataclass(frozen=True, slots=True)
class Operator:
    """What all kinds tell about themselves. What stands in their fields is part of the plan's hash."""

    outputs: ClassVar[tuple[str, ...]] = ()
    """Outputs that exist without being declared, besides ``error``."""
    by_id: ClassVar[bool] = True
    """Whether it may want to know the ids of events; they cost 0.2 µs each."""
    paired: ClassVar[bool] = False
    """Whether its events belong together one by one, so that one which is given up must keep its place."""
    ordered: ClassVar[bool] = False
    """Whether events of several inputs are to be taken in the order of their timestamps."""
    gives: ClassVar[Any] = None
    """Type of what it emits, if it says so itself."""
    hands_on: ClassVar[bool] = False
    """Whether it emits nothing but what it has taken."""

    @property
    def prompt(self) -> bool:
        """Whether what is due must be done before the next event is begun."""
        return False

    @property
    def layout(self) -> str:
        """What the stage's store holds: where two differ, neither can read what the other has kept.

        Empty for states by their keys, as a stage without operator keeps them.
        """
        return type(self).__name__.lower()

    def takes(self, side: int) -> Any:
        """Type of what it takes from an input; None if the handler says it."""
        return None

    def key(self, side: int) -> KeyOf | None:
        """Key of what it takes from an input; None if the stage says it."""
        return None

    def needs_key(self, side: int) -> bool:
        """Whether an event without key is an error in an input."""
        return True


@dataclass(frozen=True, slots=True)
class Windowed(Operator):
    """One state per key and window."""

    outputs: ClassVar[tuple[str, ...]] = ("late",)
    by_id: ClassVar[bool] = False
    window: Any
    close_on: Clock = "event-time"
    values_only: bool = False
    """Whether events without value (tombstones) are left out: they are in no window, and not late."""

    @property
    def layout(self) -> str:
        """States of windows, each kind of which has its own way to name them."""
        return f"windows of {type(self.window).__name__}"


@dataclass(frozen=True, slots=True)
class Keyed(Operator):
    """State with timers, an end of its life, or stores beside it."""

    ttl: float | None = None
    """Seconds after which an untouched key is forgotten."""
    stores: Mapping[str, KeyValue] = field(default_factory=dict)
    timers: bool = False

    @property
    def prompt(self) -> bool:
        """A timer sees the state as it was at its time, however many events are taken in at once."""
        return self.timers

    @property
    def layout(self) -> str:
        """States by their keys, with other things beside them."""
        return ""


@dataclass(frozen=True, slots=True)
class Dedupe(Operator):
    """Of equal events within a time only the first."""

    outputs: ClassVar[tuple[str, ...]] = ("duplicate",)
    hands_on: ClassVar[bool] = True
    by: KeyOf | None
    """What makes events of the same key equal; None: that they have the same key."""
    within: int
    """Milliseconds."""


@dataclass(frozen=True, slots=True)
class Gather(Operator):
    """Sets of parts, each handed over when it is complete."""

    outputs: ClassVar[tuple[str, ...]] = ("late", "timeout")
    expect: int | KeyOf
    """How many parts a set has, or where a part tells it."""
    within: int
    """Milliseconds after its first part at which a set is given up."""
    id: KeyOf | None = None
    """Where a part has its id (None: the event's own)."""
    close_on: Clock = "event-time"


@dataclass(frozen=True, slots=True)
class Zip(Operator):
    """Pairs of two inputs."""

    outputs: ClassVar[tuple[str, ...]] = ("timeout",)
    paired: ClassVar[bool] = True
    by_id: ClassVar[bool] = False
    limit: int = 100
    """How many events of a key one side may be ahead."""


# ---- joins; what is on the left comes first in the stage's `after`


@dataclass(frozen=True, slots=True)
class StreamJoin(Operator):
    """Events of two streams whose times are not far apart; times in ms."""

    outputs: ClassVar[tuple[str, ...]] = ("late",)
    ordered: ClassVar[bool] = True
    how: How
    before: int
    after: int
    grace: int = 0


@dataclass(frozen=True, slots=True)
class LatestJoin(Operator):
    """Each event of a stream with the row that a table has when it comes."""

    ordered: ClassVar[bool] = True
    how: How
    on: KeyOf | None = None
    """Key of the row that an event asks for."""

    def key(self, side: int) -> KeyOf | None:
        """Events meet the table where the row is that they ask for."""
        return self.on if side == 0 else None

    def needs_key(self, side: int) -> bool:
        """An event may ask for no row."""
        return side != 0 or self.on is None


@dataclass(frozen=True, slots=True)
class AsOfJoin(LatestJoin):
    """Each event of a stream with the row that a table had at the event's time."""

    outputs: ClassVar[tuple[str, ...]] = ("late",)
    grace: int = 0
    """Milliseconds for which an event waits for rows after the watermark has passed its time."""


@dataclass(frozen=True, slots=True)
class TableJoin(Operator):
    """The rows of two tables with the same key."""

    ordered: ClassVar[bool] = True
    how: How


@dataclass(frozen=True, slots=True)
class References(Operator):
    """Tells what the rows of a table refer to; the first of three stages that join them with it."""

    gives: ClassVar[Any] = Reference
    on: KeyOf
    row: Any
    """Type of the rows."""

    def takes(self, side: int) -> Any:
        """Rows."""
        return self.row


@dataclass(frozen=True, slots=True)
class Meetings(Operator):
    """Brings together references and the rows referred to: the second stage."""

    ordered: ClassVar[bool] = True
    gives: ClassVar[Any] = Answer
    row: Any
    """Type of the rows referred to."""

    def takes(self, side: int) -> Any:
        """References on the left, rows on the right."""
        return self.row if side else Reference


@dataclass(frozen=True, slots=True)
class Answers(Operator):
    """Calls the handler with a row and what it refers to: the last stage."""

    how: How
    references: str
    """Name of the first stage."""
    meetings: str
    """Name of the second."""

    def takes(self, side: int) -> Any:
        """Answers."""
        return Answer

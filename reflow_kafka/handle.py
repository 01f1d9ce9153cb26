"""The handle of a stage: what `after=` takes when the object itself will not do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from reflow_kafka.definition.place import callers_place
from reflow_kafka.definition.spec import UpstreamRef
from reflow_kafka.errors import UsageError

if TYPE_CHECKING:
    from reflow_kafka.flow import Flow

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, repr=False)
class Stage(Generic[T_co]):
    """A stage of a flow, to be followed by others. `T_co` is the type of what it emits."""

    flow: Flow
    ref: UpstreamRef

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.ref.stage

    def output(self, name: str) -> Stage[Any]:
        """A named output: one that the stage declares (``outputs=["big"]``), or ``"error"``."""
        if not isinstance(name, str):
            callers_place().fail(f"an output's name is a text, not {name!r}", stage=self.name)
        return Stage(self.flow, UpstreamRef(self.ref.stage, name))

    def __repr__(self) -> str:
        return f"<stage {self.ref} of flow {self.flow.name!r}>"


@dataclass(frozen=True, slots=True, repr=False)
class Table(Stage[T_co]):
    """A table of a flow: of each key the last row counts, and a tombstone deletes it."""

    def get(self, key: str) -> T_co | None:
        """The row of a key; for handlers that name a global table.

        Raises:
            UsageError: this is the handle, which has no rows.
        """
        raise UsageError(
            f"get() found the handle of table {self.name!r}, wanted the table itself: a handler gets it that "
            f"has a parameter {self.name}, if it is a global table"
        )

    def __repr__(self) -> str:
        return f"<table {self.ref} of flow {self.flow.name!r}>"

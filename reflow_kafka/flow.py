"""`Flow`: what a user joins functions into, by the decorators and calls of `surface`.

A flow is a definition only: making it opens nothing, and runs nothing but factories of state, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

from reflow_kafka.definition.draft import Draft
from reflow_kafka.definition.place import callers_place
from reflow_kafka.definition.resources import resource_spec
from reflow_kafka.definition.spec import FlowSpec, OnError
from reflow_kafka.handle import Stage
from reflow_kafka.options import Retry
from reflow_kafka.surface.aggregates import Aggregates
from reflow_kafka.surface.dedupes import Dedupes
from reflow_kafka.surface.ends import Ends
from reflow_kafka.surface.gathers import Gathers
from reflow_kafka.surface.joins import Joins
from reflow_kafka.surface.stages import Stages
from reflow_kafka.surface.typed import F

if TYPE_CHECKING:
    from reflow_kafka.topology.graph import Topology


class Flow(Stages, Ends, Joins, Gathers, Dedupes, Aggregates):
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

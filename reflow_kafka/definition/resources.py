"""Resources: from what a user writes to their specs."""

from __future__ import annotations

from typing import Any

from reflow_kafka.definition.handlers import CONTEXT
from reflow_kafka.definition.place import Place, is_one_of
from reflow_kafka.definition.spec import ResourceSpec


def resource_spec(factory: Any, per: Any, place: Place) -> ResourceSpec:
    """A resource, named like its factory.

    Raises:
        DefinitionError: it cannot be a resource.
    """
    name = getattr(factory, "__name__", None)
    if not callable(factory) or not isinstance(name, str) or not name.isidentifier():
        place.fail(f"a resource is a named function or generator function, not {factory!r}")
    if name == CONTEXT:
        place.fail(f"a resource cannot be called {CONTEXT!r}: that parameter receives the Context; rename it")
    if not is_one_of(per, ("engine", "worker")):
        place.fail(f'resource {name!r}: per= is "engine" or "worker", not {per!r}')
    return ResourceSpec(name=name, factory=factory, per=per, by_name=(), where=place.where)

"""How the methods of a flow add a stage: called with a function, or as a decorator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reflow_kafka.definition.draft import Draft
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import StageSpec
from reflow_kafka.handle import Stage
from reflow_kafka.surface.typed import F

Make = Callable[..., StageSpec]
"""Makes a stage of a function, its place, the flow's way to try again, and options by name."""


class Surface:
    """A flow, as the methods of its surface know it."""

    _draft: Draft

    def _adding(
        self, how: str, make: Make, fn: Any, after: Any, options: dict[str, Any], place: Place
    ) -> Any:
        """The handle of the stage made of `fn`, or a decorator; `how` is the method that a user calls.

        A sink may have a name in place of a function.
        """
        named = how == "sink" and not callable(fn)
        if fn is not None and not named and after is None:
            advice = f"write @flow.{how}(after=...) or flow.{how}(fn, after=...)"
            place.fail(f"it has no upstream: {advice}", stage=called(fn, options))

        def add(target: Any) -> Stage[Any]:
            draft = self._draft
            options.setdefault("on_error", draft.on_error)
            refs = draft.refs(after, place, stage=called(target, options))
            spec = make(target, place, draft.retry, after=refs, **options)
            return draft.add(spec, place, None if isinstance(target, str) else target)

        return decorator(add) if fn is None else add(fn)


def decorator(add: Callable[[F], Stage[Any]]) -> Callable[[F], F]:
    """Adds what it decorates, and leaves it as it is."""

    def decorate(target: F) -> F:
        add(target)
        return target

    return decorate


def called(target: Any, options: Mapping[str, Any]) -> str | None:
    """What a stage will be called, as far as that is known before it is read."""
    name = options.get("name", target if isinstance(target, str) else getattr(target, "__name__", None))
    return name if isinstance(name, str) else None

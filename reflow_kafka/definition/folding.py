"""What stages that aggregate and those that reduce are told alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Literal

from reflow_kafka.definition.arguments import refuse_unknown
from reflow_kafka.definition.operators import Windowed
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import StageSpec
from reflow_kafka.windows import Session

When = Literal["close", "update"]
WHEN: Final = ("close", "update")
OPTIONS: Final = ("after", "close_on", "key", "on_error", "partitions", "rate", "retry", "ttl", "when")


def refuse_others(options: Mapping[str, Any], name: str, place: Place) -> None:
    """Refuse options that such a stage does not have."""
    refuse_unknown(options, (*OPTIONS, "emit", "window"), name, place)


def when_emitted(given: Any, window: Any, usual: When, name: str, place: Place) -> When:
    """Whether a window emits once, when it is closed, or each event an update.

    Raises:
        DefinitionError: neither; or there is no window to be closed.
    """
    if given is None:
        return usual
    when: When = place.choose("emit", given, WHEN, stage=name)
    if when == "close" and window is None:
        place.fail('emit="close" needs a window that closes: add window=Tumbling(60), or such', stage=name)
    return when


def merging(window: Any, merge: Callable[[Any, Any], Any], name: str, place: Place) -> Any:
    """The window; if it is of sessions, `merge` makes one of two.

    Raises:
        DefinitionError: it says itself how.
    """
    if not isinstance(window, Session):
        return window
    if window.merge is not None:
        place.fail(
            "how states of sessions are merged is known here: take merge= out of Session(...)", stage=name
        )
    gap, grace = (timedelta(milliseconds=time) for time in (window.gap, window.grace))
    return Session(gap, grace=grace, merge=merge)


def values_only(spec: StageSpec) -> StageSpec:
    """The stage, with windows that leave out events without value: there is nothing to fold in them."""
    assert isinstance(spec.operator, Windowed)
    return replace(spec, operator=replace(spec.operator, values_only=True))

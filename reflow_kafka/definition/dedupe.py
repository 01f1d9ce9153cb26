"""A stage that passes equal events on once: from what a user writes to its spec."""

from __future__ import annotations

from typing import Any

from reflow_kafka.definition.check import check_stage
from reflow_kafka.definition.handlers import plain_callable
from reflow_kafka.definition.operators import Dedupe
from reflow_kafka.definition.place import Place, did_you_mean
from reflow_kafka.definition.spec import UNSET, StageSpec, UpstreamRef
from reflow_kafka.units import as_seconds

OPTIONS = ("after", "by", "key", "on_error", "partitions", "when", "within")


def dedupe_spec(
    name: Any,
    place: Place,
    /,
    *,
    after: tuple[UpstreamRef, ...],
    by: Any = None,
    within: Any = None,
    key: Any = UNSET,
    when: Any = None,
    partitions: Any = None,
    on_error: Any = "dead-letter",
    **unknown: object,
) -> StageSpec:
    """Such a stage. Unless it is given a key, what makes events equal is their key.

    Raises:
        DefinitionError: an argument is not what it must be.
    """
    if not isinstance(name, str):
        place.fail(f"its first argument is the name of the stage, not {name!r}")
    for option in unknown:
        place.fail(f"unknown option {option!r}{did_you_mean(option, OPTIONS)}", stage=name)
    time = as_seconds(within)
    if not time >= 0.001:
        place.fail(
            "within= is how far the times of equal events lie apart at most: a time in seconds or a "
            f"timedelta, from 1 ms on, not {within!r}",
            stage=name,
        )
    if by is not None and (wrong := _wrong_in(by)):
        place.fail(f"by= must be a field's name or a plain function of the value; it {wrong}", stage=name)
    own_key = key is not UNSET and key is not None
    spec = StageSpec(
        name=name,
        kind="stage",
        where=place.where,
        after=after,
        key=key if by is None or own_key else by,
        when=when,
        partitions=partitions,
        on_error=on_error,
        operator=Dedupe(by=by if own_key else None, within=round(time * 1000)),
    )
    check_stage(spec)
    return spec


def _wrong_in(by: Any) -> str | None:
    if isinstance(by, str):
        return None if by else "is empty"
    return plain_callable(by, 1)

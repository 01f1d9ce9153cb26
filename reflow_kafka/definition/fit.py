"""Whether what one stage emits can be what the next one takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, get_args, get_origin

from reflow_kafka.definition.spec import ANY, SinkSpec, SourceSpec, StageSpec, UpstreamRef
from reflow_kafka.definition.types import fits, is_a
from reflow_kafka.serde.json import UnsupportedType
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.serde.types import type_name


def check_types(stage: StageSpec, stages: Mapping[str, StageSpec]) -> None:
    """What is wrong with the types of the values a stage takes.

    Raises:
        DefinitionError: nothing that its upstream emits fits, or it cannot be carried to it.
    """
    for side, ref in enumerate(stage.after):
        wanted = stage.accepts(side)
        upstream = stages[ref.stage]
        given = _given(ref, stages)
        if given is NoneType:
            stage.fail(f"{ref.stage!r} emits nothing: its handler is annotated to return None")
        takes, emits = f"it takes {type_name(wanted)}", f"{ref.stage!r} emits {type_name(given)}"
        if not fits(given, wanted):
            stage.fail(f"{takes}, but {emits}{_batch_hint(stage, given, wanted)}")
        if stage.chain:
            if not is_a(given, wanted):
                stage.fail(f"chain=True hands values over as they are: {takes}, but {emits}")
        elif not _has_format(upstream.source) and not _has_format(stage.sink):
            _check_codec(stage, given if wanted is ANY else wanted)


def _given(ref: UpstreamRef, stages: Mapping[str, StageSpec]) -> Any:
    """The type of what comes from there, as far as it is known."""
    upstream = stages[ref.stage]
    while ref.output is None and upstream.hands_on and upstream.type is ANY and len(upstream.after) == 1:
        (ref,) = upstream.after
        upstream = stages[ref.stage]
    # What goes to a named output does not stand in the annotation.
    return ANY if ref.output is not None else upstream.result_type


def _batch_hint(stage: StageSpec, given: Any, wanted: Any) -> str:
    """What a handler that takes a list of what it should take one by one may lack."""
    is_list = stage.handler is not None and stage.batch is None and get_origin(wanted) in (list, Sequence)
    if not is_list or not fits(given, get_args(wanted)[0]):
        return ""
    return "; to take many at once, add batch=Batch(max_events=500, within=1.0)"


def _has_format(end: SourceSpec | SinkSpec | None) -> bool:
    """Whether a topic outside is written in a format of its own, which alone knows what it can carry."""
    return end is not None and end.format != "json"


def _check_codec(stage: StageSpec, carried: Any) -> None:
    try:
        edge_codec(carried)
    except UnsupportedType as error:
        stage.fail(f"the events it takes cannot be written and read: {error}")

"""Stages that take events and emit others: from what a user writes to their specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from reflow_kafka.definition.arguments import name_for, refuse_unknown
from reflow_kafka.definition.check import check_stage
from reflow_kafka.definition.handlers import Data, read_handler
from reflow_kafka.definition.operators import Operator
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.running import RUNNING, read_running
from reflow_kafka.definition.spec import StageSpec
from reflow_kafka.definition.state import read_state
from reflow_kafka.definition.timing import TIMING, read_timing
from reflow_kafka.options import Retry

EDGE: Final = ("after", "key", "on_error", "partitions", "when")
"""What every stage with an upstream can be told; its spec calls it the same."""
HANDLED: Final = (*EDGE, "name", "outputs", *RUNNING)
"""What every stage with a handler can be told."""
STAGE: Final = (*HANDLED, "state", *TIMING)
"""What a stage can be told that is nothing special."""


def stage_spec(
    target: Any, place: Place, retry: Retry, /, *, name: Any = None, state: Any = None, **options: Any
) -> StageSpec:
    """A processing stage; `retry` is what it does unless told otherwise.

    Raises:
        DefinitionError: an argument or the handler is not what it must be.
    """
    name = name_for(target, name, place)
    refuse_unknown(options, STAGE, name, place)
    running = read_running(options, retry, name, place)
    data: Data = ("value",) if state is None else ("state", "value")
    handler = read_handler(target, data, lists=running["batch"] is not None, stage=name, place=place)
    fields = {**running, **read_timing(options, handler, name, place)}
    if state is not None:
        fields["state"] = read_state(state, handler, stage=name, place=place)
    return make_stage(name, place, options, handler=handler, **fields)


def operator_spec(
    target: Any,
    data: Data,
    operator: Operator,
    place: Place,
    retry: Retry,
    /,
    *,
    name: Any = None,
    **options: Any,
) -> StageSpec:
    """A stage whose operator calls its handler with `data`.

    Raises:
        DefinitionError: an argument or the handler is not what it must be.
    """
    name = name_for(target, name, place)
    refuse_unknown(options, HANDLED, name, place)
    running = read_running(options, retry, name, place)
    handler = read_handler(target, data, stage=name, place=place)
    return make_stage(name, place, options, handler=handler, operator=operator, **running)


def make_stage(name: str, place: Place, options: Mapping[str, Any], **fields: Any) -> StageSpec:
    """The spec, checked, of options that it calls the same, and of what else has been read already.

    Raises:
        DefinitionError: an option is not what it must be.
    """
    outputs = _outputs(options.get("outputs", ()), name, place)
    spec = StageSpec(
        **{"name": name, "kind": "stage", "where": place.where, **options, "outputs": outputs, **fields}
    )
    check_stage(spec)
    return spec


def _outputs(given: Any, name: str, place: Place) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(o, str) for o in given):
        place.fail(f'outputs= is a list of names, such as outputs=["big"], not {given!r}', stage=name)
    return tuple(given)

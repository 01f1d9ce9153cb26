"""From what a user writes to the frozen specs of stages that bring events together again."""

from __future__ import annotations

from typing import Any, Final

from reflow_kafka.definition.arguments import name_for, read_key_of, read_milliseconds
from reflow_kafka.definition.handlers import PARTS, SIDES
from reflow_kafka.definition.operators import Gather, Zip
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import StageSpec
from reflow_kafka.definition.stages import operator_spec
from reflow_kafka.definition.timing import CLOCKS
from reflow_kafka.options import Retry
from reflow_kafka.serde.types import type_name

WAITS: Final = "how long after its first part a set waits for the others"


def gather_spec(
    target: Any,
    place: Place,
    retry: Retry,
    /,
    *,
    expect: Any = None,
    within: Any = None,
    id: Any = None,
    close_on: Any = "event-time",
    name: Any = None,
    **options: Any,
) -> StageSpec:
    """A stage over sets of parts.

    Raises:
        DefinitionError: an argument or the handler is not what it must be.
    """
    name = name_for(target, name, place)
    operator = Gather(
        expect=_expect(expect, name, place),
        within=read_milliseconds("within", within, name, place, what=WAITS, least=0.001),
        id=read_key_of("id", id, name, place),
        close_on=place.choose("close_on", close_on, CLOCKS, stage=name),
    )
    spec = operator_spec(target, (PARTS,), operator, place, retry, name=name, **options)
    handler = spec.handler
    if handler is not None and not handler.takes_list:
        found = type_name(handler.value_type)
        place.fail(f"it is given the list of all parts: annotate it list[{found}], not {found}", stage=name)
    return spec


def zip_spec(
    target: Any,
    place: Place,
    retry: Retry,
    /,
    *,
    after: Any = (),
    limit: Any = 100,
    name: Any = None,
    **options: Any,
) -> StageSpec:
    """A stage over pairs.

    Raises:
        DefinitionError: an argument or the handler is not what it must be.
    """
    name = name_for(target, name, place)
    if len(after) != 2:
        message = f"it pairs the events of two upstreams, after=[left, right], not of {len(after)}"
        place.fail(message, stage=name)
    if type(limit) is not int or limit < 1:
        place.fail(
            f"limit= is how many events of a key one side may be ahead: a whole number from 1 on, "
            f"not {limit!r}",
            stage=name,
        )
    return operator_spec(target, SIDES, Zip(limit), place, retry, after=after, name=name, **options)


def _expect(given: Any, name: str, place: Place) -> Any:
    counts = isinstance(given, int)
    if given is None or (counts and (given < 1 or isinstance(given, bool))):
        place.fail(
            "expect= is how many parts there are: a whole number from 1 on, or where a part tells it, a "
            f"field's name or a plain function of the value, not {given!r}",
            stage=name,
        )
    return given if counts else read_key_of("expect", given, name, place)

"""From what a user writes to the frozen specs of stages that bring events together again."""

from __future__ import annotations

from typing import Any, Final

from reflow_kafka.definition.build import name_for, operator_spec
from reflow_kafka.definition.handlers import PARTS, plain_callable
from reflow_kafka.definition.operators import Gather, Zip
from reflow_kafka.definition.place import Place, did_you_mean, is_one_of
from reflow_kafka.definition.spec import StageSpec
from reflow_kafka.options import Retry
from reflow_kafka.serde.types import type_name
from reflow_kafka.units import as_seconds

CLOCKS: Final = ("event-time", "wall-clock")


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
    name: str | None = None,
    **options: Any,
) -> StageSpec:
    """A stage over sets of parts.

    Raises:
        DefinitionError: an argument or the handler is not what it must be.
    """
    name = name_for(target, name, place)
    operator = Gather(
        expect=_expect(expect, name, place),
        within=_milliseconds(within, name, place),
        id=_found_in_value("id", id, name, place),
        close_on=_clock(close_on, name, place),
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
    name: str | None = None,
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
    operator = Zip(limit=limit)
    return operator_spec(target, ("left", "right"), operator, place, retry, after=after, name=name, **options)


def _expect(given: Any, name: str, place: Place) -> Any:
    counts = isinstance(given, int)
    if given is None or (counts and (given < 1 or isinstance(given, bool))):
        place.fail(
            "expect= is how many parts there are: a whole number from 1 on, or where a part tells it, a "
            f"field's name or a plain function of the value, not {given!r}",
            stage=name,
        )
    return given if counts else _found_in_value("expect", given, name, place)


def _found_in_value(option: str, given: Any, name: str, place: Place) -> Any:
    if given is None or (isinstance(given, str) and given):
        return given
    wrong = f"is {given!r}" if isinstance(given, str) else plain_callable(given, 1)
    if wrong:
        message = f"{option}= must be a field's name or a plain function of the value; it {wrong}"
        place.fail(message, stage=name)
    return given


def _milliseconds(given: Any, name: str, place: Place) -> int:
    time = as_seconds(given)
    if not time >= 0.001:
        place.fail(
            "within= is how long after its first part a set waits for the others: a time in seconds or a "
            f"timedelta, of one millisecond or more, not {given!r}",
            stage=name,
        )
    return round(time * 1000)


def _clock(given: Any, name: str, place: Place) -> Any:
    if not is_one_of(given, CLOCKS):
        place.fail(f"unknown close_on={given!r}{did_you_mean(str(given), CLOCKS)}", stage=name)
    return given

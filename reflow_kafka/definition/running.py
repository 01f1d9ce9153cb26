"""Options that say how the handler of a stage is run: read from what a user writes, or refused."""

from __future__ import annotations

import math
from typing import Any, Final

from reflow_kafka.definition.place import Place, did_you_mean
from reflow_kafka.options import Batch, Rate, Retry
from reflow_kafka.units import seconds

RUN_IN: Final = ("loop", "thread", "process")
RUNNING: Final[tuple[str, ...]] = ("batch", "chain", "concurrency", "rate", "retry", "run_in", "timeout")


def read_running(options: dict[str, Any], retry: Retry, name: str, place: Place) -> dict[str, Any]:
    """Takes these options out of `options`; they are returned as the fields of a `StageSpec`.

    Raises:
        DefinitionError: one of them is not what it must be.
    """
    given = {option: options.pop(option) for option in RUNNING if option in options}
    concurrency = given.get("concurrency", 1)
    if type(concurrency) is not int or concurrency < 1:
        message = "concurrency= is how many events are in progress at once: a whole number from 1 on, not "
        place.fail(f"{message}{concurrency!r}", stage=name)
    run_in = given.get("run_in", "loop")
    if run_in not in RUN_IN:
        place.fail(f"unknown run_in={run_in!r}{did_you_mean(str(run_in), RUN_IN)}", stage=name)
    chain = given.get("chain", False)
    if not isinstance(chain, bool):
        place.fail(f"chain= is True or False, not {chain!r}", stage=name)
    return {
        "batch": _of(Batch, "batch=Batch(max_events=500, within=1.0)", given, name, place),
        "chain": chain,
        "concurrency": concurrency,
        "rate": _of(Rate, "rate=Rate(100)", given, name, place),
        "retry": _of(Retry, "retry=Retry(attempts=5)", given, name, place) or retry,
        "run_in": run_in,
        "timeout": _timeout(given.get("timeout"), name, place),
    }


def _of(kind: type, such_as: str, given: dict[str, Any], name: str, place: Place) -> Any:
    option = such_as.partition("=")[0]
    value = given.get(option)
    if value is not None and not isinstance(value, kind):
        place.fail(f"{option}= is a {kind.__name__}, such as {such_as}, not {value!r}", stage=name)
    return value


def _timeout(given: Any, name: str, place: Place) -> float | None:
    if given is None:
        return None
    try:
        time = seconds(given)
    except (TypeError, ValueError):
        time = math.nan
    if isinstance(given, bool | str) or not (math.isfinite(time) and time > 0):
        message = f"timeout= is a time in seconds or a timedelta, longer than nothing, not {given!r}"
        place.fail(message, stage=name)
    return time

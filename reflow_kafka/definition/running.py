"""Options that say how the handler of a stage is run: read from what a user writes, or refused.

`read_running` looks at each option alone, `check_running` at how they fit the handler and each other;
`check_process` needs to know what the handler takes by name, and so waits for the whole flow.
"""

from __future__ import annotations

import functools
import inspect
import sys
from typing import Any, Final

from reflow_kafka.definition.handlers import CONTEXT
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.spec import Handler, StageSpec, Unset
from reflow_kafka.options import Batch, Rate, Retry
from reflow_kafka.serde.types import type_name
from reflow_kafka.units import as_seconds

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
    chain = given.get("chain", False)
    if not isinstance(chain, bool):
        place.fail(f"chain= is True or False, not {chain!r}", stage=name)
    return {
        "batch": _of(Batch, "batch=Batch(max_events=500, within=1.0)", given, name, place),
        "chain": chain,
        "concurrency": concurrency,
        "rate": _of(Rate, "rate=Rate(100)", given, name, place),
        "retry": _of(Retry, "retry=Retry(attempts=5)", given, name, place) or retry,
        "run_in": place.choose("run_in", given.get("run_in", "loop"), RUN_IN, stage=name),
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
    time = as_seconds(given)
    if not time > 0:
        message = f"timeout= is a time in seconds or a timedelta, longer than nothing, not {given!r}"
        place.fail(message, stage=name)
    return time


# ---- how they fit the handler, and each other


def check_running(stage: StageSpec) -> None:
    """What is wrong with how a handler is to be run.

    Raises:
        DefinitionError: naming the stage, and what to write instead.
    """
    if stage.chain:
        _check_chain(stage)
    if stage.operator is not None:
        _check_timed(stage)
    if stage.handler is not None:
        _check_place(stage, stage.handler)
        if stage.batch is not None:
            _check_batch(stage, stage.handler)


def _check_place(stage: StageSpec, handler: Handler) -> None:
    if stage.run_in != "loop":
        if handler.shape.suspends:
            stage.fail(
                f'run_in="{stage.run_in}" is for a plain def: what is async waits in the loop without '
                "holding anything up; take run_in= out, or write def"
            )
        return
    if handler.shape.suspends:
        return
    advice = 'write async def, or add run_in="thread"'
    if stage.timeout is not None:
        stage.fail(f"timeout= cannot stop a plain def that runs in the loop: {advice}")
    if stage.concurrency > 1:
        stage.fail(f"concurrency= is of no use to a plain def in the loop, which never waits: {advice}")


def _check_batch(stage: StageSpec, handler: Handler) -> None:
    if not handler.takes_list:
        found = type_name(handler.value_type)
        item = f"Event[{found}]" if handler.takes_event else found
        stage.fail(f"with batch= it is given a list: annotate its value list[{item}], not {item}")
    if stage.state is not None and not (stage.batch is not None and stage.batch.per_key):
        stage.fail(
            "a list holds events of several keys, and each key has a state of its own: "
            "write batch=Batch(..., per_key=True), which gives it lists of one key"
        )


def _check_chain(stage: StageSpec) -> None:
    """A chained stage takes its events, one by one, where its upstream emits them."""
    if len(stage.after) > 1:
        names = ", ".join(map(str, stage.after))
        stage.fail(f"chain=True runs it inside its one upstream, and it has several ({names}): take it out")
    if not isinstance(stage.key, Unset) and stage.key is not None:
        stage.fail(
            "another key may belong to another lane, so key= needs a topic in between: "
            "take chain=True out, or key="
        )
    if stage.partitions is not None:
        stage.fail("chain=True runs it in the lanes of its upstream: take partitions= out, or chain=True")
    if stage.run_in != "loop":
        stage.fail(
            f'run_in="{stage.run_in}" takes it out of the loop, where its upstream hands it its events: '
            "take chain=True out, or run_in="
        )
    usual = {"batch": None, "concurrency": 1, "rate": None}
    for option, value in usual.items():
        if getattr(stage, option) != value:
            stage.fail(
                f"{option}= belongs to the head of a chain, the stage in whose worker this one runs: "
                f"give it to {str(stage.after[0])!r}, or take chain=True out"
            )


def _check_timed(stage: StageSpec) -> None:
    """A timed stage works on one event after the other, in the loop."""
    usual = {"batch": None, "chain": False, "concurrency": 1, "run_in": "loop"}
    for option, value in usual.items():
        if getattr(stage, option) != value:
            stage.fail(
                f"{option}= is of no use to a stage with windows, timers or joins, which handles one event "
                "after the other: put what is slow into a stage of its own, or take it out"
            )


# ---- other processes


def check_process(stage: StageSpec) -> None:
    """Whether another process can import the handler, and call it there.

    Raises:
        DefinitionError: it cannot; the message says what to write instead.
    """
    handler = stage.handler
    if handler is None or stage.run_in != "process":
        return
    if wrong := _not_importable(handler.target):
        advice = 'make it a function or class of a module, or use run_in="thread"'
        stage.fail(f'run_in="process" imports the handler in other processes, but it is {wrong}: {advice}')
    resources = [name for name in (*handler.init_by_name, *handler.by_name) if name != CONTEXT]
    if resources:
        stage.fail(
            f'resource {resources[0]!r} lives in the engine\'s process, not where run_in="process" runs the '
            "handler: write a class that makes what it needs in its constructor or open(), which is built "
            'once per process, or use run_in="thread"'
        )
    if handler.init_by_name:
        stage.fail(f'with run_in="process" its constructor cannot take {CONTEXT!r}: take it in __call__')


def _not_importable(target: Any) -> str | None:
    """Why no other process finds the object by its module and name, or None if nothing speaks against it."""
    if isinstance(target, functools.partial):
        return "a partial"
    if inspect.ismethod(target) and not inspect.isclass(target.__self__):
        return "a method of an object, which exists only here"
    name = getattr(target, "__qualname__", None)
    if name is None:
        return "an object, which exists only here"
    if "<lambda>" in name:
        return "a lambda"
    if "<locals>" in name:
        return "defined inside a function"
    found: Any = sys.modules.get(getattr(target, "__module__", None) or "")
    if found is None:  # a program that was run without becoming a module
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    if found != target:
        return f"not what its module calls {name}: something else has taken that name"
    return None

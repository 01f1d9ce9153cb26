"""From what a user writes as arguments to the frozen specs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from reflow_kafka.connector import Sink, Source
from reflow_kafka.definition.arguments import (
    check_codec,
    check_connector,
    read_delay,
    read_reset,
    read_topics,
)
from reflow_kafka.definition.check import check_stage
from reflow_kafka.definition.handlers import CONTEXT, Data, read_handler
from reflow_kafka.definition.operators import Operator
from reflow_kafka.definition.place import Place, did_you_mean, is_one_of, snake_case
from reflow_kafka.definition.running import RUNNING, read_running
from reflow_kafka.definition.schedule import read_schedule
from reflow_kafka.definition.spec import (
    ANY,
    UNSET,
    Handler,
    OnError,
    ResourceSpec,
    Shape,
    SinkSpec,
    SourceSpec,
    StageSpec,
    StateSpec,
    UpstreamRef,
)
from reflow_kafka.definition.state import read_state
from reflow_kafka.definition.timing import TIMING, read_timing
from reflow_kafka.options import FOREVER, Retry

Subject = str | Callable[..., Any]
"""What a source or sink is called, or the function that it is."""

CONNECTOR_OPTIONS: Final = ("batch", "retry")
"""What a sink over a connector can be told of how it is run."""


def stage_spec(
    target: Any,
    place: Place,
    retry: Retry,
    /,
    *,
    after: tuple[UpstreamRef, ...] = (),
    name: str | None = None,
    key: Any = UNSET,
    when: Any = None,
    state: Any = None,
    partitions: Any = None,
    outputs: Any = (),
    on_error: Any = "dead-letter",
    **options: Any,
) -> StageSpec:
    """A processing stage; `retry` is what it does unless told otherwise.

    Raises:
        DefinitionError: an argument or the handler is not what it must be.
    """
    name = name_for(target, name, place)
    running = read_running(options, retry, name, place)
    data: Data = ("value",) if state is None else ("state", "value")
    handler = read_handler(target, data, lists=running["batch"] is not None, stage=name, place=place)
    timing = read_timing(options, handler, name, place)
    _refuse_unknown(options, (*_options_of(stage_spec), *RUNNING, *TIMING), name, place)
    return _checked(
        StageSpec(
            name=name,
            kind="stage",
            where=place.where,
            after=after,
            handler=handler,
            state=None if state is None else read_state(state, handler, stage=name, place=place),
            key=key,
            when=when,
            partitions=partitions,
            outputs=_outputs(outputs, name, place),
            on_error=on_error,
            **running,
            **timing,
        )
    )


def operator_spec(
    target: Any,
    data: Data,
    operator: Operator,
    place: Place,
    retry: Retry,
    /,
    *,
    after: tuple[UpstreamRef, ...] = (),
    name: str | None = None,
    key: Any = UNSET,
    when: Any = None,
    partitions: Any = None,
    outputs: Any = (),
    on_error: Any = "dead-letter",
    **options: Any,
) -> StageSpec:
    """A stage whose operator calls its handler with `data`.

    Raises:
        DefinitionError: an argument or the handler is not what it must be.
    """
    name = name_for(target, name, place)
    running = read_running(options, retry, name, place)
    _refuse_unknown(options, (*_options_of(operator_spec), *RUNNING), name, place)
    return _checked(
        StageSpec(
            name=name,
            kind="stage",
            where=place.where,
            after=after,
            handler=read_handler(target, data, stage=name, place=place),
            key=key,
            when=when,
            partitions=partitions,
            outputs=_outputs(outputs, name, place),
            on_error=on_error,
            operator=operator,
            **running,
        )
    )


def source_spec(
    subject: Subject,
    connector: Any,
    place: Place,
    on_error: OnError,
    /,
    *,
    name: str | None = None,
    topic: Any = None,
    type: Any = None,
    format: Any = None,
    key: Any = None,
    timestamp: Any = None,
    out_of_orderness: Any = 0.0,
    idle_after: Any = 30.0,
    auto_offset_reset: Any = None,
    state: Any = None,
    every: Any = None,
    cron: Any = None,
    timezone: Any = None,
    missed: Any = None,
    **unknown: object,
) -> StageSpec:
    """A source over topics, a connector, a schedule or a generator.

    Raises:
        DefinitionError: an argument or the generator is not what it must be.
    """
    target, name = _subject(subject, name, place)
    _refuse_unknown(unknown, _options_of(source_spec), name, place)
    given = {
        "topic=": topic,
        "a connector": connector,
        "a generator": target,
        "every=": every,
        "cron=": cron,
    }
    origin = _only_one(
        given, f'@flow.source() over a generator, flow.source("{name}", topic=...)', name, place
    )
    scheduled = every is not None or cron is not None
    _refuse(
        {
            "format": format if topic is None else None,
            "auto_offset_reset": auto_offset_reset if topic is None else None,
            "state": state if target is None else None,
            "type": type if target is not None or scheduled else None,
            "timestamp": timestamp if scheduled else None,
            "timezone": None if scheduled else timezone,
            "missed": None if scheduled else missed,
        },
        origin,
        name,
        place,
    )
    if connector is not None:
        check_connector(connector, Source, "source", name, place)
    handler, position = _generator(target, state, name, place) if target is not None else (None, None)
    source = SourceSpec(
        topics=() if topic is None else read_topics(topic, name, place),
        connector=connector,
        schedule=read_schedule(every, cron, timezone, missed, name, place) if scheduled else None,
        position=state,
        format="json" if format is None else format,
        timestamp=timestamp,
        out_of_orderness=read_delay("out_of_orderness", out_of_orderness, name, place),
        idle_after=read_delay("idle_after", idle_after, name, place),
        auto_offset_reset=read_reset(auto_offset_reset, name, place),
    )
    read_type = ANY if type is None else type
    check_codec(read_type, source.format, name, place)
    return _checked(
        StageSpec(
            name=name,
            kind="source",
            where=place.where,
            handler=handler,
            type=read_type if handler is None else handler.result_type,
            state=position,
            key=key,
            source=source,
            on_error=on_error,
        )
    )


def sink_spec(
    subject: Subject,
    connector: Any,
    place: Place,
    retry: Retry,
    /,
    *,
    after: tuple[UpstreamRef, ...] = (),
    name: str | None = None,
    topic: Any = None,
    format: Any = None,
    key: Any = UNSET,
    when: Any = None,
    partitions: Any = None,
    on_error: Any = "dead-letter",
    **options: Any,
) -> StageSpec:
    """A sink into a topic, a connector or a function; `retry` is what a function does unless told otherwise.

    Raises:
        DefinitionError: an argument or the function is not what it must be.
    """
    target, name = _subject(subject, name, place)
    asked = {option: options[option] for option in RUNNING if option in options}
    running = read_running(options, retry if connector is None else FOREVER, name, place)
    _refuse_unknown(options, (*_options_of(sink_spec), *RUNNING), name, place)
    given = {"topic=": topic, "a connector": connector, "a function": target}
    origin = _only_one(
        given, f'@flow.sink(after=...) over a function, flow.sink("{name}", topic=...)', name, place
    )
    _refuse(
        {
            "format": format if topic is None else None,
            "partitions": partitions if topic is not None else None,
            **(
                {o: asked[o] for o in asked if topic is not None or o not in CONNECTOR_OPTIONS}
                if target is None
                else {}
            ),
        },
        origin,
        name,
        place,
    )
    if connector is not None:
        check_connector(connector, Sink, "sink", name, place)
    if isinstance(topic, str):
        read_topics(topic, name, place)
    elif topic is not None and not callable(topic):
        place.fail(f"topic= is a topic's name or a function of the value, not {topic!r}", stage=name)
    sink = SinkSpec(topic=topic, connector=connector, format="json" if format is None else format)
    check_codec(ANY, sink.format, name, place)
    handler = None
    if target is not None:
        lists = running["batch"] is not None
        handler = read_handler(target, ("value",), lists=lists, stage=name, place=place)
    return _checked(
        StageSpec(
            name=name,
            kind="sink",
            where=place.where,
            after=after,
            handler=handler,
            key=key,
            when=when,
            partitions=partitions,
            sink=sink,
            on_error=on_error,
            **running,
        )
    )


def reply_spec(place: Place, /, *, after: tuple[UpstreamRef, ...], name: Any, when: Any) -> StageSpec:
    """A stage that answers requests.

    Raises:
        DefinitionError: an argument is not what it must be.
    """
    if not isinstance(name, str):
        place.fail(f"name= is a text, not {name!r}")
    return _checked(
        StageSpec(
            name=name, kind="sink", where=place.where, after=after, when=when, sink=SinkSpec(reply=True)
        )
    )


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


# ---- what they share


def _checked(stage: StageSpec) -> StageSpec:
    check_stage(stage)
    return stage


def _subject(subject: Subject, name: str | None, place: Place) -> tuple[Any, str]:
    """The handler, if there is one, and the stage's name."""
    if not isinstance(subject, str):
        if not callable(subject):
            place.fail(f"the first argument is a name or a function, not {subject!r}")
        return subject, name_for(subject, name, place)
    if name is not None:
        place.fail(f"it has two names, {subject!r} and name={name!r}", stage=subject)
    return None, subject


def _outputs(given: Any, name: str, place: Place) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not all(isinstance(o, str) for o in given):
        place.fail(f'outputs= is a list of names, such as outputs=["big"], not {given!r}', stage=name)
    return tuple(given)


def name_for(target: Any, name: Any, place: Place) -> str:
    """The name given, or that of the function; a class ``RateLimiter`` is called ``rate_limiter``."""
    if name is None:
        name = getattr(target, "__name__", None)
        if name is None or name == "<lambda>":
            place.fail(f"{target!r} has no name of its own; give it one with name=")
        if inspect.isclass(target):
            name = snake_case(name)
    if not isinstance(name, str):
        place.fail(f"name= is a text, not {name!r}")
    return name


def _options_of(spec: Any) -> tuple[str, ...]:
    return tuple(spec.__kwdefaults__)


def _refuse_unknown(unknown: Iterable[str], known: Iterable[str], name: str, place: Place) -> None:
    for option in unknown:
        place.fail(f"unknown option {option!r}{did_you_mean(option, known)}", stage=name)


def _refuse(given: Mapping[str, object], origin: str, name: str, place: Place) -> None:
    for option, value in given.items():
        if value is not None:
            said = option == "type" and origin == "a generator"
            reason = "the annotation of its result says it" if said else "it has no meaning there"
            place.fail(f"{option}= cannot be combined with {origin.rstrip('=')}: {reason}", stage=name)


def _only_one(given: Mapping[str, object], such_as: str, name: str, place: Place) -> str:
    found = [what for what, value in given.items() if value is not None]
    if len(found) != 1:
        how = "nothing" if not found else " and ".join(found)
        place.fail(f"it needs one of {', '.join(given)}, and has {how}: write {such_as}", stage=name)
    return found[0]


def _generator(target: Any, state: Any, name: str, place: Place) -> tuple[Handler, StateSpec | None]:
    handler = read_handler(target, () if state is None else ("state",), stage=name, place=place)
    if handler.shape not in (Shape.GENERATOR, Shape.ASYNC_GENERATOR):
        place.fail("a source is a generator function: it yields its events", stage=name)
    return handler, None if state is None else read_state(state, handler, stage=name, place=place)

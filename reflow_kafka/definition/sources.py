"""Sources: from what a user writes to their specs."""

from __future__ import annotations

from typing import Any, Final

from reflow_kafka.connector import Source
from reflow_kafka.definition.arguments import (
    Subject,
    check_codec,
    check_connector,
    only_one,
    options_of,
    read_duration,
    read_subject,
    read_topics,
    refuse_unknown,
    refuse_with,
)
from reflow_kafka.definition.check import check_stage
from reflow_kafka.definition.handlers import read_handler
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.schedule import read_schedule
from reflow_kafka.definition.spec import ANY, Handler, OnError, Shape, SourceSpec, StageSpec, StateSpec
from reflow_kafka.definition.state import read_state

RESETS: Final = ("earliest", "latest", "none")


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
    target, name = read_subject(subject, name, place)
    refuse_unknown(unknown, options_of(source_spec), name, place)
    given = {
        "topic=": topic,
        "a connector": connector,
        "a generator": target,
        "every=": every,
        "cron=": cron,
    }
    such_as = f'@flow.source() over a generator, flow.source("{name}", topic=...)'
    origin = only_one(given, such_as, name, place)
    scheduled = every is not None or cron is not None
    refuse_with(
        origin,
        {
            "format": format if topic is None else None,
            "auto_offset_reset": auto_offset_reset if topic is None else None,
            "state": state if target is None else None,
            "type": type if target is not None or scheduled else None,
            "timestamp": timestamp if scheduled else None,
            "timezone": None if scheduled else timezone,
            "missed": None if scheduled else missed,
        },
        name,
        place,
    )
    if connector is not None:
        check_connector(connector, Source, "source", name, place)
    handler, position = _generator(target, state, name, place) if target is not None else (None, None)
    reset = "earliest" if auto_offset_reset is None else auto_offset_reset
    source = SourceSpec(
        topics=() if topic is None else read_topics(topic, name, place),
        connector=connector,
        schedule=read_schedule(every, cron, timezone, missed, name, place) if scheduled else None,
        position=state,
        format="json" if format is None else format,
        timestamp=timestamp,
        out_of_orderness=read_duration("out_of_orderness", out_of_orderness, name, place),
        idle_after=read_duration("idle_after", idle_after, name, place),
        auto_offset_reset=place.choose("auto_offset_reset", reset, RESETS, stage=name),
    )
    read_type = ANY if type is None else type
    check_codec(read_type, source.format, name, place)
    spec = StageSpec(
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
    check_stage(spec)
    return spec


def _generator(target: Any, state: Any, name: str, place: Place) -> tuple[Handler, StateSpec | None]:
    handler = read_handler(target, () if state is None else ("state",), stage=name, place=place)
    if handler.shape not in (Shape.GENERATOR, Shape.ASYNC_GENERATOR):
        place.fail("a source is a generator function: it yields its events", stage=name)
    return handler, None if state is None else read_state(state, handler, stage=name, place=place)

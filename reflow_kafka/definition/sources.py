"""Sources: from what a user writes to their specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from reflow_kafka.connector import Source
from reflow_kafka.definition.arguments import (
    Subject,
    check_codec,
    check_connector,
    only_one,
    read_duration,
    read_subject,
    read_topics,
    refuse_unknown,
    refuse_with,
)
from reflow_kafka.definition.check import check_stage
from reflow_kafka.definition.handlers import read_handler
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.schedule import Schedule, read_schedule
from reflow_kafka.definition.spec import ANY, Handler, OnError, Shape, SourceSpec, StageSpec, StateSpec
from reflow_kafka.definition.state import read_state

RESETS: Final = ("earliest", "latest", "none")
TOPIC: Final = ("auto_offset_reset", "format")
SCHEDULE: Final = ("missed", "timezone")
SOURCE: Final = (
    *("cron", "every", "idle_after", "key", "name", "out_of_orderness"),
    *("state", "timestamp", "topic", "type", *TOPIC, *SCHEDULE),
)
"""What a source can be told; not everything by every kind of source."""


def source_spec(
    subject: Subject, connector: Any, place: Place, on_error: OnError, /, *, name: Any = None, **options: Any
) -> StageSpec:
    """A source over topics, a connector, a schedule or a generator.

    Raises:
        DefinitionError: an argument or the generator is not what it must be.
    """
    target, name = read_subject(subject, name, place)
    refuse_unknown(options, SOURCE, name, place)
    given = {option: value for option, value in options.items() if value is not None}
    _check_origin(target, connector, given, name, place)
    handler = position = None
    if target is not None:
        handler, position = _generator(target, given.get("state"), name, place)
    source = SourceSpec(
        topics=read_topics(given["topic"], name, place) if "topic" in given else (),
        connector=connector,
        schedule=_schedule(given, name, place),
        position=given.get("state"),
        format=given.get("format", "json"),
        timestamp=given.get("timestamp"),
        out_of_orderness=_delay("out_of_orderness", options, 0.0, name, place),
        idle_after=_delay("idle_after", options, 30.0, name, place),
        auto_offset_reset=_reset(given, name, place),
    )
    type = given.get("type", ANY)
    check_codec(type, source.format, name, place)
    spec = StageSpec(
        name=name,
        kind="source",
        where=place.where,
        handler=handler,
        type=type if handler is None else handler.result_type,
        state=position,
        key=given.get("key"),
        source=source,
        on_error=on_error,
    )
    check_stage(spec)
    return spec


def _check_origin(target: Any, connector: Any, given: Mapping[str, Any], name: str, place: Place) -> None:
    """Events come from one place, and only what goes with it is given."""
    origins = {
        "topic=": given.get("topic"),
        "a connector": connector,
        "a generator": target,
        "every=": given.get("every"),
        "cron=": given.get("cron"),
    }
    such_as = f'@flow.source() over a generator, flow.source("{name}", topic=...)'
    origin = only_one(origins, such_as, name, place)
    strangers = {
        "topic=": (*SCHEDULE, "state"),
        "a connector": (*TOPIC, *SCHEDULE, "state"),
        "a generator": (*TOPIC, *SCHEDULE, "type"),
    }.get(origin, (*TOPIC, "state", "type", "timestamp"))
    refuse_with(origin, {option: given[option] for option in strangers if option in given}, name, place)
    if connector is not None:
        check_connector(connector, Source, "source", name, place)


def _schedule(given: Mapping[str, Any], name: str, place: Place) -> Schedule | None:
    if "every" not in given and "cron" not in given:
        return None
    every, cron, timezone, missed = (given.get(o) for o in ("every", "cron", "timezone", "missed"))
    return read_schedule(every, cron, timezone, missed, name, place)


def _delay(option: str, options: Mapping[str, Any], usual: float, name: str, place: Place) -> float:
    return read_duration(option, options.get(option, usual), name, place)


def _reset(given: Mapping[str, Any], name: str, place: Place) -> Any:
    return place.choose("auto_offset_reset", given.get("auto_offset_reset", "earliest"), RESETS, stage=name)


def _generator(target: Any, state: Any, name: str, place: Place) -> tuple[Handler, StateSpec | None]:
    handler = read_handler(target, () if state is None else ("state",), stage=name, place=place)
    if handler.shape not in (Shape.GENERATOR, Shape.ASYNC_GENERATOR):
        place.fail("a source is a generator function: it yields its events", stage=name)
    return handler, None if state is None else read_state(state, handler, stage=name, place=place)

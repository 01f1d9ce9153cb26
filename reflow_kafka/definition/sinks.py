"""Sinks: from what a user writes to their specs."""

from __future__ import annotations

from typing import Any, Final

from reflow_kafka.connector import Sink
from reflow_kafka.definition.arguments import (
    Subject,
    check_codec,
    check_connector,
    only_one,
    read_subject,
    read_topics,
    refuse_unknown,
    refuse_with,
)
from reflow_kafka.definition.handlers import read_handler
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.running import RUNNING, read_running
from reflow_kafka.definition.spec import ANY, SinkSpec, StageSpec
from reflow_kafka.definition.stages import EDGE, make_stage
from reflow_kafka.options import FOREVER, Retry

CONNECTOR_OPTIONS: Final = ("batch", "retry")
"""What a sink over a connector can be told of how it is run."""

SINK: Final = (*EDGE, "format", "name", "topic", *RUNNING)
"""What a sink can be told; not everything by every kind of sink."""


def sink_spec(
    connector: Any,
    subject: Subject,
    place: Place,
    retry: Retry,
    /,
    *,
    name: str | None = None,
    topic: Any = None,
    format: Any = None,
    **options: Any,
) -> StageSpec:
    """A sink into a topic, a connector or a function; `retry` is what a function does unless told otherwise.

    Raises:
        DefinitionError: an argument or the function is not what it must be.
    """
    target, name = read_subject(subject, name, place)
    refuse_unknown(options, SINK, name, place)
    asked = {option: options[option] for option in RUNNING if option in options}
    running = read_running(options, retry if connector is None else FOREVER, name, place)
    given = {"topic=": topic, "a connector": connector, "a function": target}
    such_as = f'@flow.sink(after=...) over a function, flow.sink("{name}", topic=...)'
    origin = only_one(given, such_as, name, place)
    if topic is not None:
        refuse_with(origin, {"partitions": options.get("partitions"), **asked}, name, place)
    else:
        refuse_with(origin, {"format": format}, name, place)
    if connector is not None:
        refuse_with(origin, {o: asked[o] for o in asked if o not in CONNECTOR_OPTIONS}, name, place)
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
    return make_stage(name, place, options, kind="sink", handler=handler, sink=sink, **running)


def reply_spec(place: Place, /, *, name: Any, **options: Any) -> StageSpec:
    """A stage that answers requests.

    Raises:
        DefinitionError: an argument is not what it must be.
    """
    if not isinstance(name, str):
        place.fail(f"name= is a text, not {name!r}")
    return make_stage(name, place, options, kind="sink", sink=SinkSpec(reply=True))

"""Tables, of a flow and global: from what a user writes to their specs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from reflow_kafka.definition.arguments import (
    check_codec,
    options_of,
    read_key_of,
    read_topics,
    refuse_unknown,
)
from reflow_kafka.definition.handlers import CONTEXT
from reflow_kafka.definition.place import Place
from reflow_kafka.definition.sources import source_spec
from reflow_kafka.definition.spec import ANY, GlobalTableSpec, OnError, ResourceSpec, StageSpec, UpstreamRef
from reflow_kafka.definition.stages import make_stage

IDLE_AFTER: Final = 1.0
"""Seconds after which a table's topic that has been read to its end does not hold up events that ask it."""
OF_TOPIC: Final = ("after", "format", "idle_after", "key", "out_of_orderness", "timestamp", "topic", "type")
"""What a table over a topic can be told."""
FOLLOWING: Final = ("after", "key", "partitions", "topic", "type")
"""What a table after a stage can be told."""


def table_spec(
    name: Any, place: Place, on_error: OnError, after: tuple[UpstreamRef, ...] | None, /, **options: Any
) -> StageSpec:
    """A table over a topic, or after a stage.

    Raises:
        DefinitionError: an argument is not what it must be.
    """
    if not isinstance(name, str):
        place.fail(f"the first argument is the table's name, not {name!r}")
    topic = options.get("topic")
    if (topic is None) == (after is None):
        both = "both" if after is not None else "neither"
        message = f"its rows come from topic=..., or from a stage, after=...: it has {both}"
        place.fail(message, stage=name)
    if after is None:
        refuse_unknown(options, OF_TOPIC, name, place)
        options.setdefault("idle_after", IDLE_AFTER)
        return replace(source_spec(name, None, place, on_error, **options), table=True)
    if len(after) != 1:
        place.fail("a table follows one stage: merge several in a stage of their own", stage=name)
    refuse_unknown(options, FOLLOWING, name, place)
    options.pop("topic", None)
    given = options.pop("type", None)
    read_type = ANY if given is None else given
    check_codec(read_type, "json", name, place)
    own = {"after": after, "on_error": on_error, **options}
    return make_stage(name, place, own, type=read_type, table=True)


def global_table_spec(
    name: Any,
    place: Place,
    /,
    *,
    topic: Any = None,
    type: Any = None,
    format: Any = "json",
    key: Any = None,
    **unknown: object,
) -> ResourceSpec:
    """A table that each engine holds as a whole, taken by handlers by its name like a resource.

    Raises:
        DefinitionError: an argument is not what it must be.
    """
    if not isinstance(name, str) or not name.isidentifier() or name == CONTEXT:
        place.fail(f"a global table's name is that of a parameter of handlers, not {name!r}")
    refuse_unknown(unknown, options_of(global_table_spec), name, place)
    if not isinstance(topic, str):
        place.fail(f"its rows come from one topic, topic=..., not {topic!r}", stage=name)
    (topic,) = read_topics(topic, name, place)
    read_type = ANY if type is None else type
    check_codec(read_type, format, name, place)
    table = GlobalTableSpec(topic, read_type, format, read_key_of("key", key, name, place, of="row"))
    return ResourceSpec(name=name, factory=dict, per="engine", by_name=(), where=place.where, table=table)

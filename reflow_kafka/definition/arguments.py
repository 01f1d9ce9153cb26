"""Single arguments of sources and sinks: each is read, or refused with what to write instead."""

from __future__ import annotations

import inspect
import re
from typing import Any, Literal

from reflow_kafka.definition.place import Place, did_you_mean, is_one_of
from reflow_kafka.serde.json import UnsupportedType
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.units import as_seconds

TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
LONGEST = 100 * 366 * 86_400.0
RESETS = ("earliest", "latest", "none")


def check_connector(connector: Any, contract: Any, what: str, name: str, place: Place) -> None:
    if inspect.isclass(connector):
        place.fail(f"give a configured connector, {connector.__name__}(...), not the class", stage=name)
    if not isinstance(connector, contract):
        message = (
            f"{connector!r} is no {what} connector: it lacks the methods of reflow_kafka.{contract.__name__}"
        )
        place.fail(message, stage=name)


def read_topics(topic: Any, name: str, place: Place) -> tuple[str, ...]:
    topics = (
        (topic,) if isinstance(topic, str) else tuple(topic) if isinstance(topic, list | tuple) else (topic,)
    )
    for each in topics or ("",):
        if not isinstance(each, str) or not TOPIC_NAME.fullmatch(each) or each in (".", ".."):
            message = (
                f"{each!r} is no name of a Kafka topic (letters, digits, '.', '_', '-'; up to 249 of them)"
            )
            place.fail(message, stage=name)
    if len(set(topics)) < len(topics):
        place.fail("it names a topic twice", stage=name)
    return topics


def read_reset(given: Any, name: str, place: Place) -> Literal["earliest", "latest", "none"]:
    if given is not None and not is_one_of(given, RESETS):
        place.fail(f"unknown auto_offset_reset={given!r}{did_you_mean(str(given), RESETS)}", stage=name)
    reset: Literal["earliest", "latest", "none"] = "earliest" if given is None else given
    return reset


def read_delay(option: str, given: Any, name: str, place: Place) -> float:
    delay = as_seconds(given)
    if not 0 <= delay <= LONGEST:
        place.fail(f"{option}= is a time in seconds or a timedelta, not negative, not {given!r}", stage=name)
    return delay


def check_codec(type: Any, format: Any, name: str, place: Place) -> None:
    try:
        edge_codec(type, format)
    except UnsupportedType as error:
        place.fail(f"its values cannot be read or written: {error}", stage=name, cause=error)

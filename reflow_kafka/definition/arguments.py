"""Single arguments of stages: each is read, or refused with what to write instead."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from reflow_kafka.definition.handlers import wrong_key_of
from reflow_kafka.definition.place import Place, did_you_mean, snake_case
from reflow_kafka.serde.json import UnsupportedType
from reflow_kafka.serde.typed import edge_codec
from reflow_kafka.units import as_seconds

TOPIC_NAMES = "letters, digits, '.', '_', '-'; up to 249 of them"
_TOPIC_NAME = re.compile(r"(?!\.\.?$)[a-zA-Z0-9._-]{1,249}")
LONGEST = 100 * 366 * 86_400.0
"""Seconds."""
Subject = str | Callable[..., Any]
"""What a source or sink is called, or the function that it is."""


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


def read_subject(subject: Subject, name: str | None, place: Place) -> tuple[Any, str]:
    """The handler, if there is one, and the stage's name."""
    if not isinstance(subject, str):
        if not callable(subject):
            place.fail(f"the first argument is a name or a function, not {subject!r}")
        return subject, name_for(subject, name, place)
    if name is not None:
        place.fail(f"it has two names, {subject!r} and name={name!r}", stage=subject)
    return None, subject


def options_of(spec: Any) -> tuple[str, ...]:
    """What a function that makes a spec is told by name."""
    return tuple(spec.__kwdefaults__)


def refuse_unknown(options: Iterable[str], known: Collection[str], name: str, place: Place) -> None:
    """Refuse options that are not among those known."""
    for option in options:
        if option not in known:
            place.fail(f"unknown option {option!r}{did_you_mean(option, known)}", stage=name)


def refuse_with(origin: str, given: Mapping[str, object], name: str, place: Place) -> None:
    """Refuse the options that are given, not None, as they do not go with what the stage is made of."""
    for option, value in given.items():
        if value is not None:
            said = option == "type" and origin == "a generator"
            reason = "the annotation of its result says it" if said else "it has no meaning there"
            place.fail(f"{option}= cannot be combined with {origin.rstrip('=')}: {reason}", stage=name)


def only_one(given: Mapping[str, object], such_as: str, name: str, place: Place) -> str:
    """Which one of several things is given, not None."""
    found = [what for what, value in given.items() if value is not None]
    if len(found) != 1:
        how = "nothing" if not found else " and ".join(found)
        place.fail(f"it needs one of {', '.join(given)}, and has {how}: write {such_as}", stage=name)
    return found[0]


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
        if not isinstance(each, str) or not is_topic_name(each):
            place.fail(f"{each!r} is no name of a Kafka topic ({TOPIC_NAMES})", stage=name)
    if twice := [topic for topic in topics if topics.count(topic) > 1]:
        place.fail(f"it names topic {twice[0]!r} twice: take one of them out", stage=name)
    return topics


def is_topic_name(text: str) -> bool:
    """Whether Kafka takes it as the name of a topic."""
    return _TOPIC_NAME.fullmatch(text) is not None


def read_duration(
    option: str, given: Any, name: str, place: Place, *, what: str = "", least: float = 0.0
) -> float:
    """Seconds; `what` says to the user what they are for."""
    time = as_seconds(given)
    if not least <= time <= LONGEST:
        bounds = f"from {f'{least * 1000:g} ms' if least else 0} to 100 years"
        wanted = f"a time in seconds or a timedelta, {bounds}"
        place.fail(f"{option}= is {what}{': ' if what else ''}{wanted}, not {given!r}", stage=name)
    return time


def read_milliseconds(option: str, given: Any, name: str, place: Place, **more: Any) -> int:
    """The same in whole milliseconds."""
    return round(read_duration(option, given, name, place, **more) * 1000)


def read_key_of(option: str, given: Any, name: str, place: Place, *, of: str = "value") -> Any:
    """A field's name, a function of the value, or None."""
    if given is not None and (wrong := wrong_key_of(given)):
        place.fail(
            f"{option}= must be a field's name or a plain function of the {of}; it {wrong}", stage=name
        )
    return given


def check_codec(type: Any, format: Any, name: str, place: Place) -> None:
    try:
        edge_codec(type, format)
    except UnsupportedType as error:
        place.fail(f"its values cannot be read or written: {error}", stage=name, cause=error)

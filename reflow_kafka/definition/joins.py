"""Joins and tables: from what a user writes to stages, or refused with what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, get_args

from reflow_kafka.definition.arguments import check_codec, read_topics
from reflow_kafka.definition.build import name_for, operator_spec, source_spec
from reflow_kafka.definition.check import check_stage
from reflow_kafka.definition.handlers import CONTEXT, SIDES, plain_callable, read_handler
from reflow_kafka.definition.operators import (
    Answers,
    AsOfJoin,
    How,
    LatestJoin,
    Meetings,
    Operator,
    References,
    StreamJoin,
    TableJoin,
)
from reflow_kafka.definition.place import Place, did_you_mean, is_one_of
from reflow_kafka.definition.spec import (
    ANY,
    UNSET,
    GlobalTableSpec,
    OnError,
    ResourceSpec,
    StageSpec,
    UpstreamRef,
)
from reflow_kafka.options import Retry
from reflow_kafka.units import as_seconds

HOWS: Final[tuple[str, ...]] = get_args(How)
AS_OF: Final = ("event-time", "latest")
IDLE_AFTER: Final = 1.0
"""Seconds after which a table's topic that has been read to its end does not hold up events that ask it."""


@dataclass(frozen=True, slots=True)
class Joined:
    """One side of a join."""

    ref: UpstreamRef
    table: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What a join is told besides the options of any stage; `fail` names the stage."""

    how: Any = "inner"
    within: Any = None
    on: Any = None
    as_of: Any = None
    grace: Any = None
    copartitioned: Any = False


def join_specs(
    target: Any,
    left: Joined,
    right: Joined,
    terms: Terms,
    place: Place,
    retry: Retry,
    /,
    *,
    name: Any = None,
    **options: Any,
) -> list[StageSpec]:
    """The stages of a join, the last of which calls the handler.

    Raises:
        DefinitionError: these do not join, or not so.
    """
    name = name_for(target, name, place)
    _check_terms(left, right, terms, options, name, place)
    handler = read_handler(target, SIDES, stage=name, place=place)
    if left.table and right.table and terms.on is not None:
        return _by_foreign_key(target, left, right, terms, handler.side_types, name, place, retry, options)
    operator = _operator(left, right, terms, name, place)
    refs = (left.ref, right.ref)
    spec = operator_spec(target, SIDES, operator, place, retry, after=refs, name=name, **options)
    spec = replace(spec, copartitioned=terms.copartitioned)
    return [_as_table(spec) if left.table and right.table else spec]


def table_spec(
    name: Any, place: Place, on_error: OnError, after: tuple[UpstreamRef, ...] | None, **options: Any
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
        _fail(f"its rows come from topic=..., or from a stage, after=...: it has {both}", name, place)
    if after is None:
        options.setdefault("idle_after", IDLE_AFTER)
        return _as_table(source_spec(name, None, place, on_error, **options))
    if len(after) != 1:
        _fail("a table follows one stage: merge several in a stage of their own", name, place)
    options.pop("topic", None)
    return _as_table(_plain(name, place, after=after, on_error=on_error, **options))


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
    for option in unknown:
        _fail(
            f"unknown option {option!r}{did_you_mean(option, ('topic', 'type', 'format', 'key'))}",
            name,
            place,
        )
    if not isinstance(topic, str):
        _fail(f"its rows come from one topic, topic=..., not {topic!r}", name, place)
    (topic,) = read_topics(topic, name, place)
    read_type = ANY if type is None else type
    check_codec(read_type, format, name, place)
    if wrong := _wrong_name_of_key(key):
        _fail(f"key= must be a field's name or a plain function of the row; it {wrong}", name, place)
    table = GlobalTableSpec(topic, read_type, format, key)
    return ResourceSpec(name=name, factory=dict, per="engine", by_name=(), where=place.where, table=table)


# ---- what goes together


def _check_terms(
    left: Joined, right: Joined, terms: Terms, options: Mapping[str, Any], name: str, place: Place
) -> None:
    for message in _wrong(left, right, terms, options):
        _fail(message, name, place)


def _wrong(left: Joined, right: Joined, terms: Terms, options: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong, and what to write instead."""
    streams, tables = not left.table and not right.table, left.table and right.table
    if not is_one_of(terms.how, HOWS):
        yield f"unknown how={terms.how!r}{did_you_mean(str(terms.how), HOWS)}"
    if left.table and not right.table:
        yield (
            f"{left.ref} is a table, {right.ref} a stream: the stream comes first, "
            f"flow.join({str(right.ref)!r}, {str(left.ref)!r})"
        )
    if not streams and terms.within is not None:
        yield "within= is the time between events of two streams, and a row holds until the next: take it out"
    if streams and terms.within is None:
        yield (
            "two streams are joined within a time: add within=60 (seconds between the events of a pair), or "
            "within=(before, after); if one of them holds rows of which the last counts, make it a "
            "flow.table(...)"
        )
    if terms.how == "outer" and not streams and not tables:
        yield 'how="outer" would emit rows that no event asks for: how="inner" or how="left"'
    if terms.on is not None:
        yield from _wrong_key(streams, tables, terms, options)
    if terms.as_of is not None and (streams or tables):
        yield "as_of= says which row of a table an event of a stream meets: take it out"
    if terms.as_of is not None and not is_one_of(terms.as_of, AS_OF):
        yield f"unknown as_of={terms.as_of!r}{did_you_mean(str(terms.as_of), AS_OF)}"
    if terms.grace is not None and (tables or terms.as_of == "latest"):
        yield "grace= is for how long events are waited for, and this join waits for none: take it out"
    if not isinstance(terms.copartitioned, bool):
        yield f"copartitioned= is True or False, not {terms.copartitioned!r}"
    if terms.copartitioned:
        for option, given in {
            "on": terms.on,
            "key": options.get("key"),
            "partitions": options.get("partitions"),
        }.items():
            if given is not None:
                yield f"copartitioned=True takes topics as they are partitioned: take it out, or {option}="
    if options.get("when") is not None:
        yield "when= is of no use to a join: leave events out in a stage before it"


def _wrong_key(streams: bool, tables: bool, terms: Terms, options: Mapping[str, Any]) -> Iterator[str]:
    if streams:
        yield "on= names the row of a table; two streams meet by their keys: write key= instead"
    if tables and terms.how == "outer":
        yield 'a row to which none refers has no key in the result: how="inner" or how="left" with on='
    if options.get("key") is not None:
        yield "on= is the key of what is on the left; what is on the right keeps its own: take key= out"
    if wrong := _wrong_name_of_key(terms.on):
        yield f"on= must be a field's name or a plain function of the left value; it {wrong}"


def _wrong_name_of_key(key: Any) -> str | None:
    if key is None or isinstance(key, str):
        return "is empty" if key == "" else None
    return plain_callable(key, 1)


# ---- what they become


def _operator(left: Joined, right: Joined, terms: Terms, name: str, place: Place) -> Operator:
    how: How = terms.how
    if left.table:
        return TableJoin(how)
    grace = _milliseconds("grace", 0 if terms.grace is None else terms.grace, name, place)
    if not right.table:
        before, after = _within(terms.within, name, place)
        return StreamJoin(how, before, after, grace)
    return LatestJoin(how, terms.on) if terms.as_of == "latest" else AsOfJoin(how, terms.on, grace)


def _by_foreign_key(
    target: Any,
    left: Joined,
    right: Joined,
    terms: Terms,
    rows: tuple[Any, ...],
    name: str,
    place: Place,
    retry: Retry,
    options: dict[str, Any],
) -> list[StageSpec]:
    """Three stages: what rows refer to, where they meet, and what comes of it."""
    first, second = f"{name}_references", f"{name}_meetings"
    common = {option: options[option] for option in ("partitions", "on_error") if option in options}
    references = _plain(first, place, after=(left.ref,), operator=References(terms.on, rows[0]), **common)
    meetings = _plain(
        second, place, after=(UpstreamRef(first), right.ref), operator=Meetings(rows[1]), **common
    )
    operator = Answers(terms.how, first, second)
    answers = operator_spec(
        target, SIDES, operator, place, retry, after=(UpstreamRef(second),), name=name, **options
    )
    return [references, meetings, _as_table(answers)]


def _within(given: Any, name: str, place: Place) -> tuple[int, int]:
    pair = given if isinstance(given, tuple | list) else (given, given)
    if len(pair) != 2:
        _fail(f"within= is a time, or (before, after), not {given!r}", name, place)
    before, after = (_milliseconds("within", part, name, place) for part in pair)
    return before, after


def _plain(
    name: str,
    place: Place,
    /,
    *,
    after: tuple[UpstreamRef, ...],
    operator: Operator | None = None,
    type: Any = None,
    key: Any = UNSET,
    partitions: Any = None,
    on_error: Any = "dead-letter",
    **unknown: object,
) -> StageSpec:
    """A stage without code of the user's: it does what its operator does, or hands on what it takes."""
    for option in unknown:
        known = ("after", "key", "partitions", "topic", "type")
        _fail(f"unknown option {option!r}{did_you_mean(option, known)}", name, place)
    read_type = ANY if type is None else type
    check_codec(read_type, "json", name, place)
    spec = StageSpec(
        name=name,
        kind="stage",
        where=place.where,
        after=after,
        type=read_type,
        key=key,
        partitions=partitions,
        on_error=on_error,
        operator=operator,
    )
    check_stage(spec)
    return spec


def _milliseconds(option: str, given: Any, name: str, place: Place) -> int:
    time = as_seconds(given)
    if not time >= 0:
        _fail(f"{option}= is a time in seconds or a timedelta, none below 0, not {given!r}", name, place)
    return round(time * 1000)


def _as_table(spec: StageSpec) -> StageSpec:
    return replace(spec, table=True)


def _fail(message: str, name: str, place: Place) -> NoReturn:
    place.fail(message, stage=name)

"""Joins: from what a user writes to their stages, or refused with what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

from reflow_kafka.definition.arguments import name_for, read_milliseconds
from reflow_kafka.definition.handlers import SIDES, read_handler, wrong_key_of
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
from reflow_kafka.definition.spec import StageSpec, UpstreamRef
from reflow_kafka.definition.stages import make_stage, operator_spec
from reflow_kafka.options import Retry

HOWS: Final[tuple[str, ...]] = get_args(How)
AS_OF: Final = ("event-time", "latest")


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
    return [replace(spec, table=True) if left.table and right.table else spec]


# ---- what goes together


def _check_terms(
    left: Joined, right: Joined, terms: Terms, options: Mapping[str, Any], name: str, place: Place
) -> None:
    for message in _wrong(left, right, terms, options):
        place.fail(message, stage=name)


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
    if wrong := wrong_key_of(terms.on):
        yield f"on= must be a field's name or a plain function of the left value; it {wrong}"


# ---- what they become


def _operator(left: Joined, right: Joined, terms: Terms, name: str, place: Place) -> Operator:
    how: How = terms.how
    if left.table:
        return TableJoin(how)
    grace = read_milliseconds("grace", 0 if terms.grace is None else terms.grace, name, place)
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
    common = {
        option: given
        for option, given in options.items()
        if option == "partitions" or (option == "on_error" and isinstance(given, str))
    }  # (what a function gives is a result of the join: the first two stages do not emit such)
    asking, meeting = References(terms.on, rows[0]), Meetings(rows[1])
    references = make_stage(first, place, common, after=(left.ref,), operator=asking)
    meetings = make_stage(second, place, common, after=(UpstreamRef(first), right.ref), operator=meeting)
    operator = Answers(terms.how, first, second)
    answers = operator_spec(
        target, SIDES, operator, place, retry, after=(UpstreamRef(second),), name=name, **options
    )
    return [references, meetings, replace(answers, table=True)]


def _within(given: Any, name: str, place: Place) -> tuple[int, int]:
    pair = given if isinstance(given, tuple | list) else (given, given)
    if len(pair) != 2:
        place.fail(
            f"within= is a time, or (before, after), such as within=(60, 0), not {given!r}", stage=name
        )
    before, after = (read_milliseconds("within", part, name, place) for part in pair)
    return before, after

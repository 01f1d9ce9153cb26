"""What a dead letter says about its cause."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable

import pytest

from reflow_kafka.lane import dead_letter
from reflow_kafka.lane.dead_letter import error_headers
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local import LocalRecord

RECORD = LocalRecord(3, 50, b"k", b"{}", [])


def raised(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


def simple(depth: int = 3) -> None:
    if depth:
        simple(depth - 1)
    raise ValueError("first\nsecond line")


def with_cause() -> None:
    try:
        simple()
    except ValueError as error:
        raise KeyError("outer") from error


def with_context() -> None:
    try:
        simple(0)
    except ValueError:
        simple(1)


def with_note() -> None:
    error = OSError(2, "gone")
    error.add_note("look elsewhere")
    raise error


def group() -> None:
    raise ExceptionGroup("several", [raised(simple), KeyError()])  # type: ignore[list-item]


def syntax() -> None:
    compile("1 +", "text", "exec")


def decoding() -> None:
    json.loads("{")


@pytest.mark.parametrize(
    "call", [simple, with_cause, with_context, with_note, group, syntax, decoding, lambda: 1 / 0]
)
def test_the_traceback_is_pythons_however_often_it_was_told(call: Callable[[], object]) -> None:
    for depth in range(3):
        error = raised(call if call is not simple else lambda depth=depth: simple(depth))
        headers = dict(error_headers(RECORD, TopicPartition("in", 0), "f", "s", error))
        told = (headers["reflow.error.traceback"] or b"").decode()
        assert told == "".join(traceback.format_exception(error))


def test_few_places_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letter, "MAX_PLACES", 3)
    for depth in range(10):
        error = raised(lambda depth=depth: simple(depth))
        headers = dict(error_headers(RECORD, TopicPartition("in", 0), "f", "s", error))
        assert headers["reflow.error.traceback"] == "".join(traceback.format_exception(error)).encode()
        assert len(dead_letter._places) <= 3

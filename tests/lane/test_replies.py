"""Answers to requests: where they go, what they carry, and what is no request."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka import Event
from reflow_kafka.lane.dead_letter import DeadLetterPlace, error_headers
from reflow_kafka.lane.emitter import Emitter, Lead
from reflow_kafka.lane.outbox import MAX_RECORD, Outbox, OversizedOutput
from reflow_kafka.lane.replies import DeadLetters, Replies
from reflow_kafka.log.api import Headers, TopicPartition
from reflow_kafka.log.local import LocalBuilder, LocalRecord
from reflow_kafka.topology.replies import CORRELATION_ID, REPLY_FROM, REPLY_TO, request_headers

REQUEST: Headers = [("trace", b"1"), (CORRELATION_ID, b"c-1"), (REPLY_TO, b"f.replies/2")]
ORIGIN = TopicPartition("t", 0)


def record(headers: Headers, value: bytes | None = b"{}") -> LocalRecord:
    return LocalRecord(3, 50, b"k", value, headers)


class Bench:
    """A stage that answers with what it emits, and its dead letters."""

    def __init__(self) -> None:
        self.outbox = Outbox(LocalBuilder)
        self.replies = Replies(self.outbox.channel("f.replies", 4), "flow 'f', stage 'a'")
        self.letters = self.outbox.channel("f.dead-letters", 1, partial(DeadLetters, self.replies))
        lead = Lead(None, "reply", None, None, orjson.dumps, None, self.replies.route("a"))
        self.emitter = Emitter([lead], ["error"])

    def emit(self, headers: Headers, *results: Any) -> None:
        self.emitter.deliver(self.emitter.prepare(results, record(headers), 60))

    def give_up(self, event: LocalRecord, headers: Headers) -> None:
        place = DeadLetterPlace(self.letters, event.key)
        place.append(event.timestamp, event.key, event.value, headers)

    def found(self) -> dict[TopicPartition, list[LocalRecord]]:
        taken = self.outbox.take()
        return {tp: [r for b in builders for r in b.records()] for tp, builders in taken.items()}  # type: ignore[attr-defined]


def test_an_answer_goes_where_the_request_says() -> None:
    bench = Bench()
    bench.emit(REQUEST, {"n": 1}, Event(None), Event(2, key="x", timestamp=7, headers=dict(REQUEST)))  # type: ignore[arg-type]
    (answers,) = bench.found().values()
    came_from = (REPLY_FROM, b"a")
    assert [(r.key, r.value, r.timestamp, r.headers) for r in answers] == [
        (b"k", b'{"n":1}', 60, [*REQUEST, came_from]),
        (b"k", None, 60, [*REQUEST, came_from]),
        (b"x", b"2", 7, [*REQUEST, came_from]),
    ]


def test_it_goes_to_the_partition_of_whoever_asked() -> None:
    bench = Bench()
    bench.emit(REQUEST, 1)
    assert list(bench.found()) == [TopicPartition("f.replies", 2)]


def test_an_answer_does_not_pass_on_what_gave_an_earlier_one() -> None:
    bench = Bench()
    bench.emit([(REPLY_FROM, b"other"), *REQUEST], 1)
    ((answer,),) = bench.found().values()
    assert answer.headers == [*REQUEST, (REPLY_FROM, b"a")]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("trace", b"1")],
        [(CORRELATION_ID, b"c")],
        [(REPLY_TO, b"f.replies/2")],
        [(CORRELATION_ID, b"c" * 301), (REPLY_TO, b"f.replies/2")],
        [(CORRELATION_ID, None), (REPLY_TO, b"f.replies/2")],
    ],
)
def test_what_nobody_asked_for_goes_nowhere(headers: Headers, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.emit(headers, 1, object())  # it is not even encoded
    bench.give_up(record(headers), [*headers, ("reflow.error.type", b"E")])
    assert list(bench.found()) == [TopicPartition("f.dead-letters", 0)]
    assert caplog.text == ""


@pytest.mark.parametrize(
    "address",
    [b"g.replies/2", b"f.replies/4", b"f.replies/-1", b"f.replies/02", b"f.replies", b"weather", b"\xff"],
)
def test_nothing_but_the_replies_of_this_flow_is_written(
    address: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    headers: Headers = [(CORRELATION_ID, b"c"), (REPLY_TO, address)]
    for _ in range(3):
        bench.emit(headers, 1)
    bench.give_up(record(headers), headers)
    assert list(bench.found()) == [TopicPartition("f.dead-letters", 0)]
    assert [r.levelno for r in caplog.records] == [logging.WARNING], "said once"
    assert "answers only in f.replies" in caplog.text


NAMES = st.sampled_from([CORRELATION_ID, REPLY_TO, REPLY_FROM, "x"])


@given(st.lists(st.tuples(NAMES, st.none() | st.binary() | st.just(b"f.replies/1"))))
def test_whatever_headers_say_no_other_topic_is_written(headers: Headers) -> None:
    bench = Bench()
    bench.emit(headers, 1)
    assert {tp.topic for tp in bench.found()} <= {"f.replies"}


Found = dict[TopicPartition, list[LocalRecord]]


def failed(headers: Headers, error: Exception, value: bytes = b"{}") -> Found:
    bench = Bench()
    event = record(headers, value)
    bench.give_up(event, error_headers(event, ORIGIN, "f", "price", error))
    return bench.found()


def test_a_dead_letter_is_answered_with_its_cause() -> None:
    found = failed([*REQUEST, ("reflow.error.type", b"an earlier one")], ValueError("no such item"))
    (letter,), (answer,) = found[TopicPartition("f.dead-letters", 0)], found[TopicPartition("f.replies", 2)]
    assert letter.value == b"{}"
    assert (answer.key, answer.value) == (None, None)
    assert answer.headers == [
        (CORRELATION_ID, b"c-1"),
        ("reflow.error.flow", b"f"),
        ("reflow.error.stage", b"price"),
        ("reflow.error.type", b"ValueError"),
        ("reflow.error.message", b"no such item"),
    ]


def test_so_is_one_of_which_little_could_be_kept() -> None:
    request = [("huge", b"x" * (MAX_RECORD - 1000)), *REQUEST]
    found = failed(request, ValueError("x" * 10_000), b"y" * 200_000)
    (letter,), (answer,) = found[TopicPartition("f.dead-letters", 0)], found[TopicPartition("f.replies", 2)]
    assert request_headers(letter.headers) == REQUEST[1:]
    assert sum(len(value or b"") for _, value in answer.headers) < 10_000


def test_an_answer_that_is_too_large_fails_its_event() -> None:
    bench = Bench()
    with pytest.raises(OversizedOutput):
        bench.emit(REQUEST, "x" * (MAX_RECORD + 1))
    assert bench.found() == {}

"""Equal events are passed on once, over restarts and re-keyed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from reflow_kafka import Flow
from reflow_kafka.testing import FlowTest


def once(**options: Any) -> Flow:
    flow = Flow("f")
    flow.source("in", topic="in", key="customer", timestamp="at")
    flow.dedupe("once", after="in", within=timedelta(seconds=10), **options)
    flow.sink("out", after="once", topic="out")
    flow.sink("twice", after="once.duplicate", topic="twice")
    return flow


def event(id: str, at: int, customer: str = "ada") -> dict[str, Any]:
    return {"id": id, "at": at, "customer": customer}


@pytest.mark.parametrize("lose_state", [False, True])
def test_it_remembers_over_a_restart(lose_state: bool) -> None:
    with FlowTest(once(by="id")) as test:
        test.send("in", event("1", 0))
        test.restart(lose_state=lose_state)
        for again in (event("1", 10_000), event("1", 10_001, "bob"), event("2", 5_000)):
            test.send("in", again)
        assert test.outputs("once") == [event("1", 0), event("1", 10_001, "bob"), event("2", 5_000)]
        assert test.outputs("once.duplicate") == [event("1", 10_000)]
        assert [found.key for found in test.events("once")] == ["1", "1", "2"]


def test_with_a_key_of_their_own_ids_belong_to_it() -> None:
    with FlowTest(once(by="id", key="customer")) as test:
        for sent in (event("1", 0), event("1", 1, "bob"), event("1", 2)):
            test.send("in", sent)
        assert test.outputs("once") == [event("1", 0), event("1", 1, "bob")]
        assert [found.key for found in test.events("once")] == ["ada", "bob"]


def test_without_an_id_one_of_each_key_is_passed_on() -> None:
    with FlowTest(once()) as test:
        for sent in (event("1", 0), event("2", 1), event("3", 2, "bob"), event("4", 10_001)):
            test.send("in", sent)
        assert [value["id"] for value in test.outputs("once")] == ["1", "3", "4"]


def test_an_event_without_value_is_passed_on_too() -> None:
    flow = Flow("f")
    flow.source("in", topic="in")
    flow.dedupe("once", after="in", within=10)
    with FlowTest(flow) as test:
        for value, at in ((1, 0), (None, 20_000), (None, 25_000)):
            test.send("in", value, key="ada", timestamp=at)
        assert [(found.key, found.value) for found in test.events("once")] == [("ada", 1), ("ada", None)]
        assert [found.value for found in test.events("once.duplicate")] == [None]


def test_an_event_without_id_is_a_dead_letter() -> None:
    with FlowTest(once(by="id", key="customer")) as test:
        test.send("in", {"at": 0, "customer": "ada"})
        (letter,) = test.dead_letters()
        assert "the key is missing: found fields at, customer, wanted id" in letter.message


def test_an_event_whose_id_is_none_says_where_ids_are_found() -> None:
    with FlowTest(once(by="id")) as test:
        test.send("in", event("1", 0) | {"id": None})
        (letter,) = test.dead_letters()
    assert letter.message == (
        "a stage that remembers got an event without key: say with key= (or by=) of the stage where an event "
        "has one, and leave out before it those in which that is None"
    )

from __future__ import annotations

from typing import Any

import orjson
import pytest

from reflow_kafka import Event
from reflow_kafka.lane.emitter import Emitter, Lead, UndeclaredOutput, UnknownTopic
from reflow_kafka.lane.outbox import Channel, Outbox, OversizedOutput
from reflow_kafka.log.api import Headers
from reflow_kafka.log.local import LocalBuilder, LocalRecord
from reflow_kafka.serde.keys import key_getter

RECORD = LocalRecord(3, 50, b"k", b"{}", [("h", b"1")])
Found = dict[str, list[tuple[Any, Any, int, tuple[Any, ...]]]]


class Bench:
    """An emitter with three edges: all, those above ten by their id, and those of the output "big"."""

    def __init__(self) -> None:
        self.outbox = Outbox(LocalBuilder)
        self.emitter = Emitter(
            [
                self.lead("all"),
                self.lead("ten", when=lambda v: v["n"] > 10, key=key_getter("id")),
                self.lead("bigs", output="big"),
            ],
            ["big", "unheard", "error"],
        )

    def lead(self, topic: str, *, output: str | None = None, when: Any = None, key: Any = None) -> Lead:
        return Lead(output, topic, when, key, orjson.dumps, self.outbox.channel(topic, 1))

    def emit(self, *results: Any) -> Found:
        self.emitter.deliver(self.emitter.prepare(results, RECORD, 60))
        return self.found()

    def found(self) -> Found:
        return {
            tp.topic: [(r.key, r.value, r.timestamp, tuple(r.headers)) for b in builders for r in b.records()]  # type: ignore[attr-defined]
            for tp, builders in self.outbox.take().items()
        }


H = (("h", b"1"),)


@pytest.mark.parametrize(
    ("results", "wanted"),
    [
        ([], {}),
        ([None], {}),
        ([{"n": 1}], {"all": [(b"k", b'{"n":1}', 60, H)]}),
        (
            [{"n": 11, "id": 7}],
            {"all": [(b"k", b'{"n":11,"id":7}', 60, H)], "ten": [(b"7", b'{"n":11,"id":7}', 60, H)]},
        ),
        ([Event({"n": 1}, key=None)], {"all": [(None, b'{"n":1}', 60, H)]}),
        ([Event({"n": 1}, key="x", timestamp=1, headers={})], {"all": [(b"x", b'{"n":1}', 1, ())]}),
        ([Event([1], to="big", headers={"a": b"b"})], {"bigs": [(b"k", b"[1]", 60, (("a", b"b"),))]}),
        ([Event(1, to="unheard")], {}),
        ([Event(None, to="big")], {"bigs": [(b"k", None, 60, H)]}),
        ([Event(1, to="big"), {"n": 2}, Event(3, to="big")], {
            "all": [(b"k", b'{"n":2}', 60, H)],
            "bigs": [(b"k", b"1", 60, H), (b"k", b"3", 60, H)],
        }),
    ],
)  # fmt: skip
def test_results_become_records(results: list[Any], wanted: Found) -> None:
    assert Bench().emit(*results) == wanted


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (Event(1, to="nowhere"), UndeclaredOutput),
        ({}, KeyError),  # the predicate fails
        ({"n": 11}, KeyError),  # the key is missing
        ({"n": object()}, TypeError),
        ({"n": 1, "text": "x" * 1_000_001}, OversizedOutput),
    ],
)
def test_one_bad_result_leaves_nothing_of_any(bad: Any, error: type[Exception]) -> None:
    bench = Bench()
    with pytest.raises(error):
        bench.emit({"n": 12, "id": 1}, bad)
    assert bench.found() == {}


def test_an_undeclared_output_names_those_declared() -> None:
    with pytest.raises(UndeclaredOutput, match="declared are: big, error, unheard"):
        Bench().emit(Event(1, to="nowhere"))


def test_what_follows() -> None:
    emitter = Bench().emitter
    assert emitter.follows("big")
    assert not emitter.follows("error")
    assert not emitter.follows("nowhere")


def test_a_topic_found_by_a_function() -> None:
    outbox, known = Outbox(LocalBuilder), {"x": 2}

    def route(value: Any, headers: Headers) -> Channel:
        if value not in known:
            raise UnknownTopic(value)
        return outbox.channel(value, known[value])

    emitter = Emitter([Lead(None, "out", None, None, orjson.dumps, None, route)], [])
    with pytest.raises(UnknownTopic) as caught:
        emitter.prepare(["x", "y"], RECORD, 1)
    assert caught.value.topic == "y"
    known["y"] = 1
    emitter.deliver(emitter.prepare(["x", "y"], RECORD, 1))
    assert {tp.topic for tp in outbox.take()} == {"x", "y"}

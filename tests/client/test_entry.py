"""What is written for a source is what the flow reads there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka import Flow, UsageError
from reflow_kafka.client.entry import Entry, check_source, entries
from reflow_kafka.event import INHERITED
from reflow_kafka.serde.keys import partition_of
from reflow_kafka.topology.planner import make_plan

NOW = 1_700_000_000_000


@dataclass
class Order:
    item: str
    pieces: int = 1


def entry(flow: Flow, name: str = "orders", **counts: int) -> Entry:
    return entries(make_plan(flow.spec(), counts))[name]


def flow_of(takes: Any = None, **source: Any) -> Flow:
    flow = Flow("f", partitions=4)

    def stage(value: Any) -> None: ...

    if takes is not None:
        stage.__annotations__["value"] = takes
    flow.stage(stage, after=flow.source("orders", topic="in", **source))
    return flow


def written(entry: Entry, value: Any, key: Any = INHERITED) -> tuple[bytes | None, bytes | None]:
    record = entry.record(value, key, [("h", b"1")], NOW)
    assert (record.timestamp, record.headers) == (NOW, [("h", b"1")])
    return record.key, record.value


@pytest.mark.parametrize(
    ("flow", "value", "data"),
    [
        (flow_of(), {"n": [1, None]}, b'{"n":[1,null]}'),
        (flow_of(type=Order), Order("pen"), b'{"item":"pen","pieces":1}'),
        (flow_of(type=Order), {"item": "pen"}, b'{"item":"pen"}'),  # a dict may stand for it
        (flow_of(Order), Order("pen", 2), b'{"item":"pen","pieces":2}'),  # said by the stage that reads it
        (flow_of(str), "as it is", b"as it is"),
        (flow_of(str, key=len), "as it is", b"as it is"),
        (flow_of(format="bytes"), b"\xff", b"\xff"),
        (flow_of(), None, None),
    ],
)
def test_a_value_is_written_in_the_type_and_format_of_the_source(flow: Flow, value: Any, data: Any) -> None:
    assert written(entry(flow), value)[1] == data


@pytest.mark.parametrize(
    ("flow", "value", "message"),
    [
        (flow_of(type=Order), {"pieces": 1}, "missing required field `item`"),
        (flow_of(type=Order), 7, "Expected `object`, got `int`"),
        (flow_of(), object(), "object is no JSON value"),
        (flow_of(str), 7, "found int, wanted str"),
        (flow_of(key="item"), {"n": 1}, "the key is missing: found fields n, wanted item"),
        (flow_of(key=lambda order: order["item"]), {"n": 1}, "item"),
        (flow_of(timestamp="at"), {"n": 1}, "the timestamp is missing"),
        (flow_of(), "x" * 1_000_000, r"found a value of 1,000,002 bytes, the limit is 990,000"),
    ],
)
def test_what_the_flow_could_not_read_is_refused(flow: Flow, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"source 'orders'.*{message}"):
        written(entry(flow), value)


@pytest.mark.parametrize(
    ("flow", "value", "key", "placed"),
    [
        (flow_of(), {"item": "pen"}, INHERITED, None),
        (flow_of(), {"item": "pen"}, "k", b"k"),
        (flow_of(key="item"), {"item": "pen"}, INHERITED, b"pen"),
        (flow_of(key="item"), {"item": 7}, INHERITED, b"7"),
        (flow_of(key="item"), {"item": "pen"}, "k", b"k"),
        (flow_of(key="item"), {"item": "pen"}, None, None),
        (flow_of(key="item"), {"n": 1}, 8, b"8"),
        (flow_of(key="item"), None, "k", b"k"),
        # The function sees what the flow will see, not what was given.
        (flow_of(type=Order, key=lambda order: order.item), {"item": "pen"}, INHERITED, b"pen"),
    ],
)
def test_the_key_is_the_one_given_or_found_by_the_source(
    flow: Flow, value: Any, key: Any, placed: Any
) -> None:
    assert written(entry(flow), value, key)[0] == placed


def test_a_time_in_the_value_is_looked_for_and_left_to_the_source() -> None:
    at = datetime(2010, 1, 1, tzinfo=UTC).isoformat()
    assert written(entry(flow_of(timestamp="at")), {"at": at}) == (None, orjson.dumps({"at": at}))


@given(st.binary(max_size=20), st.integers(1, 12))
def test_a_key_decides_the_partition_as_in_any_client(key: bytes, partitions: int) -> None:
    found = entry(flow_of(), **{"in": partitions})
    record = found.record({}, key, [], NOW)
    assert {found.partition(record, turn) for turn in range(3)} == {partition_of(key, partitions)}


def test_events_without_key_go_round() -> None:
    found = entry(flow_of(), **{"in": 3})
    record = found.record({}, INHERITED, [], NOW)
    assert [found.partition(record, turn) for turn in range(5)] == [0, 1, 2, 0, 1]


def test_of_several_topics_the_first_is_written() -> None:
    flow = Flow("f", partitions=4)
    flow.sink("out", after=flow.source("orders", topic=["web", "phone"]), topic="out")
    found = entry(flow, web=3, phone=5)
    assert (found.topic, found.partitions) == ("web", 3)


class Elsewhere:
    async def parts(self) -> list[str]:
        return [""]

    async def open(self, part: str, position: Any, ctx: Any) -> Any: ...


def test_what_is_no_source_over_a_topic_cannot_be_sent_to() -> None:
    flow = flow_of()
    flow.source("files", Elsewhere())

    @flow.source()
    def ticks() -> Iterator[int]:
        yield 1

    spec = flow.spec()
    check_source(spec, "orders")
    for name, message in {
        "order": "flow 'f' has no source 'order'; did you mean 'orders'?",
        "xyz": "flow 'f' has no source 'xyz'; there is 'orders'",
        "stage": "'stage' is a stage of flow 'f', not a source; there is 'orders'",
        "files": r"source 'files' of flow 'f' reads Elsewhere: only a source with topic= can be sent to;",
        "ticks": "source 'ticks' of flow 'f' reads a generator: only",
    }.items():
        with pytest.raises(UsageError, match=message.replace("?", r"\?")):
            check_source(spec, name)

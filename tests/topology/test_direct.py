from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from reflow_kafka.definition.spec import StageSpec
from reflow_kafka.errors import DefinitionError
from reflow_kafka.topology.plan import Input
from tests.topology.flows import (
    Last24,
    PrintSink,
    is_large,
    nodes_of,
    sink,
    source,
    stage,
)


@dataclass
class Timed:
    at: int


def test_a_stage_alone_behind_a_source_reads_its_topic() -> None:
    nodes = nodes_of(source("s", "t", timestamp="at", type=Last24), stage("a", "s"), counts={"t": 12})
    assert list(nodes) == ["a"]
    assert nodes["a"].inputs == (Input("t", 12, "s", Last24, "json", False, timestamp="at"),)
    assert nodes["a"].lanes == 12


@pytest.mark.parametrize(
    "stages",
    [
        [source("s", "t", key="id"), stage("a", "s")],
        [source("s", "t"), stage("a", "s", key="id")],
        [source("s", "t"), stage("a", "s", when=is_large)],
        [source("s", "t"), stage("a", "s", partitions=1)],
        [source("s", "t"), stage("a", "s"), stage("b", "s")],
        [source("s", "t"), stage("a", "s"), sink("k", "s", topic="copy")],
        [source("s", "t"), stage("a", "s.error")],
        [source("s", "t"), source("r", "u"), stage("a", "s", "r", state=dict)],
        [source("s", "t", "u"), stage("a", "s", state=dict)],
        [source("s", "t", "u"), stage("a", "s"), stage("b", "a", chain=True, state=dict)],
        [source("s", "t", timestamp=lambda v: v["at"]), stage("a", "s", takes=Last24)],
        [source("s", "t", timestamp=lambda v: v.at, type=Last24), stage("a", "s", takes=dict)],
        [source("s", "t", timestamp="at"), stage("a", "s", takes=Last24)],
        [source("s", "t", timestamp="at"), stage("a", "s", takes=Timed | Last24)],
    ],
)
def test_everything_else_is_forwarded(stages: list[StageSpec]) -> None:
    nodes = nodes_of(*stages)
    assert nodes["s"].role == "forward"
    assert all(i.internal for i in nodes["a"].inputs)


@pytest.mark.parametrize(
    "stages",
    [
        [source("s", "t"), stage("a", "s", state=dict)],
        [source("s", "t"), stage("a", "s"), stage("b", "a", chain=True, state=dict)],
        [source("s", "t", "u"), stage("a", "s"), stage("b", "a", state=dict)],
        [source("s", "t"), sink("a", "s")],
        [source("s", "t"), sink("a", "s", connector=PrintSink())],
        [source("s", "t", "u"), source("r", "v"), stage("a", "s", "r")],
        [source("s", "t"), source("r", "u"), stage("a", "s", "r", state=dict, copartitioned=True)],
        [source("s", "t", timestamp=lambda v: v["at"]), stage("a", "s", takes=dict)],
        [source("s", "t", timestamp="at"), stage("a", "s", takes=Timed)],
        [source("s", "t", timestamp="at"), stage("a", "s", takes=dict[str, int])],
        [source("s", "t"), stage("a", "s"), stage("b", "a.error")],
    ],
)
def test_what_loses_nothing_is_read_directly(stages: list[StageSpec]) -> None:
    nodes = nodes_of(*stages)
    assert "s" not in nodes
    assert not any(i.internal for i in nodes["a"].inputs)


def test_topics_read_together_have_the_same_number_of_partitions() -> None:
    flow = [source("s", "t"), source("r", "u"), stage("a", "s", "r", state=dict, copartitioned=True)]
    assert nodes_of(*flow, counts={"t": 3, "u": 3})["a"].lanes == 3
    with pytest.raises(DefinitionError, match=r"\('t' 3, 'u' 4\), so keys would not meet: take"):
        nodes_of(*flow, counts={"t": 3, "u": 4})


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ([source("r", "u", timestamp="at")], "has times in its events (timestamp=)"),
        ([source("r", "u", key="id")], "gives its events keys (key=)"),
        ([source("r", "u"), stage("b", "r")], "is read by others, too (a, b)"),
        ([source("q", "u"), stage("r", "q")], "has no topic of its own"),
    ],
)
def test_what_cannot_be_taken_as_it_is_is_refused(stages: list[StageSpec], reason: str) -> None:
    meeting = stage("a", "s", "r", state=dict, copartitioned=True)
    with pytest.raises(DefinitionError, match=rf"'r' {re.escape(reason)}.*: take copartitioned= out"):
        nodes_of(source("s", "t"), meeting, *stages)


def test_direct_and_own_topics_may_meet_in_a_stage_without_state() -> None:
    nodes = nodes_of(source("s", "t"), source("r", "u", key="id"), stage("a", "s", "r"), counts={"t": 30})
    assert [(i.topic, i.partitions) for i in nodes["a"].inputs] == [("t", 30), ("f.r.a", 8)]
    assert nodes["a"].lanes == 30


def test_a_source_and_a_topic_sink_are_a_plain_copy() -> None:
    nodes = nodes_of(source("s", "t"), sink("k", "s", topic="u"), counts={"t": 2, "u": 5})
    assert list(nodes) == ["s"]
    assert (nodes["s"].role, nodes["s"].lanes) == ("forward", 2)
    assert [(o.topic, o.partitions, o.internal) for o in nodes["s"].outputs] == [("u", 5, False)]

from __future__ import annotations

import pytest
from hypothesis import given

from reflow_kafka.definition.spec import FlowSpec
from reflow_kafka.errors import DefinitionError
from reflow_kafka.topology.graph import Topology
from tests.topology.flows import SHOP, flow, flows, source, stage


def test_look_ups() -> None:
    graph = Topology.of(SHOP)
    assert [s.name for s in graph.sources] == ["web", "phone"]
    assert [s.name for s in graph.sinks] == ["books", "mail", "log"]
    assert [s.name for s in graph.upstreams("audit")] == ["check", "price"]
    assert [s.name for s in graph.downstreams("check")] == ["price", "audit", "mail"]
    assert [str(e) for e in graph.into("audit")] == [
        "check.large → audit",
        "check.odd → audit",
        "price → audit",
    ]
    assert graph.order == ("web", "phone", "check", "price", "audit", "books", "mail", "log")


def test_names_may_be_used_before_they_are_defined() -> None:
    graph = Topology.of(flow(stage("late", "s"), source("s", "t")))
    assert list(graph.stages) == ["late", "s"]
    assert graph.order == ("s", "late")


@given(flows())
def test_order_puts_upstreams_first(spec: FlowSpec) -> None:
    graph = Topology.of(spec)
    assert sorted(graph.order) == sorted(s.name for s in spec.stages)
    for edge in graph.edges:
        assert graph.order.index(edge.upstream.stage) < graph.order.index(edge.stage)
        assert edge in graph.into(edge.stage)
        assert edge in graph.out_of(edge.upstream.stage)
    assert len(graph.edges) == sum(len(s.after) for s in spec.stages)


def test_circles_and_unknown_stages_are_refused() -> None:
    with pytest.raises(DefinitionError, match="in a circle: a, b"):
        Topology.of(flow(source("s", "t"), stage("a", "s", "b"), stage("b", "a")))
    with pytest.raises(DefinitionError, match=r"follows 'x\.big', which does not exist"):
        Topology.of(flow(source("s", "t"), stage("a", "x.big")))

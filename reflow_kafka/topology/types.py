"""The type of each edge: fixed when the flow is built, so that both of its ends write and read alike."""

from __future__ import annotations

from types import NoneType
from typing import Any

from reflow_kafka.definition.spec import ANY, StageSpec
from reflow_kafka.topology.graph import Edge, Topology

INPUT_AGAIN = ("duplicate", "error", "late")
"""Outputs that carry the stage's input event, not one of its results."""


def edge_type(graph: Topology, edge: Edge) -> Any:
    """What the stage after it takes, else what the stage before it gives, else `ANY`."""
    wanted = accepted_type(graph, edge)
    return emitted_type(graph, edge) if wanted is ANY else wanted


def accepted_type(graph: Topology, edge: Edge) -> Any:
    """The type that the stage after it asks for (`ANY`: it does not say)."""
    stage = graph.stages[edge.stage]
    return stage.accepts(stage.after.index(edge.upstream))


def emitted_type(graph: Topology, edge: Edge) -> Any:
    """The type an output gives (`ANY`: unknown, as what goes to a named output is)."""
    stage, output = graph.stages[edge.upstream.stage], edge.upstream.output
    if output == "error" and stage.operator is not None:
        return ANY  # windows, timers and sets that fail go there, too
    if output in INPUT_AGAIN:
        return _input_type(graph, stage)
    if output is not None:
        return ANY
    if stage.kind == "source" and stage.type is not ANY:
        return stage.type
    if stage.kind == "source" and stage.handler is None:
        return source_type(graph, stage)
    if stage.kind == "stage" and stage.hands_on and stage.type is ANY:
        return _input_type(graph, stage)
    return ANY if stage.result_type is NoneType else stage.result_type


def source_type(graph: Topology, source: StageSpec) -> Any:
    """The type a source reads: its own, else raw text or bytes if that is what all that follow it take."""
    if source.type is not ANY:
        return source.type
    wanted = {
        accepted_type(graph, edge) for edge in graph.out_of(source.name) if edge.upstream.output is None
    }
    return wanted.pop() if wanted in ({str}, {bytes}) else ANY


def _input_type(graph: Topology, stage: StageSpec) -> Any:
    if stage.kind == "source":
        return source_type(graph, stage)
    types = [edge_type(graph, edge) for edge in graph.into(stage.name)]
    return types[0] if types and all(t == types[0] for t in types) else ANY

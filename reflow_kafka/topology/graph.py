"""The graph of a flow: who follows whom, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reflow_kafka.definition.spec import FlowSpec, StageSpec, UpstreamRef
from reflow_kafka.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Edge:
    """A stage follows an output of another."""

    upstream: UpstreamRef
    stage: str

    def __str__(self) -> str:
        return f"{self.upstream} → {self.stage}"


@dataclass(frozen=True, slots=True)
class Topology:
    """Look-ups in the graph of a flow. All sequences keep the order of definition, except `order`."""

    flow: FlowSpec
    stages: Mapping[str, StageSpec]
    """By name, in the order of definition."""
    edges: tuple[Edge, ...]
    order: tuple[str, ...]
    """Every stage after all of its upstreams, otherwise as defined."""
    _into: Mapping[str, tuple[Edge, ...]]
    _out_of: Mapping[str, tuple[Edge, ...]]

    @classmethod
    def of(cls, flow: FlowSpec) -> Topology:
        """The graph of a flow.

        Raises:
            DefinitionError: a stage follows one that does not exist, or itself by some way round.
        """
        stages = {stage.name: stage for stage in flow.stages}
        into: dict[str, list[Edge]] = {name: [] for name in stages}
        out_of: dict[str, list[Edge]] = {name: [] for name in stages}
        for stage in flow.stages:
            for ref in stage.after:
                if ref.stage not in stages:
                    raise DefinitionError(
                        f"follows {str(ref)!r}, which does not exist", stage=stage.name, where=stage.where
                    )
                edge = Edge(ref, stage.name)
                into[stage.name].append(edge)
                out_of[ref.stage].append(edge)
        return cls(
            flow=flow,
            stages=stages,
            edges=tuple(edge for name in stages for edge in into[name]),
            order=_order(flow, out_of),
            _into={name: tuple(edges) for name, edges in into.items()},
            _out_of={name: tuple(edges) for name, edges in out_of.items()},
        )

    def into(self, stage: str) -> tuple[Edge, ...]:
        """The edges that end at a stage."""
        return self._into[stage]

    def out_of(self, stage: str) -> tuple[Edge, ...]:
        """The edges that start at a stage, from whichever output."""
        return self._out_of[stage]

    def upstreams(self, stage: str) -> tuple[StageSpec, ...]:
        """The stages that a stage follows, each once."""
        return tuple(self.stages[name] for name in dict.fromkeys(e.upstream.stage for e in self.into(stage)))

    def downstreams(self, stage: str) -> tuple[StageSpec, ...]:
        """The stages that follow a stage, each once."""
        return tuple(self.stages[name] for name in dict.fromkeys(e.stage for e in self.out_of(stage)))

    @property
    def sources(self) -> tuple[StageSpec, ...]:
        """The stages where events enter."""
        return tuple(s for s in self.flow.stages if s.kind == "source")

    @property
    def sinks(self) -> tuple[StageSpec, ...]:
        """The stages where events leave."""
        return tuple(s for s in self.flow.stages if s.kind == "sink")


def _order(flow: FlowSpec, out_of: Mapping[str, list[Edge]]) -> tuple[str, ...]:
    """Of the stages whose upstreams are all done, always the one defined first."""
    position = {stage.name: i for i, stage in enumerate(flow.stages)}
    missing = {stage.name: len(stage.after) for stage in flow.stages}
    ready = sorted((name for name, count in missing.items() if count == 0), key=position.__getitem__)
    order: list[str] = []
    while ready:
        name = ready.pop(0)
        order.append(name)
        for edge in out_of[name]:
            missing[edge.stage] -= 1
            if missing[edge.stage] == 0:
                ready.append(edge.stage)
        ready.sort(key=position.__getitem__)
    if len(order) < len(position):
        rest = [stage for stage in flow.stages if stage.name not in order]
        raise DefinitionError(
            f"these stages follow each other in a circle: {', '.join(s.name for s in rest)}",
            stage=rest[0].name,
            where=rest[0].where,
        )
    return tuple(order)

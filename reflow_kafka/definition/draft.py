"""A flow while it is being written: what is defined so far, and which object stands for which stage."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from reflow_kafka.definition.check import (
    check_dead_letter_limit,
    check_flow,
    check_flow_name,
    check_on_error,
    check_partitions,
    check_retry,
)
from reflow_kafka.definition.place import Place, did_you_mean
from reflow_kafka.definition.spec import FlowSpec, OnError, ResourceSpec, StageSpec, UpstreamRef
from reflow_kafka.handle import Stage
from reflow_kafka.options import Retry


class Draft:
    """The definition behind a `Flow`."""

    def __init__(
        self,
        flow: Any,
        name: str,
        partitions: int,
        retry: Retry,
        on_error: OnError,
        dead_letter_limit: float,
        place: Place,
    ) -> None:
        check_flow_name(name, place.where)
        check_partitions(partitions, place.where)
        check_retry(retry, place.where)
        check_on_error(on_error, place.where)
        check_dead_letter_limit(dead_letter_limit, place.where)
        self.retry = retry
        self.on_error = on_error
        self._dead_letter_limit = dead_letter_limit
        self.flow = flow
        self._name = name
        self._partitions = partitions
        self._where = place.where
        self._stages: dict[str, StageSpec] = {}
        self._resources: dict[str, ResourceSpec] = {}
        # The object is kept beside its stages' names, so that its identity cannot pass to another object.
        self._objects: dict[tuple[int, ...], tuple[object, list[str]]] = {}
        self._checked: FlowSpec | None = None

    def add(self, stage: StageSpec, place: Place, target: Any = None) -> Stage[Any]:
        """Take a stage in; its handle. The object `target` stands for it, else that of its handler."""
        if earlier := self._stages.get(stage.name):
            place.fail(
                f"its name is taken by the {earlier.kind} at {earlier.where}; give it another with name=",
                stage=stage.name,
            )
        if self.is_global(stage.name):
            place.fail(
                "its name is taken by a global table; give it another, so that events for one cannot be "
                "meant for the other",
                stage=stage.name,
            )
        self._stages[stage.name] = stage
        if target is None and stage.handler is not None:
            target = stage.handler.target
        if target is not None:
            self._objects.setdefault(_identity(target), (target, []))[1].append(stage.name)
        self._checked = None
        return Stage(self.flow, UpstreamRef(stage.name))

    def add_resource(self, resource: ResourceSpec, place: Place) -> None:
        """Take a resource in."""
        if earlier := self._resources.get(resource.name):
            place.fail(
                f"resource {resource.name!r} is defined already at {earlier.where}; rename one of them"
            )
        if resource.table is not None and resource.name in self._stages:
            place.fail(f"global table {resource.name!r} has the name of a stage; rename one of them")
        self._resources[resource.name] = resource
        self._checked = None

    def refs(self, after: Any, place: Place, *, stage: str | None) -> tuple[UpstreamRef, ...]:
        """What `after=` of a stage refers to; names may be of stages still to come."""
        upstreams = after if isinstance(after, list | tuple) else [] if after is None else [after]
        return tuple(self._ref(upstream, place, stage) for upstream in upstreams)

    def defined(self, ref: UpstreamRef) -> StageSpec | None:
        """The stage that is referred to, if it is defined already."""
        return self._stages.get(ref.stage)

    def is_global(self, name: str) -> bool:
        """Whether it is the name of a global table."""
        resource = self._resources.get(name)
        return resource is not None and resource.table is not None

    @property
    def names(self) -> Iterable[str]:
        """The stages that are defined already."""
        return self._stages

    def find(self, stage: Any, place: Place) -> UpstreamRef:
        """The stage that a name, handle or object stands for; it must be defined already."""
        ref = self._ref(stage, place, None)
        if ref.stage not in self._stages:
            place.fail(
                f"flow {self._name!r} has no stage {ref.stage!r}{did_you_mean(ref.stage, self._stages)}"
            )
        return ref

    def spec(self) -> FlowSpec:
        """The flow, checked and resolved; made again only after a change."""
        if self._checked is None:
            flow = FlowSpec(
                name=self._name,
                partitions=self._partitions,
                stages=tuple(self._stages.values()),
                resources=dict(self._resources),
                dead_letter_limit=self._dead_letter_limit,
            )
            self._checked = check_flow(flow, self._where)
        return self._checked

    def _ref(self, upstream: Any, place: Place, stage: str | None) -> UpstreamRef:
        if isinstance(upstream, str):
            name, _, output = upstream.partition(".")
            return UpstreamRef(name, output or None)
        if isinstance(upstream, Stage):
            if upstream.flow is not self.flow:
                place.fail(
                    f"{upstream!r} is of another flow: flows meet in a topic, sink there and source here",
                    stage=stage,
                )
            return upstream.ref
        _, names = self._objects.get(_identity(upstream), (None, []))
        called = getattr(upstream, "__qualname__", None) or repr(upstream)
        if not names:
            place.fail(
                f"{called} is no stage of flow {self._name!r}: decorate it first, or use the "
                f"name of a stage or the handle that flow.stage() gave for it",
                stage=stage,
            )
        if len(names) > 1:
            several = ", ".join(map(repr, names))
            place.fail(f"{called} is several stages, {several}: use a name or a handle", stage=stage)
        return UpstreamRef(names[0])


def _identity(target: Any) -> tuple[int, ...]:
    """What makes an object the same; a bound method is made anew at each access, so its parts count."""
    if inspect.ismethod(target):
        return id(target.__self__), id(target.__func__)
    return (id(target),)

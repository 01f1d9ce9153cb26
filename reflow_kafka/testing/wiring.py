"""The flow as it is tested: its own stages, with what stands in for connectors, and taps on what they emit.

A tap is a sink into a topic of one partition, so that everything stands there in the order of commits. The
stages themselves are not touched, nor are their topics.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reflow_kafka.definition.spec import (
    RESERVED_OUTPUTS,
    FlowSpec,
    SinkSpec,
    SourceSpec,
    StageSpec,
    UpstreamRef,
    emitted_by,
)
from reflow_kafka.errors import UsageError
from reflow_kafka.flow import Flow
from reflow_kafka.serde.json import UnsupportedType
from reflow_kafka.serde.typed import Codec, edge_codec
from reflow_kafka.testing.connectors import GivenSource, Nowhere


@dataclass(frozen=True, slots=True)
class Wiring:
    """What is run, and where to look."""

    spec: FlowSpec
    given: Mapping[str, GivenSource]
    """What stands in for sources, by name."""
    taps: Mapping[str, str]
    """``stage`` or ``stage.output`` → the topic of its tap."""
    format: TapFormat


def wire(spec: FlowSpec, real: Collection[str]) -> Wiring:
    """Prepare a flow for a test.

    Args:
        spec: the flow.
        real: sources and sinks that are to use their own connectors.

    Raises:
        UsageError: `real` names something else.
    """
    format = TapFormat()
    given: dict[str, GivenSource] = {}
    stages: list[StageSpec] = []
    for stage in spec.stages:
        if (theirs := _from_elsewhere(stage)) and stage.name not in real:
            given[stage.name] = GivenSource()
            own = SourceSpec(connector=given[stage.name], timestamp=theirs.timestamp)
            stage = replace(stage, source=own, handler=None, state=None)
        elif stage.sink is not None and stage.sink.connector is not None and stage.name not in real:
            stage = replace(stage, sink=replace(stage.sink, connector=Nowhere()))
        stages.append(stage)
    if strange := set(real) - {stage.name for stage in spec.stages if stage.kind != "stage"}:
        raise UsageError(f"found real={sorted(strange)}, wanted names of sources or sinks of {spec.name!r}")
    taps = {name: tap for stage in spec.stages for name, tap in _taps(spec, stage, format)}
    topics = {name: f"tap:{name}" for name in taps}
    return Wiring(replace(spec, stages=(*stages, *taps.values())), given, topics, format)


def _from_elsewhere(stage: StageSpec) -> SourceSpec | None:
    """The source of a stage whose events somebody makes who is not there in a test."""
    source = stage.source
    return None if source is None or source.topics or source.schedule is not None else source


def _taps(spec: FlowSpec, stage: StageSpec, format: TapFormat) -> Iterator[tuple[str, StageSpec]]:
    if stage.kind == "sink":
        yield stage.name, _tap(stage, stage.name, stage.after, format, given=True)
        return
    if stage.kind == "source":
        return
    followed = {ref.output for other in spec.stages for ref in other.after if ref.stage == stage.name}
    for output in (None, *emitted_by(stage)):
        if output in RESERVED_OUTPUTS and output not in followed:
            continue  # to follow it would change what it does
        ref = UpstreamRef(stage.name, output)
        yield str(ref), _tap(stage, str(ref), (ref,), format)


def _tap(
    stage: StageSpec, name: str, after: tuple[UpstreamRef, ...], format: TapFormat, *, given: bool = False
) -> StageSpec:
    """A sink beside another one gets what that is given; one after a stage, what the stage emits."""
    tap = StageSpec(
        name=f"tap:{name}",
        kind="sink",
        where=stage.where,
        after=after,
        sink=SinkSpec(topic=f"tap:{name}", format=format),
    )
    if not given:
        return tap
    wanted = stage.type if stage.handler is None else stage.handler.value_type
    return replace(tap, type=wanted, when=stage.when, key=stage.key)


class TapFormat:
    """Writes whatever a stage emits, as its type says; what cannot be written is kept as it is."""

    __hash__ = None  # type: ignore[assignment]  # so that no codec outlives the test

    def __init__(self) -> None:
        self._codecs: list[Codec] = []
        self._kept: list[Any] = []

    def codec(self, type: Any) -> Codec:
        """The codec for values of this type."""
        try:
            inner = edge_codec(type)
        except UnsupportedType:
            inner = edge_codec(Any)
        number = len(self._codecs)
        self._codecs.append(inner)

        def encode(value: Any) -> bytes:
            try:
                return b"%d:%s" % (number, inner.encode(value))
            except Exception:  # nobody else may have to write it
                self._kept.append(value)
                return b":%d" % (len(self._kept) - 1)

        return Codec(encode, self.decode)

    def decode(self, data: bytes) -> Any:
        """The value."""
        number, _, rest = data.partition(b":")
        return self._codecs[int(number)].decode(rest) if number else self._kept[int(rest)]


class WiredFlow(Flow):
    """A flow that is what a wiring says."""

    def __init__(self, spec: FlowSpec) -> None:
        super().__init__(spec.name, partitions=spec.partitions)
        self._wired = spec

    def spec(self) -> FlowSpec:
        """The wiring."""
        return self._wired

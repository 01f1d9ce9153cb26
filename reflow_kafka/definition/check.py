"""The rules a flow must keep. Pure: a flow in, the same flow resolved out, or a `DefinitionError`.

`check_stage` holds what can be said of a stage alone, when it is defined; `check_flow` what only the whole
flow shows. That every stage can be reached from a source needs no rule of its own: it follows once each
stage but a source has an upstream, each upstream exists, and nothing goes round in a circle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Final

from reflow_kafka.definition.fit import check_types
from reflow_kafka.definition.handlers import (
    CONTEXT,
    factory_parameters,
    fill_by_name,
    plain_callable,
    wrong_key_of,
)
from reflow_kafka.definition.place import did_you_mean, snake_case
from reflow_kafka.definition.running import check_process, check_running
from reflow_kafka.definition.spec import (
    RESERVED_OUTPUTS,
    UNSET,
    FlowSpec,
    Handler,
    ResourceSpec,
    StageSpec,
    UpstreamRef,
    emitted_by,
)
from reflow_kafka.errors import DefinitionError
from reflow_kafka.options import Retry

FLOW_NAME = re.compile(r"[a-z][a-z0-9-]*")
STAGE_NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED_NAMES = ("changelog", "progress", "parked", "dead-letters")
MAX_PARTITIONS: Final = 100_000
ON_ERROR = ("dead-letter", "stop", "skip")
DATA_OF: Final[Mapping[str, str]] = {"on_close": "state, window", "on_timer": "[state,] timer"}
"""What code of a stage besides its handler is called with by position."""


def check_flow_name(name: object, where: str) -> None:
    """A flow's name is part of topic names and of the group id."""
    if not isinstance(name, str) or not FLOW_NAME.fullmatch(name):
        message = f"a flow's name is lower-case letters, digits and hyphens, such as 'my-flow', not {name!r}"
        raise DefinitionError(message, where=where)


def check_partitions(partitions: object, where: str, stage: str | None = None) -> None:
    """A partition count is a whole number, and none that no cluster could have."""
    if type(partitions) is not int or not 1 <= partitions <= MAX_PARTITIONS:
        message = (
            f"partitions= is how many lanes run it: a whole number from 1 to {MAX_PARTITIONS:,}, "
            f"not {partitions!r:.100}"
        )
        raise DefinitionError(message, stage=stage, where=where)


def check_on_error(on_error: object, where: str, stage: str | None = None) -> None:
    """One of the known words, or a function of the exception and the event."""
    if isinstance(on_error, str):
        if on_error not in ON_ERROR:
            message = f"unknown on_error={on_error!r}{did_you_mean(on_error, ON_ERROR)}"
            raise DefinitionError(message, stage=stage, where=where)
    elif wrong := plain_callable(on_error, 2):
        message = (
            f"on_error= must be one of {', '.join(ON_ERROR)} or a plain function (error, event); it {wrong}"
        )
        raise DefinitionError(message, stage=stage, where=where)


def check_retry(retry: object, where: str) -> None:
    """What the stages of a flow do unless told otherwise."""
    if not isinstance(retry, Retry):
        raise DefinitionError(
            f"retry= is a Retry, such as retry=Retry(attempts=5), not {retry!r}", where=where
        )


def check_dead_letter_limit(share: object, where: str) -> None:
    """A share of events."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        message = (
            "dead_letter_limit= is the share of a stage's events in a minute that may become dead letters "
            f"before it stops the flow: from 0 to 1 (never), not {share!r}"
        )
        raise DefinitionError(message, where=where)


def check_stage(stage: StageSpec) -> None:
    """What is wrong with a stage whatever the rest of the flow says."""
    _check_name(stage)
    _check_key(stage)
    if stage.when is not None and (wrong := plain_callable(stage.when, 1)):
        stage.fail(f"when= must be a plain function of the value that returns true or false; it {wrong}")
    if stage.partitions is not None:
        check_partitions(stage.partitions, stage.where, stage.name)
    check_on_error(stage.on_error, stage.where, stage.name)
    _check_outputs(stage)
    _check_after(stage)
    check_running(stage)


def check_flow(flow: FlowSpec, where: str = "") -> FlowSpec:
    """The flow with everything resolved; `where` is the place of its own definition.

    Raises:
        DefinitionError: it cannot work; the message names the stage, its file and line, and what to write.
    """
    stages = {s.name: s for s in flow.stages}
    if not any(s.kind == "source" for s in flow.stages):
        message = f"flow {flow.name!r} has no source: start with flow.source(name, topic=...)"
        raise DefinitionError(message, where=where)
    for stage in flow.stages:
        for ref in stage.after:
            _check_upstream(stage, ref, stages)
    _check_cycle(stages)
    _check_topic_names(flow)
    resources = _resolve_resources(flow.resources)
    known = {CONTEXT, *resources}
    resolved = tuple(_resolved(stage, known) for stage in flow.stages)
    for stage in resolved:
        check_process(stage)
        check_types(stage, stages)
    return replace(flow, stages=resolved, resources=resources)


# ---- a stage alone


def _check_name(stage: StageSpec) -> None:
    if stage.name in RESERVED_NAMES:
        stage.fail("its name is reserved for a topic of the flow; choose another with name=")
    if not STAGE_NAME.fullmatch(stage.name):
        better = snake_case(stage.name)
        such = f"; write name={better!r}" if STAGE_NAME.fullmatch(better) else "; choose one with name="
        stage.fail(f"a stage's name is lower-case letters, digits and underscores{such}")


def _check_key(stage: StageSpec) -> None:
    timestamp = None if stage.source is None else stage.source.timestamp
    keys: dict[str, object] = {"key": stage.key, "timestamp": timestamp}
    for option, key in keys.items():
        if key is UNSET or key is None:
            continue
        if wrong := wrong_key_of(key):
            stage.fail(f"{option}= must be a field's name or a plain function of the value; it {wrong}")


def _check_outputs(stage: StageSpec) -> None:
    for output in stage.outputs:
        if output in RESERVED_OUTPUTS or (stage.operator is not None and output in stage.operator.outputs):
            stage.fail(f"output {output!r} exists without being declared; take it out of outputs=")
        if not STAGE_NAME.fullmatch(output):
            stage.fail(f"an output's name is lower-case letters, digits and underscores, not {output!r}")
    if twice := _first_repeated(stage.outputs):
        stage.fail(f"output {twice!r} is declared twice")


def _check_after(stage: StageSpec) -> None:
    if stage.kind == "source":
        return
    if not stage.after:
        stage.fail("it has no upstream: say with after= whose events it takes")
    if twice := _first_repeated(map(str, stage.after)):
        stage.fail(
            f"it follows {twice!r} twice; to join it with itself put a stage between, for one of the sides"
        )


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    return next((n for n in names if n in seen or seen.add(n)), None)  # type: ignore[func-returns-value]


# ---- the graph


def _check_upstream(stage: StageSpec, ref: UpstreamRef, stages: Mapping[str, StageSpec]) -> None:
    upstream = stages.get(ref.stage)
    if upstream is None:
        stage.fail(f"its upstream {ref.stage!r} is no stage of this flow{did_you_mean(ref.stage, stages)}")
    if upstream.kind == "sink":
        stage.fail(f"nothing can follow {ref.stage!r}, a sink; follow what the sink follows")
    if stage.chain and upstream.kind == "source":
        stage.fail(
            f"{ref.stage!r} is a source, which has no handler to run in: take chain=True out "
            "(a stage that is alone after a topic reads it directly, with no topic in between)"
        )
    if stage.chain and upstream.operator is not None:
        stage.fail(
            f"{ref.stage!r} has windows, timers or joins, so nothing is chained to it: take chain=True out"
        )
    outputs = emitted_by(upstream)
    if ref.output is not None and ref.output not in outputs:
        hint = did_you_mean(ref.output, outputs)
        stage.fail(f"{ref.stage!r} declares no output {ref.output!r} (outputs=[...]){hint}")


def _check_cycle(stages: Mapping[str, StageSpec]) -> None:
    if ring := _cycle({s.name: [ref.stage for ref in s.after] for s in stages.values()}):
        stages[ring[0]].fail(f"the flow goes round in a circle: {' → '.join(ring)}")


def _cycle(before: Mapping[str, Iterable[str]]) -> list[str]:
    """A way from a name to itself along what comes before what, or nothing."""
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        ring: list[str] = error.args[1]
        return ring
    return []


def _check_topic_names(flow: FlowSpec) -> None:
    """Kafka keeps ``.`` and ``_`` apart in topics but not in metrics, and refuses names that clash there."""
    seen: dict[str, str] = {}
    for stage, topic in _topic_names(flow):
        if len(topic) > 249:
            stage.fail(f"its topic {topic!r} is longer than Kafka allows (249); shorten the names")
        other = seen.setdefault(topic.replace(".", "_"), topic)
        if other != topic:
            stage.fail(
                f"its topic {topic!r} clashes with {other!r}, as Kafka takes . and _ for the same; rename it"
            )


def _topic_names(flow: FlowSpec) -> Iterator[tuple[StageSpec, str]]:
    for stage in flow.stages:
        for upstream in dict.fromkeys(ref.stage for ref in stage.after if not stage.chain):
            yield stage, f"{flow.name}.{upstream}.{stage.name}"
        if stage.remembers or (stage.source is not None and stage.source.connector is not None):
            yield stage, f"{flow.name}.{stage.name}.changelog"


# ---- resources and parameters


def _resolve_resources(resources: Mapping[str, ResourceSpec]) -> dict[str, ResourceSpec]:
    resolved = {}
    for resource in resources.values():
        parameters = factory_parameters(resource.factory)
        for name in parameters:
            if name in resources:
                _check_resource_use(resource, resources[name])
            elif parameters[name]:
                message = f"resource {resource.name!r} takes {name!r}, which is no resource"
                raise DefinitionError(message + did_you_mean(name, resources), where=resource.where)
        resolved[resource.name] = replace(resource, by_name=tuple(n for n in parameters if n in resources))
    if ring := _cycle({r.name: r.by_name for r in resolved.values()}):
        message = f"resources take each other in a circle: {' → '.join(ring)}"
        raise DefinitionError(message, where=resolved[ring[0]].where)
    return resolved


def _check_resource_use(resource: ResourceSpec, used: ResourceSpec) -> None:
    if resource.per == "engine" and used.per == "worker":
        message = (
            f"resource {resource.name!r} lives as long as the engine, so it cannot take {used.name!r}, which "
        )
        raise DefinitionError(
            message + 'lives as long as a worker; give it per="worker" too', where=resource.where
        )


def _resolved(stage: StageSpec, known: set[str]) -> StageSpec:
    handler = None if stage.handler is None else _resolve_handler(stage, stage.handler, known)
    codes = {
        name: _resolve_handler(stage, code, known, f"{name}=", DATA_OF.get(name, "data"))
        for name, code in stage.codes.items()
    }
    return replace(stage, handler=handler, codes=codes)


def _resolve_handler(
    stage: StageSpec,
    handler: Handler,
    known: set[str],
    what: str = "its handler",
    data: str = "[state,] value",
) -> Handler:
    filled, unfilled = fill_by_name(handler, known)
    if unfilled:
        name = unfilled[0]
        data = "the position" if stage.kind == "source" else data
        stage.fail(
            f"parameter {name!r} of {what} is neither {CONTEXT!r} nor a resource"
            f"{did_you_mean(name, known)} (data come first by position: {data}; everything else "
            f"needs @flow.resource or a default)"
        )
    return filled

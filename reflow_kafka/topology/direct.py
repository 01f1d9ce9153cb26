"""Where no topic of ours is needed: stages that read a source's topic, or write a sink's, themselves."""

from __future__ import annotations

from collections.abc import Iterator

from reflow_kafka.definition.spec import ANY, StageSpec
from reflow_kafka.definition.types import lacks
from reflow_kafka.topology.graph import Topology


def read_directly(graph: Topology, stage: StageSpec) -> bool:
    """Whether the stage after a source reads the source's topics itself, with no topic in between.

    Only if nothing is lost by it: no other stage follows, no event changes its key or is left out, and
    the number of lanes is left to the topic. State needs all events of a key in one place, so then the
    topic must be the stage's only input, unless the stage says that its inputs are partitioned alike; they
    are then taken in order, so their records must bear the time of their events. It does not depend on
    partition counts: a topic that grows must not change the shape of a running flow.
    """
    return why_not_directly(graph, stage) is None


def why_not_directly(graph: Topology, stage: StageSpec) -> str | None:
    """What keeps the stage after this one from reading its topics itself, said of this one; None: nothing."""
    return next(_hindrances(graph, stage), None)


def _hindrances(graph: Topology, stage: StageSpec) -> Iterator[str]:
    if stage.source is None or not stage.source.topics:
        yield "has no topic of its own"
        return
    following = graph.out_of(stage.name)
    if len(following) != 1:
        yield f"is read by others, too ({', '.join(edge.stage for edge in following)})"
        return
    edge = following[0]
    reader = graph.stages[edge.stage]
    side = reader.after.index(edge.upstream)
    if edge.upstream.output is not None or is_topic_sink(reader):
        yield f"has to do itself what {edge.stage!r} needs"
    if reader.when is not None or reader.partitions is not None:
        yield f"is told by {edge.stage!r} what to write, and where"
    if stage.key_of() is not None or reader.key_of(side) is not None:
        yield "gives its events keys (key=)"
    several = len(reader.after) > 1 or len(stage.source.topics) > 1
    if several and any(each.remembers for each in in_one_worker(graph, reader)):
        if not reader.copartitioned:
            yield "is not known to be partitioned like other inputs"
        elif stage.source.timestamp is not None:
            yield "has times in its events (timestamp=), which its records are not in the order of"
    timestamp, wanted = stage.source.timestamp, reader.accepts(side)
    if timestamp is not None and wanted not in (ANY, stage.type):
        # The time is found in the value as the source describes it.
        if callable(timestamp) and not (stage.type is ANY and wanted is dict):
            yield "finds the time in values of another type"
        elif isinstance(timestamp, str) and lacks(wanted, timestamp):
            yield f"finds the time in {timestamp!r}, which {edge.stage!r} does not take"


def in_one_worker(graph: Topology, host: StageSpec) -> Iterator[StageSpec]:
    """A stage and all those chained to it."""
    yield host
    for stage in graph.downstreams(host.name):
        if stage.chain:
            yield from in_one_worker(graph, stage)


def is_topic_sink(stage: StageSpec) -> bool:
    """Whether upstreams write into its topic themselves, so that it needs no worker."""
    return stage.sink is not None and (stage.sink.topic is not None or stage.sink.reply)


def is_reply(stage: StageSpec) -> bool:
    """Whether it answers requests."""
    return stage.sink is not None and stage.sink.reply

"""Where no topic of ours is needed: stages that read a source's topic, or write a sink's, themselves."""

from __future__ import annotations

from collections.abc import Iterator

from reflow_kafka.definition.spec import ANY, StageSpec
from reflow_kafka.topology.graph import Topology


def read_directly(graph: Topology, stage: StageSpec) -> bool:
    """Whether the stage after a source reads the source's topics itself, with no topic in between.

    Only if nothing is lost by it: no other stage follows, no event changes its key or is left out, and
    the number of lanes is left to the topic. State needs all events of a key in one place, so then the
    topic must be the stage's only input, unless the stage says that its inputs are partitioned alike; they
    are then taken in order, so their records must bear the time of their events. It does not depend on
    partition counts: a topic that grows must not change the shape of a running flow.
    """
    if stage.source is None or not stage.source.topics:
        return False
    following = graph.out_of(stage.name)
    if len(following) != 1 or following[0].upstream.output is not None:
        return False
    reader = graph.stages[following[0].stage]
    if is_topic_sink(reader) or reader.when is not None or reader.partitions is not None:
        return False
    side = reader.after.index(following[0].upstream)
    if stage.key_of() is not None or reader.key_of(side) is not None:
        return False
    several = len(reader.after) > 1 or len(stage.source.topics) > 1
    apart = several and not (reader.copartitioned and stage.source.timestamp is None)
    if apart and any(s.remembers for s in in_one_worker(graph, reader)):
        return False
    if not callable(stage.source.timestamp):
        return True
    # A function that finds the timestamp expects the value as the source describes it.
    wanted = reader.accepts(side)
    return wanted in (ANY, stage.type) or (stage.type is ANY and wanted is dict)


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

"""Builds the workers of a lane from the plan: the one place where plan, code and log meet."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reflow_kafka.connector import Source
from reflow_kafka.context import Context
from reflow_kafka.definition.operators import Operator
from reflow_kafka.definition.spec import Handler, StateBy, UpstreamRef, emitted_by
from reflow_kafka.lane.calm import Calm
from reflow_kafka.lane.chain import Chain
from reflow_kafka.lane.clock import FeedClock
from reflow_kafka.lane.clocks import Clocks
from reflow_kafka.lane.code import Code
from reflow_kafka.lane.drain import Drain
from reflow_kafka.lane.emitter import Emitter, Lead, UnknownTopic
from reflow_kafka.lane.feed import Feed
from reflow_kafka.lane.gate import Gate
from reflow_kafka.lane.generator import GeneratorSource
from reflow_kafka.lane.inflight import Mark
from reflow_kafka.lane.lifecycle import Lifecycle, Users
from reflow_kafka.lane.link import Link
from reflow_kafka.lane.ordered import OrderedWorker
from reflow_kafka.lane.outbox import Channel, Outbox
from reflow_kafka.lane.overlap import OverlapWorker
from reflow_kafka.lane.paired import PairedWorker
from reflow_kafka.lane.parking import Parking
from reflow_kafka.lane.processes.pool import Processes
from reflow_kafka.lane.programs import Materials, make_program
from reflow_kafka.lane.rate import Throttle
from reflow_kafka.lane.refusals import Refusals
from reflow_kafka.lane.replies import DeadLetters, Replies
from reflow_kafka.lane.schedule import ScheduleSource
from reflow_kafka.lane.serial import SerialWorker
from reflow_kafka.lane.share import DeadLetterShare
from reflow_kafka.lane.steps import Timing
from reflow_kafka.lane.timed import TimedWorker
from reflow_kafka.lane.work import Work
from reflow_kafka.lane.worker import Setting, Worker
from reflow_kafka.log.api import BatchBuilder, Headers, TopicPartition
from reflow_kafka.serde.json import UnsupportedType
from reflow_kafka.serde.keys import key_getter, timestamp_getter
from reflow_kafka.serde.typed import edge_codec, state_codec
from reflow_kafka.state.cache import StateCache
from reflow_kafka.state.store import LaneStores
from reflow_kafka.topology.plan import Node, Output, Plan


@dataclass(frozen=True, slots=True)
class _Exits:
    """Where the results of a node go, those of stages chained to it included."""

    outbox: Outbox
    dead_letters: Channel
    replies: Replies | None
    links: list[Link] = field(default_factory=list)
    """The stages chained to it, each before those chained to it in turn."""


@dataclass(frozen=True, slots=True)
class Builder:
    """What all workers of a lane are built with."""

    plan: Plan
    lane: int
    new_batch: Callable[[], BatchBuilder]
    stores: LaneStores
    gate: Gate
    calm: Calm
    processes: Processes
    refusals: Refusals
    marks: Mapping[TopicPartition, Mark]
    incarnation: str
    """The lane's history: a sink's position counts only within it."""
    seek: Callable[[TopicPartition, int], None]
    resources: Mapping[str, Mapping[str, Any]]
    """Stage → what its handler finds by name."""
    users: dict[str, Users]
    """Of instances, which all lanes of an engine share, by stage."""
    throttles: dict[str, Throttle]
    """Of the stages with a rate, by stage."""
    shares: dict[str, DeadLetterShare]
    """By stage."""
    counts: Mapping[str, int]
    """Partitions of topics named by functions of the value, as far as known; 0 = cannot exist."""
    learn: Callable[[str], Awaitable[None]]
    """Finds out, for `counts`."""
    now: Callable[[], int]
    clocks: Clocks

    def works(self) -> list[Work]:
        """One for each node of this lane."""
        return [self._work(node) for node in self.plan.nodes_of(self.lane)]

    def _work(self, node: Node) -> Work:
        exits = self._exits(node)
        leads = [self._lead(node, output, exits) for output in node.outputs]
        if node.role in ("connector-source", "generator"):
            return self._feed(node, leads, exits)
        if node.role == "connector-sink":
            return self._drain(node, exits)
        return self._worker(node, leads, exits)

    def _exits(self, node: Node) -> _Exits:
        outbox = Outbox(self.new_batch)
        replies = self._replies(node, outbox)
        make = Channel if replies is None else functools.partial(DeadLetters, replies)
        dead_letters = outbox.channel(self.plan.dead_letter_topic, self.plan.flow.partitions, make)
        return _Exits(outbox, dead_letters, replies)

    def _replies(self, node: Node, outbox: Outbox) -> Replies | None:
        topic = self.plan.reply_topic
        if topic is None:
            return None
        where = f"flow {self.plan.flow.name!r}, stage {node.name!r}"
        return Replies(outbox.channel(topic, self.plan.flow.partitions), where)

    def _lead(self, node: Node, output: Output, exits: _Exits) -> Lead:
        """An edge that leaves a stage; chained stages are added to the links of `exits`."""
        if output.chained is not None:
            return self._chained(node, output, output.chained, exits)
        outbox, replies = exits.outbox, exits.replies
        codec = edge_codec(output.type, output.format)
        lead = Lead(output.name, output.stage, output.when, key_getter(output.key), codec.encode, None)
        if replies is not None and output.topic == self.plan.reply_topic:
            lead.route = replies.route(str(UpstreamRef(node.name, output.name)))
            return lead
        if isinstance(output.topic, str):
            lead.channel = outbox.channel(output.topic, output.partitions)
            return lead
        topic_of = output.topic

        def route(value: Any, headers: Headers) -> Channel:
            topic = topic_of(value)
            if not isinstance(topic, str):
                raise TypeError(f"the sink's function gave {topic!r}, wanted the name of a topic")
            channel = outbox.known(topic)
            if channel is None:
                if topic not in self.counts:
                    raise UnknownTopic(topic)
                if not self.counts[topic]:
                    raise ValueError(f"the sink's function named {topic!r}, which cannot be a topic")
                channel = outbox.channel(topic, self.counts[topic])
            return channel

        lead.route = route
        return lead

    def _chained(self, node: Node, output: Output, chained: Node, exits: _Exits) -> Lead:
        assert chained.stage.handler is not None
        target, lifecycle, named = self._handler(chained, chained.stage.handler)
        place = len(exits.links)
        leads = [self._lead(chained, each, exits) for each in chained.outputs]
        try:
            encode = edge_codec(output.type, output.format).encode
        except UnsupportedType:  # nobody has to write it but a dead letter
            encode = edge_codec(Any).encode
        link = Link(
            chained,
            node.name,
            flow=self.plan.flow.name,
            lane=self.lane,
            leads=leads,
            dead_letters=exits.dead_letters,
            encode=encode,
            handler=target,
            by_name=named,
            cache=self._cache(chained),
            lifecycle=lifecycle,
            share=self._share(chained),
        )
        exits.links.insert(place, link)
        return Lead(output.name, output.stage, output.when, None, encode, None, link=link)

    def _worker(self, node: Node, leads: Sequence[Lead], exits: _Exits) -> Worker:
        if node.stage.operator is not None:
            return self._timed(node, node.stage.operator, leads, exits)
        spec = node.stage.handler
        target, lifecycle, named = self._handler(node, spec) if spec is not None else (None, None, {})
        cache = self._cache(node)
        setting = self._setting(
            node,
            leads,
            exits,
            handler=target,
            by_name=named,
            cache=cache,
            lifecycle=lifecycle,
            chain=Chain(exits.links, cache) if exits.links else None,
        )
        return OverlapWorker(node, setting) if node.stage.overlaps else SerialWorker(node, setting)

    def _setting(self, node: Node, leads: Sequence[Lead], exits: _Exits, **own: Any) -> Setting:
        return Setting(
            flow=self.plan.flow.name,
            lane=self.lane,
            leads=leads,
            outbox=exits.outbox,
            dead_letters=exits.dead_letters,
            gate=self.gate,
            calm=self.calm,
            refusals=self.refusals,
            marks=self.marks,
            seek=self.seek,
            learn=self.learn,
            processes=self.processes,
            share=self._share(node),
            throttle=self._throttle(node),
            parking=Parking(node.name, self.stores, self.now) if self._parks(node) else None,
            clock=self.clocks.of(node),
            **own,
        )

    def _timed(self, node: Node, operator: Operator, leads: Sequence[Lead], exits: _Exits) -> TimedWorker:
        stage = node.stage
        handlers = dict(stage.codes) if stage.handler is None else {"handler": stage.handler, **stage.codes}
        context = Context(self.plan.flow.name, node.name, self.lane)
        codes, lifecycle = {}, None
        for name, spec in handlers.items():
            target, opened, named = self._handler(node, spec, context)
            lifecycle = opened or lifecycle
            codes[name] = Code(target, spec.shape, named, stage.timeout)
        materials = Materials(self.plan, node, self.stores, context)
        program = make_program(operator, materials)
        asked = any("ctx" in code.by_name for code in codes.values())
        timing = Timing(program, materials.shelves, codes, context if asked else None, self.now)
        setting = self._setting(node, leads, exits, lifecycle=lifecycle)
        several = sum(self.lane < entry.partitions for entry in node.inputs) > 1
        if operator.paired:
            return PairedWorker(node, setting, timing)
        return (OrderedWorker if operator.ordered and several else TimedWorker)(node, setting, timing)

    def _throttle(self, node: Node) -> Throttle | None:
        rate = node.stage.rate
        if rate is None:
            return None
        if node.name not in self.throttles:
            self.throttles[node.name] = Throttle(rate, node.lanes)
        return self.throttles[node.name]

    def _share(self, node: Node) -> DeadLetterShare:
        limit = self.plan.flow.dead_letter_limit
        return self.shares.setdefault(node.name, DeadLetterShare(limit))

    def _parks(self, node: Node) -> bool:
        return self.plan.parks and node.role == "handler"

    def _handler(
        self, node: Node, spec: Handler, context: Context | None = None
    ) -> tuple[Any, Lifecycle | None, dict[str, Any]]:
        target = spec.target
        lifecycle = None
        if node.stage.run_in == "process":
            return target, None, self._named(node, spec.by_name)  # built in each process
        if spec.kind == "class":
            target = target(**self._named(node, spec.init_by_name))
            lifecycle = Lifecycle(target, node.name)
        elif spec.kind == "instance":
            lifecycle = Lifecycle(target, node.name, self.users.setdefault(node.name, Users()))
        return target, lifecycle, self._named(node, spec.by_name, context)

    def _named(self, node: Node, names: Sequence[str], context: Context | None = None) -> dict[str, Any]:
        context = context or Context(self.plan.flow.name, node.name, self.lane)
        resources = self.resources[node.name]
        return {name: context if name == "ctx" else resources[name] for name in names}

    def _cache(self, node: Node) -> StateCache | None:
        state, handler = node.stage.state, node.stage.handler
        if state is None or handler is None or handler.state_by is StateBy.NONE:
            return None
        codec = state_codec(state.type)
        return StateCache(
            node.name,
            self.stores,
            encode=codec.encode,
            decode=codec.decode,
            factory=state.factory,
            boxed=state.boxed,
        )

    def _feed(self, node: Node, leads: Sequence[Lead], exits: _Exits) -> Feed:
        spec = node.stage.source
        assert spec is not None
        clock = self.clocks.of(node)
        assert clock is None or isinstance(clock, FeedClock)
        return Feed(
            node,
            self.lane,
            flow=self.plan.flow.name,
            source=self._source(node),
            emitter=Emitter(leads, emitted_by(node.stage)),
            outbox=exits.outbox,
            dead_letters=exits.dead_letters,
            gate=self.gate,
            stored=lambda part: self.stores.get(node.name, part) if node.changelog else None,
            timestamp=timestamp_getter(spec.timestamp) if spec.timestamp else None,
            clock=clock,
            learn=self.learn,
            now=self.now,
        )

    def _source(self, node: Node) -> Source:
        spec, handler = node.stage.source, node.stage.handler
        assert spec is not None
        if spec.connector is not None:
            return spec.connector
        if spec.schedule is not None:
            return ScheduleSource(spec.schedule, self.now)
        assert handler is not None
        target, _, named = self._handler(node, handler)
        state = node.stage.state
        return GeneratorSource(
            functools.partial(target, **named),
            spec.position,
            state_codec(state.type) if state is not None else None,
            state.boxed if state is not None else False,
        )

    def _drain(self, node: Node, exits: _Exits) -> Drain:
        spec = node.stage.sink
        assert spec is not None
        assert spec.connector is not None
        return Drain(
            node,
            self.lane,
            flow=self.plan.flow.name,
            sink=spec.connector,
            outbox=exits.outbox,
            dead_letters=exits.dead_letters,
            gate=self.gate,
            marks=self.marks,
            seek=self.seek,
            incarnation=self.incarnation,
        )

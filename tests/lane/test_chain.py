"""Passages through a chain: a commit sees all of an event or nothing, however often a stage of it fails."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reflow_kafka import Flow, Retry
from reflow_kafka.lane.chain import Chain, Passage, Pause
from reflow_kafka.lane.emitter import Lead
from reflow_kafka.lane.link import Link
from reflow_kafka.lane.outbox import Outbox
from reflow_kafka.lane.share import DeadLetterShare
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.local import LocalBuilder, LocalRecord
from reflow_kafka.state.cache import StateCache
from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.store import LaneStores, StoreMark
from reflow_kafka.topology.plan import Node
from reflow_kafka.topology.planner import make_plan

ORIGIN = TopicPartition("in", 0)
STAGES = ("host", "first", "second")
keys = st.sampled_from([b"a", b"b", b"c"])


class Bench:
    """Two chained stages in a row, each with a list of numbers as state, which fail when they are told to."""

    def __init__(self, attempts: int = 2) -> None:
        self.failing: set[str] = set()
        flow = Flow("f", partitions=1, retry=Retry(attempts, backoff=1, jitter=0))
        host = flow.stage(self.work("host"), name="host", after=flow.source("s", topic="in"), state=list)
        first = flow.stage(self.work("first"), name="first", after=host, chain=True, state=list)
        second = flow.stage(self.work("second"), name="second", after=first, chain=True, state=list)
        flow.sink("out", after=second, topic="out")
        (self.node,) = make_plan(flow.spec(), {"in": 1, "out": 1}).nodes
        self.stores: LaneStores = MemoryBackend().open("f", 0, list(STAGES))
        self.outbox = Outbox(LocalBuilder)
        self.caches = {name: self.cache(name) for name in STAGES}
        self.links: list[Link] = []
        (self.lead,) = self.leads(self.node)
        self.links.reverse()
        self.chain = Chain(self.links, self.caches["host"])

    def work(self, name: str) -> Any:
        def handle(state: list[int], value: int) -> int:
            state.append(value)
            if name in self.failing:
                raise OSError(f"{name} fails")
            return value

        return handle

    def cache(self, name: str) -> StateCache:
        return StateCache(
            name, self.stores, encode=orjson.dumps, decode=orjson.loads, factory=list, boxed=False, limit=2
        )

    def leads(self, node: Node) -> list[Lead]:
        found: list[Lead] = []
        for output in node.outputs:
            chained = output.chained
            lead = Lead(output.name, output.stage, None, None, orjson.dumps, self.outbox.channel("out", 1))
            if chained is not None:
                assert chained.stage.handler is not None
                lead.channel = None
                lead.link = Link(
                    chained,
                    node.name,
                    flow="f",
                    lane=0,
                    leads=self.leads(chained),
                    dead_letters=self.outbox.channel("dead", 1),
                    encode=orjson.dumps,
                    handler=chained.stage.handler.target,
                    by_name={},
                    cache=self.caches[chained.name],
                    lifecycle=None,
                    share=DeadLetterShare(1.0),
                )
                self.links.append(lead.link)
            found.append(lead)
        return found

    def begin(self, key: bytes, numbers: list[int]) -> Passage:
        """What the host's loop does, in careful work, for one event that it makes several of."""
        cache = self.caches["host"]
        state = cache.objects.get(key)
        state = cache.load(key) if state is None else state
        state.extend(numbers)
        prepared: Any = [(self.lead.link, 1, key, number, []) for number in numbers]
        record = LocalRecord(0, 1, key, b"", [])
        return self.chain.begin(record, ORIGIN, prepared, state)

    def written(self) -> dict[str, list[Any]]:
        """What has been written since the last call."""
        found: dict[str, list[Any]] = {"out": [], "dead": []}
        for tp, builders in self.outbox.take().items():
            for builder in builders:
                records = builder.records()  # type: ignore[attr-defined]
                found[tp.topic] += [(r.key, orjson.loads(r.value)) for r in records]
        return found


class Machine(RuleBasedStateMachine):
    """Events of three keys, in passages that wait for one another's turns, and commits in between."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.waiting: dict[bytes, tuple[Passage, list[int]]] = {}
        self.number = 0
        self.states: dict[str, dict[bytes, list[int]]] = {name: {} for name in STAGES}
        self.stored: dict[str, dict[bytes, list[int]]] = {name: {} for name in STAGES}

    @rule(stages=st.sets(st.sampled_from(["first", "second"])))
    def these_stages_fail_from_now_on(self, stages: set[str]) -> None:
        self.bench.failing = stages

    @rule(key=keys, count=st.integers(0, 3))
    def an_event(self, key: bytes, count: int) -> None:
        if key in self.waiting:
            return
        numbers = list(range(self.number, self.number + count))
        self.number += count
        self.go(key, self.bench.begin(key, numbers), numbers)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def another_try(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.waiting)))
        passage, numbers = self.waiting.pop(key)
        self.go(key, passage, numbers)

    def go(self, key: bytes, passage: Passage, numbers: list[int]) -> None:
        pause = passage.run()
        assert self.bench.failing or pause is None
        if pause is not None:
            assert isinstance(pause, Pause)
            assert pause.delay == 1
            self.waiting[key] = passage, numbers
            return
        written = self.bench.written()
        passed = [number for found, number in written["out"] if found == key]
        dead = [number for found, number in written["dead"] if found == key]
        assert sorted(passed + dead) == numbers, "each number comes out once"
        assert passed == sorted(passed)
        self.states["host"].setdefault(key, []).extend(numbers)
        self.states["second"].setdefault(key, []).extend(passed)

    @rule()
    def a_commit(self) -> None:
        changes = {name: cache.snapshot() for name, cache in self.bench.caches.items()}
        for name, changed in changes.items():
            for key, raw in changed.items():
                self.stored[name][key] = orjson.loads(raw or b"[]")
        mark = StoreMark("i", dict.fromkeys(STAGES, 0), 0)
        self.bench.stores.write({name: changed.items() for name, changed in changes.items()}, mark)
        for cache in self.bench.caches.values():
            cache.settled()
        for name in ("host", "second"):
            wanted = {key: state for key, state in self.states[name].items() if state}
            assert {key: state for key, state in self.stored[name].items() if state} == wanted

    @invariant()
    def results_only_come_at_the_end(self) -> None:
        assert self.bench.written() == {"out": [], "dead": []}


TestPassages = Machine.TestCase
TestPassages.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_a_stage_that_fails_is_undone_to_what_the_same_passage_left() -> None:
    bench = Bench(attempts=1)
    bench.failing = {"second"}
    assert bench.begin(b"a", [1, 2]).run() is None
    assert bench.written() == {"out": [], "dead": [(b"a", 1), (b"a", 2)]}
    assert bench.caches["first"].snapshot() == {b"a": b"[1,2]"}
    assert bench.caches["second"].snapshot() == {}


def test_nothing_is_counted_before_the_end() -> None:
    bench = Bench(attempts=3)
    bench.failing = {"second"}
    passage = bench.begin(b"a", [1, 2])
    assert passage.run() == Pause(passage, 1.0)
    assert [link.tally.events for link in bench.links] == [0, 0]
    assert bench.caches["host"].snapshot() == {}
    bench.failing = set()
    assert passage.run() is None
    assert [link.tally.events for link in bench.links] == [2, 2]
    assert bench.caches["second"].snapshot() == {b"a": b"[1,2]"}
    assert [link.name for link in bench.links] == ["first", "second"]

"""One test of a flow: what is sent to it, and what is seen of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from reflow_kafka.client import Client
from reflow_kafka.client.entry import Entry, entries
from reflow_kafka.definition.place import did_you_mean
from reflow_kafka.definition.spec import StageSpec
from reflow_kafka.errors import UsageError
from reflow_kafka.event import INHERITED, Event, received
from reflow_kafka.flow import Flow
from reflow_kafka.handle import Stage
from reflow_kafka.lane.peek import lanes_of
from reflow_kafka.log.api import OutRecord, TopicKind, TopicSpec
from reflow_kafka.serde.keys import encode_key
from reflow_kafka.state.memory import MemoryView
from reflow_kafka.testing.letters import DeadLetter, read_letter
from reflow_kafka.testing.stand import Stand
from reflow_kafka.testing.stock import state_of, store_of, timers_of
from reflow_kafka.testing.wiring import wire
from reflow_kafka.timers import Timer
from reflow_kafka.topology.planner import make_plan
from reflow_kafka.topology.topics import dead_letter_topic
from reflow_kafka.units import Duration, Instant, as_seconds, epoch_ms

Named = str | Stage[Any] | Callable[..., Any]
"""A stage: its name, its handle, or the decorated object."""


class Trial:
    """Behind `FlowTest` and `AsyncFlowTest`; all methods but those that look are called in one thread."""

    def __init__(
        self, flow: Flow, resources: Mapping[str, object], start: Instant, real: Collection[str]
    ) -> None:
        self._flow = flow
        self._spec = flow.spec()
        for name in resources:
            if name not in self._spec.resources:
                raise UsageError(
                    f"found {name!r} in resources=, wanted names of resources of flow {flow.name!r}"
                    f"{did_you_mean(name, list(self._spec.resources))}"
                )
        self._wiring = wire(self._spec, real)
        self._resources = dict(resources)
        self._start = _instant("start", start)
        self._given: Stand | None = None
        self._entries: dict[str, Entry] = {}
        self._turns = itertools.count()

    @property
    def _stand(self) -> Stand:
        if self._given is None:
            raise UsageError("found a FlowTest that is not open, wanted: with FlowTest(flow) as test:")
        return self._given

    @property
    def now(self) -> int:
        """The wall clock."""
        return self._stand.clock.now()

    # ---- life

    def open(self) -> None:
        """Start."""
        if self._given is not None:
            raise UsageError("found a FlowTest that was opened before, wanted a new one for each `with`")
        stand = self._given = Stand(self._wiring, self._resources, self._start)
        try:
            stand.do(self._prepare(stand))
            stand.start()
        except BaseException:
            stand.close()
            raise

    async def _prepare(self, stand: Stand) -> None:
        """Make the topics of the taps, with one partition each, so that what is there has an order."""
        log = stand.log
        await log.start()
        taps = self._wiring.taps.values()
        await log.ensure_topics([TopicSpec(topic, 1, TopicKind.EXTERNAL) for topic in taps])
        for topic in (*taps, dead_letter_topic(self._spec.name)):
            log.keep(topic)
        self._entries = entries(make_plan(self._spec))

    def close(self) -> None:
        """Stop."""
        self._stand.close()

    # ---- what happens

    def send(self, source: Named, values: Sequence[object], key: object, timestamp: Instant) -> None:
        """Events enter the flow."""
        stand, name = self._stand, self._source(source)
        self._check_running()
        given = self._wiring.given.get(name)
        if given is not None:
            for value in values:
                given.give(value if isinstance(value, Event) else Event(value, key=key, timestamp=timestamp))
        else:
            entry = self._entries[name]
            records = [self._record(entry, value, key, timestamp) for value in values]
            for record in records:
                partition = entry.partition(record, next(self._turns))
                stand.do(stand.log.publish(entry.topic, partition, [record]))
        stand.settle()

    def _record(self, entry: Entry, value: object, key: object, timestamp: Instant) -> OutRecord:
        at = self.now if timestamp is INHERITED else _instant("timestamp", timestamp)
        if isinstance(value, bytes):
            return OutRecord(None if key is INHERITED else encode_key(key), value, at, [])
        return entry.record(value, key, [], at)

    def request(self, source: Named, value: object, key: object) -> Any:
        """An event enters the flow, and its answer is awaited."""
        self._check_running()
        answer = self._stand.do(self._ask(self._source(source), value, key))
        self._stand.settle()
        return answer

    async def _ask(self, source: str, value: object, key: object) -> Any:
        async with Client(self._flow, log=self._stand.log) as client:
            return await client.request(source, value, key=key)

    def advance(self, wall: Duration, event_time: Instant | None) -> None:
        """The clocks move on."""
        self._check_running()
        if not (by := as_seconds(wall)) >= 0:
            raise UsageError(
                f"found advance({wall!r}), wanted seconds or a timedelta, not negative: clocks never go back"
            )
        if event_time is not None:
            self._stand.expect(_instant("event_time", event_time))
        if by:
            self._stand.pass_time(by)
        else:
            self._stand.settle()

    def end(self) -> None:
        """The sources end, and with them the flow."""
        self._check_running()
        for given in self._wiring.given.values():
            given.end()
        self._stand.end()

    def restart(self, *, lose_state: bool) -> None:
        """As after ``kill -9``."""
        stand = self._stand
        stand.kill()
        for given in self._wiring.given.values():
            given.ended = False
        if lose_state:
            stand.lose_state()
        stand.start()

    def _check_running(self) -> None:
        if self._stand.stopped:
            raise UsageError("the flow has ended, or was stopped; restart() starts it again")

    # ---- what is seen

    def events(self, stage: Named) -> list[Event[Any]]:
        """What a stage has emitted, or a sink was given."""
        name = self._name(stage)
        topic = self._wiring.taps.get(name)
        if topic is None:
            raise self._unknown(name)
        return [
            received(
                None if r.value is None else self._wiring.format.decode(r.value),
                r.key,
                r.timestamp,
                {header: data or b"" for header, data in r.headers},
                name,
                f"{name}/{r.offset}",
            )
            for _, r in self._stand.log.kept(topic)
        ]

    def _unknown(self, name: str) -> UsageError:
        stage, _, output = name.partition(".")
        spec = next((s for s in self._spec.stages if s.name == stage), None)
        if spec is None:
            known = [s.name for s in self._spec.stages if s.kind != "source"]
            return UsageError(f"flow {self._spec.name!r} has no stage {stage!r}{did_you_mean(stage, known)}")
        if not output:
            return UsageError(f"{stage!r} is a source: what it emits is what you send")
        known = [tap.partition(".")[2] for tap in self._wiring.taps if tap.startswith(f"{stage}.")]
        return UsageError(f"stage {stage!r} has no output {output!r}{did_you_mean(output, known)}")

    def state(self, stage: Named, key: object) -> Any:
        """The state of a key."""
        return state_of(self._stage(stage), self._lanes(), _raw(key))

    def timers(self, stage: Named, key: object) -> list[Timer]:
        """The timers of a key."""
        return timers_of(self._stage(stage), self._lanes(), _raw(key))

    def store(self, stage: Named, name: str, key: object) -> dict[str, Any]:
        """What a named store holds."""
        spec = self._stage(stage)
        if key is INHERITED:
            return store_of(spec, self._lanes(), name)
        plan = make_plan(self._spec)
        lane, *_ = lanes_of(plan, plan.host(spec.name), _raw(key), name)
        return store_of(spec, [view for at, view in self._views().items() if at == lane], name)

    def _lanes(self) -> list[MemoryView]:
        return list(self._views().values())

    def _views(self) -> dict[int, MemoryView]:
        return self._stand.state.look(self._spec.name)

    def _stage(self, stage: Named) -> StageSpec:
        name = self._name(stage)
        found = next((s for s in self._spec.stages if s.name == name), None)
        if found is None:
            raise self._unknown(name)
        return found

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters."""
        topic = dead_letter_topic(self._spec.name)
        return [read_letter(record) for _, record in self._stand.log.kept(topic)]

    # ---- names

    def _name(self, stage: Named) -> str:
        return (
            stage
            if isinstance(stage, str)
            else str((stage if isinstance(stage, Stage) else self._flow[stage]).ref)
        )

    def _source(self, source: Named) -> str:
        name = self._name(source)
        sources = [s.name for s in self._spec.stages if s.kind == "source"]
        if name not in self._wiring.given and name not in self._entries:
            if name in sources:
                raise UsageError(
                    f"source {name!r} takes no events from a test: a schedule fires when advance(...) moves "
                    "the clock, and what is named in real= reads for itself"
                )
            raise UsageError(f"flow {self._spec.name!r} has no source {name!r}{did_you_mean(name, sources)}")
        return name


def _instant(name: str, given: Instant) -> int:
    try:
        return epoch_ms(given)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"found {name}={given!r}, wanted epoch milliseconds or a datetime ({error})"
        ) from None


def _raw(key: object) -> bytes:
    raw = encode_key(key)
    if raw is None:
        raise UsageError("found no key, wanted one: without a key nothing is kept")
    return raw

"""A chained stage at work in one lane: how an event enters it, and what becomes of one that fails there.

`lane.chain` tells how events go from one to the next.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reflow_kafka.clock import monotonic
from reflow_kafka.definition.spec import Handler, emitted_by
from reflow_kafka.event import Event, received
from reflow_kafka.lane.compile import Compilation, compile_stage
from reflow_kafka.lane.copies import copied
from reflow_kafka.lane.emitter import Emitter, Lead, Prepared
from reflow_kafka.lane.env import place_logger
from reflow_kafka.lane.failures import Failures
from reflow_kafka.lane.lifecycle import Lifecycle
from reflow_kafka.lane.outbox import Channel
from reflow_kafka.lane.retries import Retries
from reflow_kafka.lane.share import DeadLetterShare, Watch
from reflow_kafka.lane.work import Tally
from reflow_kafka.log.api import Headers, Record, TopicPartition
from reflow_kafka.state.cache import StateCache
from reflow_kafka.topology.plan import Node

if TYPE_CHECKING:
    from reflow_kafka.lane.chain import Passage

log = logging.getLogger(__name__)

MAX_TEXT = 2_000
"""Characters that a dead letter tells of a value which cannot be written."""


class Broken(Exception):
    """A chained stage failed where nothing can be undone any more; its cause tells how."""


@dataclass(frozen=True, slots=True)
class Written:
    """An event as a topic would hold it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(slots=True, eq=False)
class Arrival:
    """An event that enters a chained stage; it looks like a record, but its value is an object."""

    link: Link
    value: Any
    key: bytes | None
    timestamp: int
    headers: Headers
    origin: TopicPartition
    offset: int
    """Where the host's event comes from."""
    path: str
    """What its id adds to that of the host's event."""
    passage: Passage
    tries: int = 0
    """How many have failed."""
    in_handler: bool = False
    """How far the present try has come: what fails in the handler may succeed at another try."""


class LinkFailures(Failures):
    """The `on_error` of a chained stage: the event is one that has never been written."""

    def __init__(self, encode: Callable[[Any], bytes], upstream: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._encode = encode
        self._upstream = upstream

    def _event(self, record: Any, origin: TopicPartition, side: int | None) -> Event[Any]:
        arrival: Arrival = record
        headers = {name: data or b"" for name, data in arrival.headers}
        id = f"{origin.topic}/{origin.partition}/{arrival.offset}{arrival.path}"
        return received(copied(arrival.value), arrival.key, arrival.timestamp, headers, self._upstream, id)

    def _written(self, record: Any) -> Record:
        arrival: Arrival = record
        headers, value = arrival.headers, arrival.value
        try:
            data = None if value is None else self._encode(value)
        except Exception:  # nobody had to write it before
            data, text = None, repr(value)[:MAX_TEXT].encode("utf-8", "replace")
            headers = [*headers, ("reflow.unwritable-value", text)]
        return Written(arrival.offset, arrival.timestamp, arrival.key, data, headers)


class Link:
    """A chained stage at work in one lane."""

    def __init__(
        self,
        node: Node,
        upstream: str,
        *,
        flow: str,
        lane: int,
        leads: Sequence[Lead],
        dead_letters: Channel,
        encode: Callable[[Any], bytes],
        handler: Callable[..., Any],
        by_name: Mapping[str, Any],
        cache: StateCache | None,
        lifecycle: Lifecycle | None,
        share: DeadLetterShare,
    ) -> None:
        spec = node.stage.handler
        assert spec is not None
        self.name = node.name
        self.cache = cache
        self.lifecycle = lifecycle
        self.tally = Tally()
        self.suspends = spec.shape.suspends
        self.leads_on = any(lead.link is not None for lead in leads)
        self.emitter = Emitter(leads, emitted_by(node.stage))
        logger = place_logger(log, flow=flow, stage=node.name, lane=lane)
        self.failures: Failures = LinkFailures(
            encode, upstream, node, flow, self.emitter, dead_letters, self.tally, logger
        )
        self._watch = Watch(flow, node.name, share)
        self._judged = 0
        self.retries = Retries(node.stage.retry, self.tally, logger)
        self._compile = functools.partial(self._compiled, spec, node, upstream, lane, leads, handler, by_name)

    @functools.cached_property
    def enter(self) -> Callable[..., None]:
        """Straight: ``enter(value, record, timestamp, origin, path)``, all or `Broken`."""
        return self._compile(False)

    @functools.cached_property
    def step(self) -> Callable[[Arrival], Any]:
        """In a passage: ``step(arrival)`` → results, state, its bytes; to be awaited if it suspends."""
        return self._compile(True)

    def _compiled(
        self,
        spec: Handler,
        node: Node,
        upstream: str,
        lane: int,
        leads: Sequence[Lead],
        handler: Callable[..., Any],
        by_name: Mapping[str, Any],
        careful: bool,
    ) -> Callable[..., Any]:
        names: dict[str, Any] = {
            "copied": copied,
            "tally": self.tally,
            "Broken": Broken,
            "enter": enter,
            "state_of": self._state,
        }
        if self.cache is not None:
            names["encoded"] = self.cache.encoded
        return compile_stage(
            Compilation(
                name=node.name,
                topic="",
                upstream=upstream,
                lane=lane,
                decode=_nothing,
                emitter=self.emitter,
                leads=leads,
                handler=handler,
                shape=spec.shape,
                takes_event=spec.takes_event,
                state_by=spec.state_by,
                cache=self.cache,
                careful=careful,
                by_name=by_name,
                timeout=node.stage.timeout,
                chained=True,
                names=names,
            )
        )

    def judge(self) -> None:
        """See how many of the events since the last time became dead letters.

        Raises:
            FlowStopped: too many.
        """
        events, self._judged = self.tally.events - self._judged, self.tally.events
        self._watch.judge(monotonic(), max(events, 0), self.failures.take_letters())

    def _state(self, arrival: Arrival) -> Any:
        """The state as the last event before it has left it, be it one of the same passage."""
        assert self.cache is not None
        assert arrival.key is not None
        held = arrival.passage.states.get((self.cache, arrival.key))
        if held is not None:
            return held[0]
        state = self.cache.objects.get(arrival.key)
        return self.cache.load(arrival.key) if state is None else state


def _nothing(raw: bytes) -> Any:
    raise AssertionError("a chained stage reads no topic")


def enter(prepared: Prepared, record: Record, origin: TopicPartition, path: str) -> None:
    """Deliver results, and go straight on into chained stages with those that are for them."""
    for link, timestamp, key, value, headers, place in numbered(prepared, path):
        if link is None:
            place.append(timestamp, key, value, headers)
            continue
        given = record
        if headers or record.headers:
            given = Written(record.offset, timestamp, key, None, headers)
        link.enter(value, given, timestamp, origin, place)


def numbered(
    prepared: Prepared, path: str
) -> Iterable[tuple[Link | None, int, bytes | None, Any, Headers, Any]]:
    """Results with their places; those for a chained stage with the stage and the paths of their ids."""
    counts: dict[Link, int] = {}
    for place, timestamp, key, value, headers in prepared:
        if isinstance(place, Link):
            counts[place] = number = counts.get(place, -1) + 1
            yield place, timestamp, key, value, headers, f"{path}/{place.name}/{number}"
        else:
            yield None, timestamp, key, value, headers, place

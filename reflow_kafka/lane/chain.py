"""Chains: stages that run in the worker of the stage before them, with no topic between.

An event of the host and all that follows from it in its chain is one step: it enters a commit as a whole, or
not at all. There are two ways of going through a chain.

* *Straight*, while all goes well: each stage hands its result to the next one in a call, and changes its
  state as it goes. What fails on the way cannot be undone, so the worker goes back to its last commit, and
  works careful for a while.
* As a *passage*, in careful work: results and states are held until the last stage is through. A stage that
  fails is undone alone; if it is to be tried again, the passage waits (and with it the key), and goes on
  from there. What has failed for good is replaced by what its own stage's `on_error` gives.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reflow_kafka.errors import RetryLater
from reflow_kafka.lane.calls import from_within
from reflow_kafka.lane.copies import copied
from reflow_kafka.lane.emitter import Emitter, Prepared, UnknownTopic
from reflow_kafka.lane.failures import NO_EVENTS_FAULT, event_at
from reflow_kafka.lane.link import Arrival, Link, enter, numbered
from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.state.cache import StateCache


@dataclass(frozen=True, slots=True)
class Pause:
    """A passage cannot go on now."""

    passage: Passage
    delay: float
    unknown: str | None = None
    """A topic about which something must be found out before."""


@dataclass(slots=True, eq=False)
class Passage:
    """What has come of an event (or a batch) of the host, until it is through the chain."""

    prepared: Prepared = field(default_factory=list)
    """Results that leave the chain."""
    todo: deque[Arrival] = field(default_factory=deque)
    states: dict[tuple[StateCache, bytes], tuple[Any, bytes | None]] = field(default_factory=dict)
    """State after the last event that succeeded, as an object and as bytes."""
    passed: list[Link] = field(default_factory=list)
    failures: int = 0

    # ---- what the host puts in

    def take(self, prepared: Prepared, record: Record, origin: TopicPartition) -> None:
        """Results of one event: what is for chained stages is still to be done."""
        self.todo.extend(self._arrivals(prepared, record, origin, ""))

    def _arrivals(
        self, prepared: Prepared, record: Record, origin: TopicPartition, path: str
    ) -> list[Arrival]:
        """What of some results enters chained stages; the rest is kept."""
        if len(prepared) == 1 and isinstance(link := prepared[0][0], Link):  # what is commonest
            _, timestamp, key, value, headers = prepared[0]
            below = f"{path}/{link.name}/0"
            return [Arrival(link, value, key, timestamp, headers, origin, record.offset, below, self)]
        arrivals: list[Arrival] = []
        for taker, timestamp, key, value, headers, place in numbered(prepared, path):
            if taker is None:
                self.prepared.append((place, timestamp, key, value, headers))
            else:
                arrivals.append(
                    Arrival(taker, value, key, timestamp, headers, origin, record.offset, place, self)
                )
        return arrivals

    def change(self, cache: StateCache, key: bytes, state: Any, *, cleared: bool) -> None:
        """A state that the host has changed, or cleared.

        Raises:
            ValueError, TypeError: it cannot be encoded; the host's event has failed.
        """
        self.states[(cache, key)] = state, None if cleared else cache.encoded(state)

    # ---- on the way

    def run(self) -> Pause | None:
        """Go through the chain, where no stage of it can wait; at its end everything is delivered.

        Raises:
            FlowStopped: a stage says that a failure stops the flow.
        """
        while self.todo:
            arrival = self.todo[0]
            try:
                result = arrival.link.step(arrival)
            except Exception as error:
                if (pause := self._failed(arrival, error)) is not None:
                    return pause
            else:
                self._passed(arrival, *result)
        self._end()
        return None

    async def go(self) -> Pause | None:
        """The same where stages may wait."""
        while self.todo:
            arrival = self.todo[0]
            try:
                result = arrival.link.step(arrival)
                if arrival.link.suspends:
                    result = await result
            except Exception as error:
                pause = self._failed(arrival, error)
            except asyncio.CancelledError as error:
                pause = self._failed(arrival, from_within(error))
            else:
                self._passed(arrival, *result)
                continue
            if pause is not None:
                return pause
        self._end()
        return None

    def _passed(self, arrival: Arrival, prepared: Prepared, state: Any, raw: bytes | None) -> None:
        cache = arrival.link.cache
        if cache is not None and arrival.key is not None:
            self.states[(cache, arrival.key)] = (cache.decoded(None) if raw is None else state), raw
        self._leave(arrival, prepared)

    def _leave(self, arrival: Arrival, prepared: Prepared) -> None:
        self.todo.popleft()
        self.passed.append(arrival.link)
        if not arrival.link.leads_on:
            self.prepared += prepared
            return
        # First what follows from it, then the next event, whose handler may change what it has emitted.
        self.todo.extendleft(reversed(self._arrivals(prepared, arrival, arrival.origin, arrival.path)))

    def _failed(self, arrival: Arrival, error: Exception) -> Pause | None:
        """A stage has failed: undo it, and wait for another try, or go on with what stands in for it."""
        if isinstance(error, NO_EVENTS_FAULT):
            raise error
        link = arrival.link
        self.failures += 1
        self._undo(link, arrival.key)
        if isinstance(error, UnknownTopic):
            self._part()
            return Pause(self, 0.0, error.topic)
        tries = arrival.tries + 1
        delay = None
        if arrival.in_handler:
            delay = link.retries.pause(event_at(arrival.origin, arrival.offset), error, tries, 0)
        if delay is None:
            self._leave(arrival, link.failures.outcome(arrival, arrival.origin, error, tries))
            return None
        arrival.tries += not isinstance(error, RetryLater)
        self._part()
        return Pause(self, delay)

    def _undo(self, link: Link, key: bytes | None) -> None:
        if link.cache is None or key is None:
            return
        undone = link.cache.undo(key)
        assert undone, "a passage began while the state before it was not known"
        if (held := self.states.get((link.cache, key))) is not None:
            self.states[(link.cache, key)] = link.cache.decoded(held[1]), held[1]

    def _part(self) -> None:
        """While it waits, nobody else may hold a part of what is still to be done."""
        for arrival in self.todo:
            arrival.value = copied(arrival.value)

    def _end(self) -> None:
        """Deliver everything; no await stands between this and the end of the event.

        Raises:
            FlowStopped: too many events of a stage became dead letters.
        """
        Emitter.deliver(self.prepared)
        for (cache, key), (state, raw) in self.states.items():
            cache.put(key, state, raw)
        for link in self.passed:
            link.tally.events += 1
            if link.failures.letters:
                link.judge()


class Chain:
    """All that is chained to the stage of one worker, directly or not."""

    def __init__(self, links: Sequence[Link], host: StateCache | None) -> None:
        self.links = tuple(links)
        self.suspends = any(link.suspends for link in links)
        self._host = host
        self._counted = self._counts()

    def names(self, origin: TopicPartition) -> dict[str, Any]:
        """What the loop of the host uses, for one of its inputs."""
        return {"begin": self.begin, "enter": enter, "origin": origin}

    def begin(
        self,
        record: Record,
        origin: TopicPartition,
        prepared: Prepared,
        state: Any = None,
        cleared: bool = False,
    ) -> Passage:
        """The passage of an event with which the host is done.

        Raises:
            ValueError, TypeError: the host's state cannot be encoded.
        """
        passage = Passage()
        if state is not None:
            assert self._host is not None
            assert record.key is not None
            passage.change(self._host, record.key, state, cleared=cleared)
        passage.take(prepared, record, origin)
        return passage

    @staticmethod
    def concerns(prepared: Prepared) -> bool:
        """Whether any of these results is for a chained stage."""
        return any(isinstance(place, Link) for place, *_ in prepared)

    # ---- going back

    def undo(self, key: bytes | None) -> None:
        """Forget what an event that is given up may have changed."""
        caches = (self._host, *(link.cache for link in self.links))
        for cache in caches:
            if cache is not None and key is not None:
                cache.undo(key)

    def rewind(self) -> None:
        """Return to the last share."""
        for link, (events, dead_letters, skipped) in zip(self.links, self._counted, strict=True):
            if link.cache is not None:
                link.cache.rewind()
            link.tally.events, link.tally.dead_letters, link.tally.skipped = events, dead_letters, skipped

    def shared(self) -> None:
        """A commit takes its share: this is where going back leads to."""
        self._counted = self._counts()

    def _counts(self) -> list[tuple[int, int, int]]:
        return [(link.tally.events, link.tally.dead_letters, link.tally.skipped) for link in self.links]

"""``kill -9`` and new starts at random moments, while events come in; an oracle says what must come of it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from tests.support import embedded
from tests.support.kafka import Feed, Input, Output, Topic, create_topics
from tests.support.waiting import wait_until
from tests.support.workers import Worker, Workers

Seen = Callable[[str, int], list[Output]]
"""What a topic holds, by the end of its name, as soon as it holds so many events (or no more come)."""


class Oracle(Protocol):
    """The input of a flow, and what must come out."""

    events: Sequence[Input]
    source: str
    """The topic of the input: what follows the flow's name."""
    sinks: Sequence[str]
    """The topics of the results."""

    def check(self, seen: Seen) -> None:
        """Everything is there, and nothing else.

        Raises:
            AssertionError: it is not.
        """


@dataclass(frozen=True)
class Kills:
    """How a flow is to be troubled.

    Args:
        target: a flow of tests/support/flows.
        number: of kills.
        period: seconds over which the events come in, and the kills.
        chance: decides about the moments and the victims.
        patience: seconds in which everything is out after the last event and the last kill.
    """

    target: str
    oracle: Oracle
    number: int
    period: float
    chance: random.Random
    patience: float = 60

    def three_workers(self, bootstrap: str, name: str, folder: Path) -> None:
        """Independent workers, each killed at some time and started again after some more."""
        mean = self.period / self.number
        with self._run(bootstrap, name, folder) as (run, workers):
            slots = [workers.start(self.target) for _ in range(3)]
            wait_until(lambda: workers.shares() == [2, 3, 3], 60, "three workers share all lanes")
            run.feed.start()
            for _ in range(self.number):
                time.sleep(self.chance.uniform(0, 1.2 * mean))
                # The group misses a worker only after its session time-out: until then there may be no lanes.
                wait_until(lambda: any(slot.lanes() for slot in slots), 40, "a worker that has lanes")
                slot = self.chance.choice([number for number, worker in enumerate(slots) if worker.lanes()])
                slots[slot].kill()
                time.sleep(self.chance.uniform(0, 0.8 * mean))
                slots[slot] = workers.start(self.target)
            self._end(run, slots)

    def supervised_engines(self, bootstrap: str, name: str, folder: Path, engines: int) -> None:
        """Engines of one supervisor, which keep their places in the group and are started again at once."""
        mean = self.period / self.number
        with self._run(bootstrap, name, folder) as (run, workers):
            worker = workers.start(self.target, "--engines", str(engines))
            wait_until(lambda: len(worker.lanes()) == 8, 60, "the engines run all lanes")
            run.feed.start()
            for _ in range(self.number):
                time.sleep(self.chance.uniform(0.2 * mean, 1.2 * mean))
                wait_until(worker.children, 30, "an engine to kill")
                os.kill(self.chance.choice(worker.children()), signal.SIGKILL)
            self._end(run, [worker])

    def embedded_log(self, name: str, folder: Path, within: float) -> None:
        """The one process of an embedded log, killed while it works through what has come meanwhile.

        Args:
            within: seconds after its start in which it is killed.
        """
        source, events = name + self.oracle.source, self.oracle.events
        piece = -(-len(events) // (self.number + 1))
        with Workers(folder, name) as workers:
            for number in range(self.number):
                embedded.produce(workers.data_dir, source, events[number * piece : (number + 1) * piece])
                worker = workers.start(self.target)
                wait_until(worker.lanes, 30, "the worker runs lanes", every=0.02)
                time.sleep(self.chance.uniform(0, within))
                worker.kill()
            embedded.produce(workers.data_dir, source, events[self.number * piece :])
            worker = workers.start(self.target, "--until-end")
            assert worker.wait(self.patience) == 0, worker.last_words()
            self.oracle.check(lambda topic, _: embedded.read(workers.data_dir, name + topic))

    @contextlib.contextmanager
    def _run(self, bootstrap: str, name: str, folder: Path) -> Iterator[tuple[Run, Workers]]:
        with (
            Run(bootstrap, name, self.oracle, self.period) as run,
            Workers(folder, name, bootstrap) as workers,
        ):
            yield run, workers

    def _end(self, run: Run, workers: Sequence[Worker]) -> None:
        run.check(self.patience)
        for worker in workers:
            assert worker.stop() == 0, worker.last_words()
        run.check(5)  # nothing was added by stopping


class Run:
    """The topics of one run on Kafka: input that comes in slowly, and output that the oracle compares."""

    def __init__(self, bootstrap: str, name: str, oracle: Oracle, period: float) -> None:
        create_topics(bootstrap, [name + topic for topic in (oracle.source, *oracle.sinks)])
        self.feed = Feed(bootstrap, name + oracle.source, oracle.events, len(oracle.events) / period)
        self._bootstrap = bootstrap
        self._name = name
        self._oracle = oracle
        self._period = period
        self._topics: dict[str, Topic] = {}
        self._closing = ExitStack()

    def check(self, seconds: float) -> None:
        """Once the feed is finished: what must come comes within these seconds, and nothing else."""
        self.feed.finish(self._period + 30)
        deadline = time.monotonic() + seconds

        def seen(topic: str, count: int) -> list[Output]:
            reader = self._topic(self._name + topic)
            with contextlib.suppress(AssertionError):  # the oracle can say best what is missing
                reader.wait(count, max(0.0, deadline - time.monotonic()))
            return reader.outputs()

        self._oracle.check(seen)

    def _topic(self, name: str) -> Topic:
        if (found := self._topics.get(name)) is None:
            found = self._topics[name] = Topic(self._bootstrap, name)
            self._closing.callback(found.close)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._closing:
            if self.feed.is_alive():
                self.feed.cancel()

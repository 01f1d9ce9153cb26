"""What handlers call: a service that answers some calls late, and counts all of them."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from reflow_kafka.errors import RetryLater
from reflow_kafka.lane.inflight import ELSEWHERE, Mark, decode
from reflow_kafka.lane.record import decode as decode_record
from reflow_kafka.log.api import CommittedPosition, TopicPartition
from reflow_kafka.log.memory import MemoryLog
from tests.engine.memory import records


class Service:
    """Answers at once, except about the numbers that are held back."""

    def __init__(self, held: Iterable[int] = ()) -> None:
        self.held = set(held)
        self.calls: Counter[int] = Counter()
        self.cancelled: Counter[int] = Counter()
        self.busy: dict[str, int] = {}
        """Key → the number that is being asked about."""
        self.most = 0
        """Calls that were under way at once."""
        self._changed = asyncio.Event()

    async def ask(self, n: int, key: str) -> None:
        """Return when the number is not held back.

        Raises:
            AssertionError: there is a call for the same key.
        """
        assert key not in self.busy, f"{n} of key {key!r} overlaps {self.busy[key]}"
        self.calls[n] += 1
        self.busy[key] = n
        self.most = max(self.most, len(self.busy))
        try:
            await asyncio.sleep(0)
            while n in self.held:
                await self._changed.wait()
        except asyncio.CancelledError:
            self.cancelled[n] += 1
            raise
        finally:
            del self.busy[key]

    def free(self) -> None:
        """Answer everything."""
        self.held.clear()
        self._changed.set()


class Tries:
    """Fails as planned: the first try of a number with the first of its errors, and so on.

    A worker that goes back repeats a try: it has the same number and the same outcome.
    """

    def __init__(self, failures: Mapping[int, Sequence[Exception]]) -> None:
        self._failures = failures
        self._last: dict[int, Exception] = {}
        self.attempts: defaultdict[int, list[int]] = defaultdict(list)
        """Number → what `ctx.attempt` was, repetitions left out."""

    def __call__(self, n: int, attempt: int) -> None:
        """Try once."""
        known, last = self.attempts[n], self._last.get(n)
        if last is not None and known[-1] == attempt and not isinstance(last, RetryLater):
            raise last
        known.append(attempt)
        errors = self._failures.get(n, ())
        if len(known) <= len(errors):
            self._last[n] = errors[len(known) - 1]
            raise self._last[n]
        self._last.pop(n, None)


async def committed(log: MemoryLog, topic: str, flow: str = "f", lane: int = 0) -> CommittedPosition:
    """What a lane has committed for its partition of a topic; the lane must have no owner any more."""
    tp = TopicPartition(topic, lane)
    writer = await log.take_over(flow, lane)
    found = (await writer.committed([tp]))[tp]
    await writer.close()
    assert found is not None, f"nothing is committed for {tp}"
    return found


async def mark(log: MemoryLog, topic: str, flow: str = "f", lane: int = 0) -> Mark:
    """What of its partition of a topic a lane has finished."""
    position = await committed(log, topic, flow, lane)
    if position.metadata != ELSEWHERE:
        return decode(position.offset, position.metadata)
    own = [r for r in await records(log, f"{flow}.progress") if r.key == b"lane"]
    record = decode_record(own[-1].value or b"")
    assert record.positions[topic] == position.offset
    return decode(position.offset, record.runs[topic])


def finished(mark: Mark, end: int) -> set[int]:
    """The offsets below `end` that a mark calls finished."""
    runs = [(0, mark.position), *mark.runs]
    return {offset for first, after in runs for offset in range(first, after) if offset < end}

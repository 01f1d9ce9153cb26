"""Events of any number, size and number of keys, and what must come out of a flow that counts them."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from benchmarks.events import FIRST_TIMESTAMP, Event
from benchmarks.topics import KafkaTopics

_STRIDE = 2**31 - 1
"""A prime above any number of keys: steps of it come to each of them before they come to one again."""
_FRAME = len(b'{"id":,"pad":""}') + 7


@dataclass(frozen=True)
class Numbers:
    """So many events, numbered; the same at every call."""

    count: int
    keys: int = 1000
    size: int = 100
    """Bytes of JSON, about."""
    evenly: bool = False
    """Each key comes up before one comes up again; else they are drawn, and some of many keys never are."""

    def __iter__(self) -> Iterator[Event]:
        pad = b"x" * max(self.size - _FRAME, 0)
        for id, key in enumerate(self._keys()):
            yield Event(b"k-%07d" % key, b'{"id":%d,"pad":"%s"}' % (id, pad), FIRST_TIMESTAMP + id)

    def ranks(self) -> array[int]:
        """How many events of the same key there are up to each event."""
        seen = array("l", bytes(8 * self.keys))
        ranks = array("l")
        for key in self._keys():
            seen[key] += 1
            ranks.append(seen[key])
        return ranks

    def _keys(self) -> Iterator[int]:
        if self.evenly:
            return (id * _STRIDE % self.keys for id in range(self.count))
        chance = random.Random(1)
        return (int(chance.random() * self.keys) for _ in range(self.count))


async def fault(numbers: Numbers, topics: KafkaTopics, output: str, lanes: int, *, times: int = 1) -> str:
    """What is wrong with the outputs; empty if every event came out so many times, with the right count."""
    ranks: array[int] | None = None
    seen = bytearray(numbers.count)
    wrong = 0
    async for _, value in topics.read(output, lanes):
        event = orjson.loads(value)
        seen[event["id"]] += 1
        if "count" in event:
            if ranks is None:
                ranks = numbers.ranks()
            wrong += event["count"] != ranks[event["id"]]
    unlike = numbers.count - seen.count(times)
    return ", ".join(
        text for n, text in ((unlike, f"{unlike:,} lost or doubled"), (wrong, f"{wrong:,} wrong")) if n
    )

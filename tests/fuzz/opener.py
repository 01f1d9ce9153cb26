"""Opens damaged directories for a test, in a process of its own: RocksDB may hang, holding the GIL.

Reads lines ``log PATH`` or ``state PATH``, and answers each with a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from reflow_kafka.errors import LogError, StateError
from reflow_kafka.log.api import OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.embedded import EmbeddedLog
from reflow_kafka.state.rocks import RocksBackend
from reflow_kafka.state.store import LaneStores, StoreMark

TOPICS = ("one", "two")
PARTITIONS = [TopicPartition(topic, 0) for topic in TOPICS]


def value(name: str, number: int) -> bytes:
    """What belongs to a number, and to nothing else."""
    return (f"{name} {number} " * 20).encode()


# ---- logs


async def fill_log(path: Path, *rounds: int) -> EmbeddedLog:
    """Each round adds ten records to each topic; the log stays open."""
    log = EmbeddedLog(path, serve=False)
    await log.start()
    await log.ensure_topics([TopicSpec(topic, 1, TopicKind.EXTERNAL) for topic in TOPICS])
    for number in rounds:
        for tp in PARTITIONS:
            numbers = range(10 * number, 10 * number + 10)
            await log.publish(*tp, [OutRecord(b"%d" % n, value(tp.topic, n), n) for n in numbers])
    return log


async def read_log(path: Path) -> dict[str, Any]:
    """How many records each topic has, or an error; records that are not what they should be are a crash."""
    log = EmbeddedLog(path, serve=False)
    try:
        await log.start()
        try:
            counts = await log.partition_counts(TOPICS)
            there = [tp for tp in PARTITIONS if counts[tp.topic]]
            ends = await log.end_offsets(there)
            reader = log.reader()
            reader.assign(await log.start_offsets(there))
            found: dict[str, int] = dict.fromkeys(TOPICS, 0)
            while any(reader.position(tp) < ends[tp] for tp in there):
                for tp, records in (await reader.fetch(timeout=0)).items():
                    for r in records:
                        assert r.value == value(tp.topic, found[tp.topic]), f"{tp} has another {r.offset}"
                        found[tp.topic] += 1
            return {"found": found}
        finally:
            await log.stop()
    except LogError as error:
        return {"error": str(error)}


# ---- states


def fill_state(path: Path, *rounds: int) -> LaneStores:
    """Each round changes ten keys and adds five to each store; they stay open."""
    stores = RocksBackend(path).open("flow", 0, TOPICS)
    for number in rounds:
        pairs = {
            store: [(b"%d" % n, value(store, 100 * number + n)) for n in range(number, number + 10)]
            for store in TOPICS
        }
        stores.write(pairs, StoreMark("i", dict.fromkeys(TOPICS, number), number))
    return stores


def read_state(path: Path) -> dict[str, Any]:
    """How many rounds there are after opening twice at most; a crash if they are not as they were written."""
    failed = []
    for _ in range(3):
        stores = RocksBackend(path).open("flow", 0, TOPICS)
        try:
            mark = stores.mark()
            last = mark.positions["one"] if mark else 0
            wanted = {}
            for number in range(1, last + 1):
                wanted.update({n: 100 * number + n for n in range(number, number + 10)})
            for store in TOPICS:
                assert dict(stores.scan(store)) == {b"%d" % n: value(store, at) for n, at in wanted.items()}
                assert all(stores.get(store, b"%d" % n) == value(store, at) for n, at in wanted.items())
            return {"found": last, "failed": failed}
        except StateError as error:
            failed.append(str(error))
        finally:
            stores.close()
    return {"error": failed}


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        kind, path = line.split()
        answer = read_state(Path(path)) if kind == "state" else asyncio.run(read_log(Path(path)))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

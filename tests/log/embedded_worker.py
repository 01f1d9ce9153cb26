"""A process to be killed: commits in a loop and says what was acknowledged."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from reflow_kafka.log.api import Commit, CommittedPosition, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.embedded import EmbeddedLog

TOPICS = ("f.a.b", "f.b.c")


async def commit_forever(data_dir: Path) -> None:
    """Commit n writes record n to both topics and moves the position to n."""
    log = EmbeddedLog(data_dir)
    await log.start()
    await log.ensure_topics([TopicSpec(name, 1, TopicKind.EDGE) for name in TOPICS])
    one, two = (TopicPartition(name, 0) for name in TOPICS)
    writer = await log.take_over("f", 0)
    position = (await writer.committed([one]))[one]
    at = position.offset if position else 0
    print("ready", flush=True)
    while True:
        at += 1
        batches = {}
        for tp in (one, two):
            builder = writer.batch()
            builder.append(timestamp=at, key=b"k", value=b"%d" % at)
            batches[tp] = [builder]
        if at % 3 == 0:  # a transaction that is open for a while
            await writer.send({two: batches.pop(two)})
            await asyncio.sleep(0)
        await writer.commit(Commit(batches, {one: CommittedPosition(at)}))
        print(at, flush=True)


if __name__ == "__main__":
    asyncio.run(commit_forever(Path(sys.argv[1])))

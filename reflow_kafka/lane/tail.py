"""Reading the newest lane record without reading the whole partition."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from reflow_kafka.errors import LogDoubt
from reflow_kafka.lane.record import RECORD_KEY, LaneRecord, decode
from reflow_kafka.log.api import Log, TopicPartition

log = logging.getLogger(__name__)

FIRST_LOOK: Final = 100
"""Offsets looked at from the end first; ten times as many with each further look."""
DEADLINE: Final = 30.0


async def last_record(source: Log, partition: TopicPartition) -> LaneRecord | None:
    """The newest lane record of a progress partition, None if there is none.

    Raises:
        LogDoubt: the partition could not be read to its end in time.
    """
    start = (await source.start_offsets([partition]))[partition]
    end = (await source.end_offsets([partition]))[partition]
    look = FIRST_LOOK
    while start < end:
        begin = max(start, end - look)
        found = await _newest(source, partition, begin, end)
        if found is not None or begin == start:
            return found
        look *= 10
    return None


async def _newest(source: Log, partition: TopicPartition, begin: int, end: int) -> LaneRecord | None:
    reader = source.reader(committed=True)
    newest: LaneRecord | None = None
    try:
        async with asyncio.timeout(DEADLINE):
            reader.assign({partition: begin})
            while reader.position(partition) < end:
                batches = await reader.fetch(timeout=0.5)
                for record in batches.get(partition, ()):
                    if record.key == RECORD_KEY and record.value is not None:
                        try:
                            newest = decode(record.value)
                        except ValueError as error:
                            log.warning("%s[%d]@%d is no lane record: %s", *partition, record.offset, error)
    except TimeoutError:
        raise LogDoubt(
            f"waited {DEADLINE:g} s for {partition.topic}[{partition.partition}] to be read up to {end}, "
            f"reached {reader.position(partition)}"
        ) from None
    finally:
        await reader.close()
    return newest

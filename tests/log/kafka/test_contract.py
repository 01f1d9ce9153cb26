"""The contract of all logs, on Kafka."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from reflow_kafka.log.api import Commit, LaneWriter, TopicPartition
from reflow_kafka.log.kafka.log import KafkaLog
from tests.log.contract import LogContract


class Settled:
    """A log whose commits return when they can be read.

    A broker acknowledges the end of a transaction before its markers are written; the contract reads at once.
    """

    def __init__(self, log: KafkaLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def take_over(self, flow: str, lane: int) -> LaneWriter:
        writer = await self._log.take_over(flow, lane)
        commit = writer.commit

        async def settled(content: Commit) -> dict[TopicPartition, int]:
            written = await commit(content)
            deadline = time.monotonic() + 0.5  # another lane's open transaction may hold it back
            while time.monotonic() < deadline:
                ends = await self._log.end_offsets(list(written))
                if all(ends[tp] > offset for tp, offset in written.items()):
                    break
                await asyncio.sleep(0.002)
            return written

        writer.commit = settled  # type: ignore[method-assign]
        return writer


@pytest.fixture
def log(log: KafkaLog) -> Settled:
    return Settled(log)


@pytest.mark.kafka
class TestKafkaLog(LogContract):
    pass

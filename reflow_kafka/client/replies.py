"""Reading the answers to a client's requests, for as long as the client lives."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from reflow_kafka.client.waiting import Waiting
from reflow_kafka.errors import LogError, NotPermitted, OffsetOutOfRange, ReflowError
from reflow_kafka.log.access import Access
from reflow_kafka.log.api import TopicKind, TopicPartition, TopicSpec
from reflow_kafka.topology.replies import reply_address

logger = logging.getLogger(__name__)

FETCH_WAIT: Final = 5.0
"""Seconds for which a fetch waits for answers."""
BACKOFF: Final = (0.1, 2.0)


class Replies:
    """One partition of a flow's replies, and the task that reads it.

    Reading begins at a position that was found before the first request is sent: no answer can be missed,
    and no assignment has to be waited for.
    """

    def __init__(self, access: Access, topic: str, partitions: int, waiting: Waiting) -> None:
        self._access = access
        self._spec = TopicSpec(topic, partitions, TopicKind.REPLIES)
        self._partition = TopicPartition(topic, random.randrange(partitions))
        self._waiting = waiting
        self._task: asyncio.Task[None] | None = None
        self.address = reply_address(*self._partition)
        """What requests are to be sent with, once `start` has returned."""

    @property
    def running(self) -> bool:
        """Whether answers are being read."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """See to it that answers are read: at the first request, and again should reading have ended.

        One call at a time.
        """
        if self.running:
            return
        await self._access.ensure_topics([self._spec])
        ends = await self._access.end_offsets([self._partition])
        self._task = asyncio.create_task(self._read(ends[self._partition]), name="replies")
        self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Read no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nobody waits in vain for what nobody reads."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("answers are no longer read: %s", error, exc_info=error)
        reason = f"answers from {self._spec.name} can no longer be read: {error or 'reading was ended'}"
        self._waiting.fail(lambda: LogError(reason))

    async def _read(self, position: int) -> None:
        """Pass answers on; what does not heal ends it, a broker that is away does not."""
        tp, delay = self._partition, BACKOFF[0]
        lost = False
        while True:
            reader = self._access.reader()
            try:
                if lost:
                    await self._access.ensure_topics([self._spec])  # somebody may have deleted it
                    start = (await self._access.start_offsets([tp]))[tp]
                    end = (await self._access.end_offsets([tp]))[tp]
                    position = position if start <= position <= end else start
                    lost = False
                reader.assign({tp: position})
                while True:
                    for record in (await reader.fetch(timeout=FETCH_WAIT)).get(tp, ()):
                        self._waiting.answered(record)
                    position = reader.position(tp)
                    delay = BACKOFF[0]
            except NotPermitted:
                raise
            except OffsetOutOfRange:  # it stood still for longer than answers are kept
                lost = True
            except ReflowError as error:
                lost = True
                level = logging.WARNING if delay == BACKOFF[0] else logging.DEBUG  # said once per outage
                logger.log(level, "answers cannot be read (%s); trying until they can", error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, BACKOFF[1])
            finally:
                await reader.close()

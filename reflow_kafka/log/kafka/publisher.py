"""Writing to Kafka outside any lane: one idempotent producer, shared by all who publish through a log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from reflow_kafka.errors import LogDoubt, LogError
from reflow_kafka.log.api import OutRecord, TopicPartition
from reflow_kafka.log.kafka import library
from reflow_kafka.log.kafka.discard import discard_producer, forget
from reflow_kafka.log.kafka.errors import classify


class Publisher:
    """Appends records, acknowledged by all replicas.

    Args:
        options: arguments for the producer, the address among them.
        deadline: seconds after which a call that gets nowhere raises.
    """

    def __init__(self, options: Mapping[str, Any], deadline: float) -> None:
        self._options = {**options, "enable_idempotence": True}
        self._deadline = deadline
        self._turn = asyncio.Lock()
        self._current: _Shared | None = None
        self._all: set[_Shared] = set()

    async def publish(self, tp: TopicPartition, records: Sequence[OutRecord]) -> None:
        """Append records to a partition; durable when it returns.

        Raises:
            RecordRefused: the broker does not take them.
            LogDoubt: it did not answer in time; they may be written.
        """
        try:
            async with asyncio.timeout(self._deadline), self._producer() as shared:
                async with self._turn:
                    futures = await shared.send(tp, records)
                await asyncio.gather(*futures)
        except TimeoutError as error:
            where = f"{tp.topic}[{tp.partition}]"
            raise LogDoubt(f"publishing to {where} took longer than {self._deadline:g} s") from error
        except Exception as error:
            if isinstance(error, LogError):
                raise
            raise classify(error, [tp], "publishing") from error

    async def close(self) -> None:
        """End at once: whoever still waits is told that the outcome is not known."""
        self._current = None
        await asyncio.gather(*(shared.end() for shared in self._all))
        self._all.clear()

    @contextlib.asynccontextmanager
    async def _producer(self) -> AsyncIterator[_Shared]:
        """The producer for one call.

        After an error an idempotent producer cannot go on in that partition: its sequence has a gap. The next
        call makes a new one; the old one ends when those who still use it, for other partitions, are done.
        """
        async with self._turn:
            if self._current is None:
                made = _Shared(self._options)
                self._all.add(made)
                try:
                    await made.producer.start()
                except BaseException:
                    await self._end(made)
                    raise
                self._current = made
            shared = self._current
            shared.users += 1
        try:
            yield shared
        except BaseException:
            if self._current is shared:
                self._current = None
            raise
        finally:
            shared.users -= 1
            if shared is not self._current and not shared.users:
                await self._end(shared)

    async def _end(self, shared: _Shared) -> None:
        if shared in self._all:
            self._all.discard(shared)
            await shared.end()


class _Shared:
    """A producer and what is on its way through it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.producer = library.new_producer(options)
        self.users = 0
        self._sent: set[asyncio.Future[Any]] = set()

    async def send(self, tp: TopicPartition, records: Sequence[OutRecord]) -> list[asyncio.Future[Any]]:
        """Hand records over, in as many batches as they need."""
        futures: list[asyncio.Future[Any]] = []
        builder = self.producer.create_batch()
        for record in records:
            fields = record._asdict()
            if builder.append(**fields) is None:
                futures.append(await self._flush(builder, tp))
                builder = self.producer.create_batch()
                builder.append(**fields)
        futures.append(await self._flush(builder, tp))
        return futures

    async def _flush(self, builder: Any, tp: TopicPartition) -> asyncio.Future[Any]:
        builder.close()
        future: asyncio.Future[Any] = await self.producer.send_batch(
            builder, tp.topic, partition=tp.partition
        )
        future.add_done_callback(forget)
        future.add_done_callback(self._sent.discard)
        self._sent.add(future)
        return future

    async def end(self) -> None:
        """Discard the producer."""
        await discard_producer(self.producer)
        for future in list(self._sent):
            if not future.done():
                future.set_exception(LogDoubt("the log was closed while records were being published"))

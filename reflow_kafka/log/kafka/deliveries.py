"""Batches handed to a producer, until the broker has them or has refused them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from reflow_kafka.errors import LogDoubt, LogError
from reflow_kafka.log.api import BatchBuilder, TopicPartition
from reflow_kafka.log.kafka.discard import forget
from reflow_kafka.log.kafka.errors import SenderFailed, classify, worst

Batches = Mapping[TopicPartition, Sequence[BatchBuilder]]


def filled(batches: Batches) -> dict[TopicPartition, list[BatchBuilder]]:
    """Without the builders that have no record, and the partitions that have none."""
    return {
        tp: kept for tp, builders in batches.items() if (kept := [b for b in builders if b.record_count()])
    }


class Deliveries:
    """What one producer was given and what has become of it. `name`: for messages."""

    def __init__(self, producer: Any, name: str) -> None:
        self.first: dict[TopicPartition, int] = {}
        """Offset of the first record of each partition."""
        self._producer = producer
        self._name = name
        self._sent: list[tuple[TopicPartition, asyncio.Future[Any]]] = []

    async def queue(self, batches: Batches) -> None:
        """Give batches to the producer, in order per partition; waits where two are waiting already."""
        if all(len(builders) == 1 for builders in batches.values()):
            # The common case: nothing to wait for, so no task per partition.
            for tp, builders in batches.items():
                await self._queue(tp, builders)
        else:
            async with asyncio.TaskGroup() as group:
                for tp, builders in batches.items():
                    group.create_task(self._queue(tp, builders))

    async def _queue(self, tp: TopicPartition, builders: Sequence[BatchBuilder]) -> None:
        for builder in builders:
            # An open builder would linger, and take records of later sends.
            builder.close()  # type: ignore[attr-defined]
            future = await self._producer.send_batch(builder, tp.topic, partition=tp.partition)
            future.add_done_callback(forget)
            self._sent.append((tp, future))

    async def acknowledged(self) -> None:
        """Wait until the broker has answered for every batch."""
        if self._sent:
            await asyncio.wait([future for _, future in self._sent])

    def check(self) -> None:
        """Take the acknowledged batches off the list; raise if any failed.

        The library would commit a transaction some of whose batches failed.

        Raises:
            LogError: what the failures come to.
        """
        waiting: list[tuple[TopicPartition, asyncio.Future[Any]]] = []
        failed: dict[TopicPartition, BaseException] = {}
        general: list[LogError] = []
        for tp, future in self._sent:
            if not future.done():
                waiting.append((tp, future))
            elif error := future.exception():
                if isinstance(error, SenderFailed):  # not because of this batch
                    general.append(classify(error.cause, what=f"{self._name}: writing"))
                else:
                    failed.setdefault(tp, error)  # later ones fail because this one is missing
            elif (offset := future.result().offset) < 0:
                # DUPLICATE_SEQUENCE, which the library reports as success: what was written is not known.
                message = f"{self._name}: a batch for {tp.topic}[{tp.partition}] was taken for a duplicate"
                failed.setdefault(tp, LogDoubt(message))
            else:
                self.first.setdefault(tp, offset)
        self._sent = waiting
        if failed or general:
            raise worst(
                [*general, *(classify(error, [tp], f"{self._name}: writing") for tp, error in failed.items())]
            )

"""What at-least-once lanes write before their commit: at once, outside of any transaction.

In a transaction it would be no earlier than the commit for anybody who reads committed records only, which is
what most programs should do. A crash before the commit leaves it, and it is written again: at least once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from reflow_kafka.log.api import BatchBuilder
from reflow_kafka.log.kafka import library
from reflow_kafka.log.kafka.deliveries import Batches, Deliveries
from reflow_kafka.log.kafka.discard import discard_producer
from reflow_kafka.log.kafka.fast import shorten_writing


class Ahead:
    """An idempotent producer beside a lane's transactional one, made when it is needed first.

    Args:
        options: arguments for the producer, the address among them.
        name: for messages.
    """

    def __init__(self, options: Mapping[str, Any], name: str) -> None:
        self._options = options
        self._name = name
        self._producer: Any = None
        self._started = False
        self._sent: Deliveries | None = None
        self._made: WeakSet[Any] = WeakSet()

    def batch(self) -> BatchBuilder:
        """A builder for `send`; those of a transaction say so in their bytes, and cannot be exchanged."""
        if self._producer is None:
            self._producer = library.new_producer(self._options)
            self._sent = Deliveries(self._producer, self._name)
        builder: BatchBuilder = shorten_writing(self._producer.create_batch())
        self._made.add(builder)
        return builder

    def made(self, builder: BatchBuilder) -> bool:
        """Whether a builder is one of these."""
        return builder in self._made

    async def send(self, batches: Batches) -> None:
        """Hand over; raises what has become of earlier ones."""
        if not batches or self._sent is None:
            return
        if not self._started:
            await self._producer.start()
            self._started = True
        await self._sent.queue(batches)
        self._sent.check()

    async def settled(self) -> None:
        """Wait until the broker has everything.

        Raises:
            LogError: it has not.
        """
        if self._sent is not None:
            await self._sent.acknowledged()
            self._sent.check()

    async def close(self) -> None:
        """Give up what is on its way."""
        if self._producer is not None:
            await discard_producer(self._producer)

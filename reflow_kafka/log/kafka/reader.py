"""Reading chosen partitions from Kafka: a consumer without a group, which no rebalance can touch."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition as ClientPartition
from aiokafka.errors import OffsetOutOfRangeError

from reflow_kafka.errors import LogDoubt, LogError, OffsetOutOfRange
from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.log.kafka import library
from reflow_kafka.log.kafka.discard import discard_consumer
from reflow_kafka.log.kafka.errors import classify
from reflow_kafka.log.kafka.fast import shorten_reading

_DEFAULTS: dict[str, Any] = {
    "fetch_max_wait_ms": 500,
    "max_partition_fetch_bytes": 512 * 1024,
    "check_crcs": True,
    # How often the client looks for something to do although nothing has happened: 0.2 s by itself, which was
    # a third of what idle lanes cost.
    "consumer_timeout_ms": 1000,
}
_FIXED: dict[str, Any] = {
    "group_id": None,
    "enable_auto_commit": False,
    # Where to go on when the log no longer has the position is not for the client to decide.
    "auto_offset_reset": "none",
}


class KafkaReader:
    """A `Reader` on Kafka. The consumer behind it is made by the first `fetch`.

    Args:
        options: arguments for the consumer over the defaults, the address among them.
        committed: whether records of open and aborted transactions are left out.
        deadline: how long a partition may be without a leader before `fetch` raises.
    """

    def __init__(self, options: Mapping[str, Any], *, committed: bool = True, deadline: float = 15.0) -> None:
        isolation = "read_committed" if committed else "read_uncommitted"
        self._options = {**_DEFAULTS, **options, **_FIXED, "isolation_level": isolation}
        self._deadline = deadline
        self._committed = committed
        self._consumer: Any = None
        self.closed = False
        # Position by partition as of the last complete fetch: what to return to after an error.
        self._positions: dict[TopicPartition, int] = {}
        self._partitions: dict[TopicPartition, ClientPartition] = {}
        self._leaderless_since: float | None = None

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions; whatever was buffered is dropped."""
        self._positions = {TopicPartition(*tp): offset for tp, offset in positions.items()}
        self._partitions = {tp: ClientPartition(*tp) for tp in self._positions}
        self._leaderless_since = None
        if self._consumer is not None:
            self._assign_consumer()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Continue one assigned partition at `offset`."""
        if partition not in self._positions:
            raise ValueError(f"{partition.topic}[{partition.partition}] is not assigned")
        self._positions[partition] = offset
        if self._consumer is not None:
            self._consumer.seek(self._partitions[partition], offset)

    async def fetch(
        self,
        partitions: Collection[TopicPartition] | None = None,
        *,
        max_records: int = 2000,
        timeout: float = 0.5,
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """The next records; those of partitions left out stay buffered."""
        if self.closed:
            raise LogDoubt("the reader is closed")
        wanted = self._wanted(partitions)
        if not wanted:
            # To the client no partition means all of them. Who has none at all waits for being given some.
            await asyncio.sleep(timeout if partitions is None else 0)
            return {}
        try:
            if self._consumer is None:
                await self._start()
            got: Mapping[TopicPartition, Sequence[Record]] = await self._consumer.getmany(
                *wanted, timeout_ms=timeout * 1000, max_records=max_records
            )
        except OffsetOutOfRangeError as error:
            self._return_to_positions()
            asked = {TopicPartition(*tp): offset for tp, offset in error.args[0].items()}
            raise OffsetOutOfRange(asked) from error
        except Exception as error:
            self._return_to_positions()
            raise self._known(error) from error
        self._note_positions()
        if not got:
            self._check_health()
        return got

    def position(self, partition: TopicPartition) -> int:
        """Offset of the next record to be returned."""
        return self._positions[partition]

    def behind(self, partition: TopicPartition) -> bool:
        """Whether there may be more than was returned, by what the broker told last of the end."""
        if self._consumer is None:
            return True
        told = self._consumer.last_stable_offset if self._committed else self._consumer.highwater
        end = told(self._partitions[partition])
        return end is None or self._positions[partition] < end

    async def close(self) -> None:
        """Discard the consumer."""
        self.closed = True
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _discard(consumer)

    def _wanted(self, partitions: Collection[TopicPartition] | None) -> list[ClientPartition]:
        if partitions is None:
            return list(self._partitions.values())
        return [self._partitions[tp] for tp in partitions if tp in self._partitions]

    async def _start(self) -> None:
        consumer = library.new_consumer(self._options)
        try:
            try:
                async with asyncio.timeout(self._deadline):
                    await consumer.start()
            except TimeoutError:
                raise LogDoubt(f"no broker answered a reader within {self._deadline:g} s") from None
            if self.closed:
                raise LogDoubt("the reader was closed")
        except BaseException:
            await _discard(consumer)
            raise
        shorten_reading(consumer)
        self._consumer = consumer
        self._assign_consumer()

    def _assign_consumer(self) -> None:
        if self._partitions:
            self._consumer.assign(list(self._partitions.values()))
        else:
            self._consumer.unsubscribe()
        # An assignment forgets all positions, also of partitions that stay.
        for tp, offset in self._positions.items():
            self._consumer.seek(self._partitions[tp], offset)

    def _note_positions(self) -> None:
        for tp in self._positions:
            # Not the last record plus one: the position passes transaction markers and compacted records.
            at = library.position_of(self._consumer, tp)
            if at is not None:
                self._positions[tp] = at

    def _return_to_positions(self) -> None:
        """After an error go back to what was returned last.

        The library drops records that it had unpacked before it came upon a corrupt one, and continues behind
        them; records too large for it are skipped likewise.
        """
        if self._consumer is not None:
            for tp, offset in self._positions.items():
                self._consumer.seek(self._partitions[tp], offset)

    def _known(self, error: Exception) -> LogError:
        return classify(error, what=f"reading from {', '.join(sorted({tp.topic for tp in self._positions}))}")

    def _check_health(self) -> None:
        """Nothing came: is that for want of records?"""
        if failure := library.fetcher_failure(self._consumer):
            raise LogDoubt(f"reading stopped: {failure!r}") from failure
        client = self._consumer._client
        lost = [tp for tp in self._positions if library.leader_of(client, tp) is None]
        now = asyncio.get_running_loop().time()
        if not lost:
            self._leaderless_since = None
        elif self._leaderless_since is None:
            self._leaderless_since = now
        elif now - self._leaderless_since > self._deadline:
            self._leaderless_since = None
            names = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in lost)
            raise LogDoubt(f"no broker leads {names}, or it does not exist, for {self._deadline:g} s")


async def _discard(consumer: Any) -> None:
    try:
        await discard_consumer(consumer)
    except Exception as error:  # closing never raises
        library.logger.warning("a reader did not close in good order: %r", error)

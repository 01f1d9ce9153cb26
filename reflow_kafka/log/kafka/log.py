"""The log on Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from reflow_kafka.errors import BrokerUnavailable, LogDoubt, NotPermitted
from reflow_kafka.log.api import (
    LaneWriter,
    MemberOptions,
    Membership,
    OutRecord,
    Reader,
    TopicPartition,
    TopicSpec,
)
from reflow_kafka.log.kafka import library, secure
from reflow_kafka.log.kafka.admin import EARLIEST, LATEST, KafkaAdmin
from reflow_kafka.log.kafka.client import Unreachable, new_client, request_version
from reflow_kafka.log.kafka.diagnosis import diagnose, silence
from reflow_kafka.log.kafka.discard import close_client
from reflow_kafka.log.kafka.errors import classify
from reflow_kafka.log.kafka.publisher import Publisher
from reflow_kafka.log.kafka.reader import KafkaReader
from reflow_kafka.log.kafka.writer import KafkaLaneWriter
from reflow_kafka.security import Security

Opened = TypeVar("Opened", KafkaReader, KafkaLaneWriter)

_ATTEMPT_PAUSE = 0.2
_PRODUCE = 0
_PRODUCE_IN_3_7 = 10  # version of the request by which a broker of 3.7 is known


class KafkaLog:
    """A Kafka cluster as `Log`.

    Args:
        bootstrap: addresses of brokers, ``host:port[,host:port…]``.
        security: how connections are encrypted and log in.
        client_options: aiokafka's options for every connection (``request_timeout_ms``, ``client_id``).
        producer_options: the same for lane writers alone (``compression_type``, ``max_batch_size``).
        reader_options: the same for readers alone (``max_partition_fetch_bytes``, ``check_crcs``).
        deadline: seconds after which a call that gets nowhere raises.
    """

    name = "kafka"

    def __init__(
        self,
        bootstrap: str,
        *,
        security: Security | None = None,
        client_options: Mapping[str, Any] | None = None,
        producer_options: Mapping[str, Any] | None = None,
        reader_options: Mapping[str, Any] | None = None,
        deadline: float = 15.0,
    ) -> None:
        self._bootstrap = bootstrap
        self._security = security
        self._client_options = {**secure.client_options(security), **(client_options or {})}
        self._options = {"bootstrap_servers": bootstrap, **self._client_options}
        self._producer_options = {**self._options, **(producer_options or {})}
        self._reader_options = {**self._options, **(reader_options or {})}
        self._deadline = deadline
        self._client: Any = None
        self._admin: KafkaAdmin | None = None
        self._publisher = Publisher(self._producer_options, deadline)
        self._opened: set[KafkaReader | KafkaLaneWriter] = set()

    async def start(self) -> None:
        """Connect; a broker that is just starting is waited for.

        Raises:
            BrokerUnavailable: nobody answers, or who does cannot be trusted or does not let this client in.
        """
        client = new_client(self._options)
        try:
            if await self._connect(client) < _PRODUCE_IN_3_7:
                library.logger.warning(
                    "the broker at %s is older than Kafka 3.7: it does not verify transactions, so a request "
                    "that arrives late can leave one open for ever; update it, or use at-least-once",
                    self._bootstrap,
                )
        except BaseException:
            await close_client(client)
            raise
        self._client, self._admin = client, KafkaAdmin(client, deadline=self._deadline)

    async def stop(self) -> None:
        """Close all connections: the log's own, and those of readers and writers that are still open."""
        client, self._client, self._admin = self._client, None, None
        await asyncio.gather(self._publisher.close(), *(each.close() for each in self._opened))
        self._opened.clear()
        if client is not None:
            await close_client(client)

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int | None]:
        """How many partitions each topic has; None if it does not exist. Nothing is created by asking."""
        return await self._started().partition_counts(topics)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> list[str]:
        """Create what is missing, wait until it can be used, verify all of it; returns warnings."""
        return await self._started().ensure_topics(topics)

    async def grow_topic(self, topic: str, partitions: int) -> None:
        """Give an existing topic as many partitions; their number never shrinks."""
        await self._started().grow_topic(topic, partitions)

    async def start_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Offset of the first record still kept."""
        return await self._started().offsets(partitions, EARLIEST, committed=False)

    async def end_offsets(
        self, partitions: Collection[TopicPartition], *, committed: bool = True
    ) -> dict[TopicPartition, int]:
        """Offset after the last record; with `committed`, at most the start of a transaction still open."""
        return await self._started().offsets(partitions, LATEST, committed=committed)

    async def trim(self, positions: Mapping[TopicPartition, int]) -> None:
        """Delete the records below these offsets."""
        if positions:
            await self._started().trim(positions)

    async def publish(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        """Append records through an idempotent producer that the log keeps."""
        if records:
            await self._publisher.publish(TopicPartition(topic, partition), records)

    def reader(self, *, committed: bool = True) -> Reader:
        """A new reader; it connects when it is first used."""
        return self._keep(KafkaReader(self._reader_options, committed=committed, deadline=self._deadline))

    def membership(self, options: MemberOptions) -> Membership:
        """This process's membership in the consumer group named like the flow."""
        from reflow_kafka.log.kafka.membership import KafkaMembership

        member: Membership = KafkaMembership(self._bootstrap, options, client_options=self._client_options)
        return member

    async def take_over(self, flow: str, lane: int) -> LaneWriter:
        """Become the only writer of a lane."""
        writer = await KafkaLaneWriter.open(flow, lane, self._producer_options, deadline=self._deadline)
        return self._keep(writer)

    async def _connect(self, client: Any) -> int:
        last: BaseException | None = None
        try:
            async with asyncio.timeout(self._deadline):
                while True:
                    try:
                        await client.bootstrap()
                        return await request_version(client, _PRODUCE)
                    except (OSError, KafkaError) as error:
                        self._raise_if_final(error)
                        last = error
                    await asyncio.sleep(_ATTEMPT_PAUSE)
        except TimeoutError:
            reason = silence(self._security) if last is None else self._reason(last)
            raise BrokerUnavailable(
                f"no Kafka broker answered at {self._bootstrap} within {self._deadline:g} s ({reason})"
            ) from last

    def _raise_if_final(self, error: BaseException) -> None:
        for where, failure in self._failures(error):
            why = diagnose(failure, where, self._security)
            if why.final:
                raise BrokerUnavailable(f"cannot connect to Kafka: {why.text}") from error
        known = classify(error, what=f"connecting to {self._bootstrap}")
        if isinstance(known, NotPermitted):
            raise known from error

    def _reason(self, error: BaseException) -> str:
        return "; ".join(diagnose(why, where, self._security).text for where, why in self._failures(error))

    def _failures(self, error: BaseException) -> Sequence[tuple[str, BaseException]]:
        at = error if isinstance(error, Unreachable) else error.__cause__
        return at.failures if isinstance(at, Unreachable) else [(self._bootstrap, error)]

    def _started(self) -> KafkaAdmin:
        if self._admin is None:
            raise LogDoubt("the log is not started")
        return self._admin

    def _keep(self, opened: Opened) -> Opened:
        self._opened = {each for each in self._opened if not each.closed}
        self._opened.add(opened)
        return opened

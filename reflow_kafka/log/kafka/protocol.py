"""The place that touches parts of aiokafka which are not its public surface, and why.

* `LaneSender`: ends a transaction with one request only, begins the next without a pause, and fails without a
  traceback in the log.
* `position_of`, `fetcher_failure`, `leader_of`: state of a consumer that no synchronous public call tells.

`client` (finding the cluster), `connection` (logging in), `metadata` (knowing topics), `discard` (closing)
and `requests` belong to it.
`check_private_api` runs when this module is imported and refuses a version of aiokafka in which one of these
parts is missing.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import aiokafka
from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.consumer import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import NoGroupCoordinator
from aiokafka.producer.message_accumulator import MessageAccumulator, MessageBatch
from aiokafka.producer.producer import AIOKafkaProducer
from aiokafka.producer.sender import (
    BACKOFF_OVERRIDE,
    AddOffsetsToTxnHandler,
    AddPartitionsToTxnHandler,
    EndTxnHandler,
    Sender,
)
from aiokafka.producer.transaction_manager import TransactionManager

from reflow_kafka.errors import ReflowError
from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.kafka.client import Client
from reflow_kafka.log.kafka.errors import OutcomeUnknown, SenderFailed

logger = logging.getLogger("reflow_kafka.log.kafka")

_MARKERS_PENDING = 0.001

COORDINATION = ConnectionGroup.COORDINATION

# aiokafka has few annotations: instances of its classes are Any, and they are made only here.
_Producer: Any = AIOKafkaProducer
_Consumer: Any = AIOKafkaConsumer


def new_producer(options: Mapping[str, Any]) -> Any:
    """A producer with the parts of this module; `discard.discard_producer` ends it."""
    producer = _Producer(**options)
    # Exchanging the class keeps the library's constructors; the subclasses add behaviour and one attribute.
    producer.client.__class__ = Client
    producer._sender.__class__ = LaneSender
    producer._sender.live = set()
    # A failure before the first transaction asks the waiter for its state and would find None.
    producer._txn_manager._transaction_waiter = asyncio.get_running_loop().create_future()
    return producer


def new_consumer(options: Mapping[str, Any]) -> Any:
    """A consumer with the parts of this module; `discard.discard_consumer` ends it."""
    consumer = _Consumer(**options)
    consumer._client.__class__ = Client
    return consumer


class LaneSender(Sender):
    """aiokafka's sender, knowing its tasks; callers get what ended it as `SenderFailed` with the cause."""

    live: set[asyncio.Task[Any]]

    async def _send_produce_req(self, node_id: Any, batches: Any) -> None:
        with self._tracked():
            await super()._send_produce_req(node_id, batches)

    def _maybe_do_transactional_request(self) -> Any:
        transaction, batches = self._txn_manager, self._message_accumulator
        partitions, group = transaction.partitions_to_add(), transaction.consumer_group_to_add()
        if partitions and group is not None:
            return asyncio.get_running_loop().create_task(self._do_extend(partitions, group))
        if (
            not partitions
            and transaction.offsets_to_commit()
            and (batches._batches or batches._pending_batches)
        ):
            # Positions after batches: of two verifications of one transaction at the same time a broker drops
            # one, and what it belongs to would be sent again 100 ms later. The sender looks again when a
            # batch is acknowledged.
            return None
        return super()._maybe_do_transactional_request()

    async def _do_extend(self, partitions: Any, group: str) -> None:
        """Extend the transaction by partitions and positions at once: a round trip less than one by one.

        The coordinator takes the requests of a connection in their order. Batches leave when this is over,
        because a broker that verifies them meanwhile would be refused.
        """
        with self._tracked():
            node = await self._find_coordinator(
                CoordinationType.TRANSACTION, self._txn_manager.transactional_id
            )
            handlers = AddOffsetsSoon(self, group), AddPartitionsSoon(self, partitions)
            requests = [self.client.send(node, h.create_request(), group=h.group) for h in handlers]
            answers = await asyncio.gather(*requests, return_exceptions=True)
            for handler, answer in zip(handlers, answers, strict=True):
                if not isinstance(answer, BaseException):
                    backoff = handler.handle_response(answer)
                elif isinstance(answer, errors.KafkaError) and answer.retriable:
                    backoff = handler.handle_error()
                else:
                    raise answer
                if backoff is not None:  # partitions that were added are simply added again
                    await asyncio.sleep(backoff)
                    return
                if not self._txn_manager.partitions_to_add():
                    return  # it has failed

    async def _do_add_partitions_to_txn(self, tps: Any) -> Any:
        with self._tracked():
            node = await self._find_coordinator(
                CoordinationType.TRANSACTION, self._txn_manager.transactional_id
            )
            return await AddPartitionsSoon(self, tps).do(node)

    async def _do_add_offsets_to_txn(self, group_id: Any) -> Any:
        with self._tracked():
            node = await self._find_coordinator(
                CoordinationType.TRANSACTION, self._txn_manager.transactional_id
            )
            return await AddOffsetsSoon(self, group_id).do(node)

    async def _do_txn_offset_commit(self, offsets: Any, group_id: Any) -> None:
        with self._tracked():
            await super()._do_txn_offset_commit(offsets, group_id)

    async def _do_txn_commit(self, commit_result: Any) -> None:
        with self._tracked():
            await self._message_accumulator.flush_for_commit()
            if self._txn_manager.is_empty_transaction():
                self._txn_manager.complete_transaction()
                return
            node = await self._find_coordinator(
                CoordinationType.TRANSACTION, self._txn_manager.transactional_id
            )
            await EndTransactionOnce(self, commit_result).do(node)

    @contextlib.contextmanager
    def _tracked(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self.live.add(task)
        try:
            yield
        except (errors.KafkaError, AssertionError) as error:
            raise SenderFailed(error) from error
        finally:
            self.live.discard(task)


class AddPartitionsSoon(AddPartitionsToTxnHandler):
    """Begins a transaction as soon as the markers of the one before are written.

    The acknowledgement of its end comes before they are, so that under load every second commit meets them,
    and the library would wait for 20 ms here and for 100 ms in `AddOffsetsSoon`. They take one or two.
    """

    def handle_response(self, resp: Any) -> Any:
        """How long to wait before the next try; None if it is done."""
        backoff = super().handle_response(resp)
        return backoff and (_MARKERS_PENDING if backoff == BACKOFF_OVERRIDE else backoff)


class AddOffsetsSoon(AddOffsetsToTxnHandler):
    """The same where a transaction begins with positions."""

    def handle_response(self, resp: Any) -> Any:
        """How long to wait before the next try; None if it is done."""
        backoff = super().handle_response(resp)
        return (
            _MARKERS_PENDING if errors.for_code(resp.error_code) is errors.ConcurrentTransactions else backoff
        )


class EndTransactionOnce(EndTxnHandler):
    """EndTxn, repeated only after answers which prove that it was not carried out.

    The library repeats it after a lost connection or a time-out with the same epoch. The first request may
    then arrive late, in the middle of the *next* transaction, and commit half of it.
    """

    _NOT_CARRIED_OUT = (errors.ConcurrentTransactions, errors.CoordinatorLoadInProgressError)
    _REFUSED = (
        errors.InvalidProducerEpoch,
        errors.InvalidProducerIdMapping,
        errors.TransactionalIdAuthorizationFailed,
    )

    async def do(self, node_id: Any) -> bool:
        """Send it; the sender calls again as long as the transaction's state says that it is not over."""
        try:
            response = await self._sender.client.send(node_id, self.create_request(), group=self.group)
        except errors.KafkaError as error:
            raise OutcomeUnknown(f"no answer to the end of the transaction: {error}") from error
        answer = errors.for_code(response.error_code)
        if answer is errors.NoError:
            self._sender._txn_manager.complete_transaction()
            return True
        if answer in self._NOT_CARRIED_OUT:
            await asyncio.sleep(self._default_backoff)
            return False
        if answer in self._REFUSED or answer.errno == 90:
            raise answer()
        # NOT_COORDINATOR and COORDINATOR_NOT_AVAILABLE among them: the coordinator may have written the
        # decision to its log before it lost its office.
        raise OutcomeUnknown(
            f"the end of the transaction was answered by {answer.message} ({response.error_code})"
        )


def position_of(consumer: Any, partition: TopicPartition) -> int | None:
    """Where the consumer continues; None if it is not assigned."""
    subscription = consumer._subscription.subscription
    assignment = None if subscription is None else subscription.assignment
    state = None if assignment is None else assignment.state_value(partition)
    return None if state is None or not state.has_valid_position else int(state.position)


def fetcher_failure(consumer: Any) -> BaseException | None:
    """Why nothing will ever be fetched again: the library's `getmany` just goes on to return nothing."""
    task = consumer._fetcher._fetch_task
    if not task.done():
        return None
    # Cancelled, it ends as if all were well.
    cancelled = task.cancelled() or task.exception() is None
    return asyncio.CancelledError("its task has ended") if cancelled else task.exception()


def transaction_error(producer: Any) -> BaseException | None:
    """Why the producer's transaction failed."""
    waiter = producer._txn_manager._transaction_waiter
    return None if not waiter.done() or waiter.cancelled() else waiter.exception()


def leader_of(client: Any, partition: TopicPartition) -> int | None:
    """Node that leads the partition, as far as the client knows."""
    node = client.cluster.leader_for_partition(partition)
    return None if node is None or node == -1 else int(node)


_METHODS: dict[Any, tuple[str, ...]] = {
    AIOKafkaClient: (
        "bootstrap",
        "close",
        "send",
        "coordinator_lookup",
        "_metadata_update",
        "_md_synchronizer",
        "_get_conn",
        "_on_connection_closed",
    ),
    AIOKafkaConnection: (
        "connect",
        "close",
        "send",
        "connected",
        "authenticator_oauth",
        "_do_sasl_handshake",
    ),
    Sender: (
        "_send_produce_req",
        "_maybe_do_transactional_request",
        "_do_add_partitions_to_txn",
        "_do_add_offsets_to_txn",
        "_do_txn_offset_commit",
        "_do_txn_commit",
        "_find_coordinator",
        "sender_task",
    ),
    EndTxnHandler: ("do", "create_request"),
    AddPartitionsToTxnHandler: ("do", "handle_response"),
    AddOffsetsToTxnHandler: ("do", "handle_response"),
    TransactionManager: ("is_empty_transaction", "complete_transaction", "is_in_transaction", "fatal_error"),
    MessageAccumulator: ("flush_for_commit", "fail_all"),
    AIOKafkaProducer: ("create_batch", "send_batch", "begin_transaction", "send_offsets_to_transaction"),
    AIOKafkaConsumer: ("getmany", "assign", "seek", "unsubscribe"),
}
# Attributes that constructors set, found in the constructor's code.
_ATTRIBUTES: dict[Any, tuple[str, ...]] = {
    AIOKafkaClient: ("_conns", "_sync_task", "_request_timeout_ms", "_connections_max_idle_ms", "cluster"),
    AIOKafkaConnection: ("_versions", "_writer"),
    ClusterMetadata: (
        "_brokers",
        "_partitions",
        "_broker_partitions",
        "_listeners",
        "controller",
        "internal_topics",
        "unauthorized_topics",
    ),
    Sender: ("_sender_task", "_txn_manager", "_message_accumulator"),
    TransactionManager: ("_transaction_waiter",),
    MessageAccumulator: ("_batches", "_pending_batches"),
    MessageBatch: ("_drain_waiter",),
    AIOKafkaProducer: ("_sender", "_txn_manager", "_message_accumulator", "_closed", "client"),
    AIOKafkaConsumer: ("_client", "_fetcher", "_coordinator", "_subscription", "_closed"),
    Fetcher: ("_fetch_task", "_pending_tasks", "_fetch_waiters", "_closed"),
    NoGroupCoordinator: ("_reset_committed_task",),
}


def check_private_api() -> None:
    """Raise unless aiokafka is a version whose private parts are known and all there."""
    missing = [
        f"{kind.__name__}.{name}"
        for kind, names in _METHODS.items()
        for name in names
        if not hasattr(kind, name)
    ]
    for kind, names in _ATTRIBUTES.items():
        missing += [
            f"{kind.__name__}.{name}" for name in names if name not in kind.__init__.__code__.co_names
        ]
    if missing or not aiokafka.__version__.startswith("0.14."):
        lacks = f" (it lacks {', '.join(missing)})" if missing else ""
        raise ReflowError(
            f"aiokafka {aiokafka.__version__} is installed{lacks}, and this version of reflow-kafka needs "
            '0.14: install "aiokafka>=0.14,<0.15"'
        )


check_private_api()

"""A sender which ends a transaction with one request only, begins the next without a pause, and fails without
a traceback in the log.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from aiokafka import errors
from aiokafka.client import CoordinationType
from aiokafka.producer.sender import (
    BACKOFF_OVERRIDE,
    AddOffsetsToTxnHandler,
    AddPartitionsToTxnHandler,
    EndTxnHandler,
    Sender,
)

from reflow_kafka.log.kafka.errors import OutcomeUnknown, SenderFailed

_MARKERS_PENDING = 0.001


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

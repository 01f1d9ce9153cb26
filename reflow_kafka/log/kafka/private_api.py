"""Parts of aiokafka that are used here and are not its public surface: which, and whether they are there."""

from __future__ import annotations

from typing import Any

import aiokafka
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection, SaslGSSAPIAuthenticator
from aiokafka.consumer.consumer import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import NoGroupCoordinator
from aiokafka.producer.message_accumulator import MessageAccumulator, MessageBatch
from aiokafka.producer.producer import AIOKafkaProducer
from aiokafka.producer.sender import (
    AddOffsetsToTxnHandler,
    AddPartitionsToTxnHandler,
    EndTxnHandler,
    Sender,
)
from aiokafka.producer.transaction_manager import TransactionManager

from reflow_kafka.errors import ReflowError

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
        "_next_correlation_id",
        "authenticator_gssapi",
        "authenticator_oauth",
        "_do_sasl_handshake",
    ),
    SaslGSSAPIAuthenticator: ("_step",),
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
    AIOKafkaConnection: (
        "_versions",
        "_writer",
        "_requests",
        "_request_timeout",
        "_client_id",
        "_host",
        "_port",
        "_loop",
    ),
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
    TransactionManager: ("_transaction_waiter", "_pending_txn_offsets"),
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

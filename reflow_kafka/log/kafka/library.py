"""The place that touches parts of aiokafka which are not its public surface, and why.

* `new_producer`, `new_consumer`: producers and consumers with parts of ours.
* `position_of`, `fetcher_failure`, `leader_of`: state of a consumer that no synchronous public call tells.

`sender` (transactions), `client` (finding the cluster), `connection` (logging in), `metadata` (knowing
topics), `discard` (closing) and `requests` belong to it. A version of aiokafka in which one of these parts is
missing is refused when this module is imported.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.consumer.consumer import AIOKafkaConsumer
from aiokafka.producer.producer import AIOKafkaProducer

from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.kafka.client import Client
from reflow_kafka.log.kafka.private_api import check_private_api
from reflow_kafka.log.kafka.sender import LaneSender

logger = logging.getLogger("reflow_kafka.log.kafka")

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


check_private_api()

"""What the source and the sink share: options, and the topic's partitions."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from itertools import chain
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, ProducerClosed

from reflow_kafka.errors import UsageError
from reflow_kafka.log.kafka import secure
from reflow_kafka.log.kafka.client import Client, Unreachable
from reflow_kafka.log.kafka.diagnosis import causes, diagnose, silence
from reflow_kafka.secrets import resolve
from reflow_kafka.security import Security

CONNECT_TIMEOUT: Final = 30.0
CLOSE_TIMEOUT: Final = 10.0

# What a client needs to connect; the rest of the options belongs to reading or writing alone.
_CONNECTION = (
    "client_id",
    "request_timeout_ms",
    "security_protocol",
    "ssl_context",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "sasl_kerberos_service_name",
    "sasl_oauth_token_provider",
)


def check_options(client: Mapping[str, Any]) -> None:
    """Refuse aiokafka's own options of security: `Security` has them all, checked, and hides their secrets.

    Raises:
        UsageError: there is one.
    """
    if found := [name for name in client if name.startswith(("sasl_", "ssl_", "security_"))]:
        raise UsageError(
            f"found {', '.join(found)}, wanted security=Security(protocol=…, mechanism=…, username=…, …)"
        )


def client_options(
    bootstrap: str | Sequence[str], security: Security | None, client: Mapping[str, Any]
) -> dict[str, Any]:
    """Options for an aiokafka client, resolved.

    Raises:
        UsageError: a secret or a file of certificates that cannot be had.
    """
    servers = resolve(bootstrap if isinstance(bootstrap, str) else ",".join(bootstrap))
    return {"bootstrap_servers": servers, **resolve(dict(client)), **secure.client_options(security)}


async def start(client: Any, options: Mapping[str, Any], security: Security | None) -> None:
    """Start a client, or leave nothing behind.

    Raises:
        ConnectionError: no broker answers, or who does cannot be trusted or does not let this client in.
    """
    servers = options["bootstrap_servers"]
    # Its own one keeps to itself why an address leads nowhere.
    getattr(client, "client" if hasattr(client, "client") else "_client").__class__ = Client
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await client.start()
    except BaseException as error:
        await ended(client.close() if hasattr(client, "close") else client.stop())
        if isinstance(error, TimeoutError):
            raise ConnectionError(f"no Kafka broker answers at {servers}: {silence(security)}") from error
        if found := [each for each in causes(error) if isinstance(each, Unreachable)]:
            reasons = [diagnose(failure, where, security) for where, failure in found[0].failures]
            if final := next((reason.text for reason in reasons if reason.final), None):
                raise ConnectionError(f"cannot connect to Kafka: {final}") from error
            why = "; ".join(reason.text for reason in reasons)
            raise ConnectionError(f"no Kafka broker answers at {servers} ({why})") from error
        if isinstance(error, KafkaConnectionError):
            raise ConnectionError(f"no Kafka broker answers at {servers}: {error}") from error
        raise


async def ended(closing: Coroutine[Any, Any, None]) -> bool:
    """Run what closes a client, within a time limit; whether it ended well.

    In a task of its own: stopping a consumer awaits tasks that it has just cancelled, which otherwise would
    cancel the caller, too.
    """
    task = asyncio.ensure_future(closing)
    await asyncio.wait([task], timeout=CLOSE_TIMEOUT)
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1)
    return task.done() and not task.cancelled() and task.exception() is None


async def partitions_of(topic: str, options: Mapping[str, Any], security: Security | None) -> list[int]:
    """The topic's partitions.

    Raises:
        UsageError: there is no such topic.
    """
    connection = {name: value for name, value in options.items() if name in _CONNECTION}
    admin = AIOKafkaAdminClient(bootstrap_servers=options["bootstrap_servers"], **connection)
    await start(admin, options, security)
    try:
        # A topic made a moment ago may not be known to the broker that is asked.
        for wait in (0.1, 0.3, 0.6, 1.0, 0.0):
            # Asked for all topics: a question for one would make some brokers create it.
            for found in await admin.describe_topics():
                if found["topic"] == topic and found["partitions"]:
                    return sorted(partition["partition"] for partition in found["partitions"])
            await asyncio.sleep(wait)
    finally:
        await ended(admin.close())
    raise UsageError(
        f"there is no topic {topic!r} at {options['bootstrap_servers']}: create it, or correct its name"
    )


async def abandon(producer: Any) -> None:
    """End a producer without sending what it still holds."""
    producer._closed = True
    if (sending := producer._sender.sender_task) is not None:
        for _ in range(
            3
        ):  # cancelled once, it waits for requests in flight, which may take as long as they like
            sending.cancel()
            await asyncio.wait([sending], timeout=0.5)
            if sending.done():
                break
    held = producer._message_accumulator
    for batch in [*chain.from_iterable(held._batches.values()), *held._pending_batches]:
        batch.future.add_done_callback(forget)
        batch._drain_waiter.add_done_callback(forget)
    held.fail_all(ProducerClosed())
    await ended(producer.client.close())


def forget(future: asyncio.Future[Any]) -> None:
    """Take note of an error that interests nobody any more, so that the loop does not report it."""
    if not future.cancelled():
        future.exception()

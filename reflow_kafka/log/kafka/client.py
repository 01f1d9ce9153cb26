"""aiokafka's client, its ways to learn about the cluster and to connect to its brokers written anew.

Finding the cluster can be cancelled without leaking a connection, and tells what every address answered.
Why there is no connection to a broker is kept, and connections are those of `connection`.
Asking for the metadata of a topic never creates it: a broker that creates topics on its own would make it
with one partition and with settings that lose events.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.protocol.metadata import MetadataRequest

from reflow_kafka.log.kafka.connection import Connection
from reflow_kafka.log.kafka.metadata import TopicsRequest, adopt

logger = logging.getLogger("reflow_kafka.log.kafka")

_METADATA_INTERVAL = 0.05


class Unreachable(errors.KafkaConnectionError):
    """No address led to the cluster: `failures` says of each, as ``host:port``, why."""

    def __init__(self, failures: Sequence[tuple[str, BaseException]]) -> None:
        super().__init__("; ".join(f"{where}: {failure}" for where, failure in failures))
        self.failures = tuple(failures)


def new_client(options: Mapping[str, Any]) -> Any:
    """A client for single requests: `bootstrap()` connects it, `discard.close_client` ends it."""
    return Client(**options)


class Client(AIOKafkaClient):
    """See the module."""

    _next_update = 0.0
    refusal: Unreachable | None = None
    """Why the last connection that failed did, to a broker that is in the metadata."""

    async def bootstrap(self) -> None:
        """Learn the cluster's brokers from the first address that answers."""
        failures: list[tuple[str, BaseException]] = []
        for host, port, _ in self.hosts:
            try:
                metadata = await self._first_metadata(host, port)
            except (OSError, errors.KafkaError, TimeoutError) as error:
                failures.append((f"{host}:{port}", error))
                continue
            if not metadata.brokers:  # it has only just started
                failures.append((f"{host}:{port}", errors.MetadataEmptyBrokerList()))
                continue
            self.cluster.update_metadata(metadata)
            if self._sync_task is None:
                self._sync_task = asyncio.get_running_loop().create_task(self._md_synchronizer())
            return
        unreachable = Unreachable(failures)
        for _, failure in failures:
            if isinstance(failure, errors.KafkaError) and not failure.retriable:
                raise failure from unreachable  # a refused log-in tells more than a host that is down
        raise unreachable

    async def _first_metadata(self, host: str, port: int) -> Any:
        connection = await self._connect(host, port)
        try:
            return await connection.send(MetadataRequest([], allow_auto_topic_creation=False))
        finally:
            closed = connection.close()
            await asyncio.wait([closed], timeout=1)
            connection.abort()

    async def _connect(self, host: str, port: int, **more: Any) -> Any:
        connection = Connection(
            host,
            port,
            client_id=self._client_id,
            request_timeout_ms=self._request_timeout_ms,
            ssl_context=self._ssl_context,
            security_protocol=self._security_protocol,
            max_idle_ms=self._connections_max_idle_ms,
            sasl_mechanism=self._sasl_mechanism,
            sasl_plain_username=self._sasl_plain_username,
            sasl_plain_password=self._sasl_plain_password,
            sasl_kerberos_service_name=self._sasl_kerberos_service_name,
            sasl_kerberos_domain_name=self._sasl_kerberos_domain_name,
            sasl_oauth_token_provider=self._sasl_oauth_token_provider,
            **more,
        )
        await connection.connect()
        return connection

    async def _get_conn(
        self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: Any = False
    ) -> Any:
        key = node_id, group
        if (known := self._conns.get(key)) is not None:
            if known.connected():
                return known
            del self._conns[key]
        broker = self.cluster.broker_metadata(node_id)
        if broker is None:
            self.force_metadata_update()
            return None
        async with self._get_conn_lock:
            if key not in self._conns:
                try:
                    self._conns[key] = await self._connect(
                        broker.host, broker.port, on_close=self._on_connection_closed
                    )
                except (OSError, errors.KafkaError, TimeoutError) as error:
                    logger.debug("no connection to node %s: %s", node_id, error)
                    self.refusal = Unreachable([(f"{broker.host}:{broker.port}", error)])
                    self.force_metadata_update()
                    return None
            return self._conns[key]

    async def _metadata_update(self, cluster_metadata: Any, topics: Iterable[str] | None) -> bool:
        # A consumer asks anew as soon as it has an answer, as long as a partition is without a leader.
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, self._next_update - now))
        self._next_update = max(self._next_update, now) + _METADATA_INTERVAL
        request = TopicsRequest(topics)
        brokers = list(self.cluster.brokers())
        for broker in random.sample(brokers, len(brokers)):
            connection = await self._get_conn(broker.nodeId)
            if connection is None:
                continue
            try:
                answer = await connection.send(request)
            except (errors.KafkaError, TimeoutError):
                continue
            return adopt(cluster_metadata, answer)
        return False


def note_brokers(client: Any, metadata: Any) -> None:
    """Tell a client the addresses of the brokers; topics that do not exist are no error worth logging."""
    metadata.topics = [topic for topic in metadata.topics if topic[0] == errors.NoError.errno]
    client.cluster.update_metadata(metadata)


async def request_version(client: Any, api_key: int) -> int:
    """The highest version of a request that a broker takes."""
    connection = await client._get_conn(client.get_random_node())
    if connection is None:
        raise client.refusal or errors.NodeNotReadyError("a broker is in the metadata but does not answer")
    return int(connection._versions[api_key][1])

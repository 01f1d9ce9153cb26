"""What brokers tell of topics is unpacked once, whoever asks."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.protocol.metadata import MetadataResponse_v5

from reflow_kafka.log.api import OutRecord
from reflow_kafka.log.kafka import metadata
from reflow_kafka.log.kafka.log import KafkaLog
from reflow_kafka.log.kafka.reader import KafkaReader
from tests.log.kafka.helpers import NOW, edge

BROKER = (1, "host", 9092, None)


def answer(brokers: list[object], topics: list[object]) -> bytes:
    encoded: bytes = MetadataResponse_v5(0, brokers, "cluster", 1, topics).encode()
    return encoded


def test_an_answer_is_adopted_and_listeners_are_told() -> None:
    cluster = ClusterMetadata()  # type: ignore[no-untyped-call]
    heard: list[object] = []
    cluster.add_listener(heard.append)  # type: ignore[no-untyped-call]
    partitions = [(0, 0, 1, [1], [1], []), (5, 1, -1, [1], [], [1])]
    refused = (29, "secret", False, [])
    told = answer([BROKER], [(0, "topic", False, partitions), refused])

    assert metadata.adopt(cluster, told)

    assert cluster.partitions_for_topic("topic") == {0, 1}
    assert cluster.available_partitions_for_topic("topic") == {0}  # type: ignore[no-untyped-call]
    assert [broker.host for broker in cluster.brokers()] == ["host"]  # type: ignore[no-untyped-call]
    assert cluster.controller is not None
    assert cluster.unauthorized_topics == {"secret"}
    assert heard == [cluster]


def test_an_answer_without_brokers_changes_nothing() -> None:
    cluster = ClusterMetadata()  # type: ignore[no-untyped-call]
    assert metadata.adopt(cluster, answer([BROKER], []))
    assert not metadata.adopt(cluster, answer([], []))
    assert [broker.host for broker in cluster.brokers()] == ["host"]  # type: ignore[no-untyped-call]


@pytest.mark.kafka
async def test_many_clients_unpack_it_once(log: KafkaLog, unique: str) -> None:
    partitions = await edge(log, unique, partitions=20)
    for tp in partitions:
        await log.publish(*tp, [OutRecord(None, b"value", NOW)])
    before = metadata._unpacked.cache_info().misses
    readers = []
    for tp in partitions:
        reader = log.reader()
        assert isinstance(reader, KafkaReader)
        reader.assign({tp: 0})
        async with asyncio.timeout(20):
            while not await reader.fetch():
                pass
        readers.append(reader)
    assert metadata._unpacked.cache_info().misses - before <= 2  # brokers alone, and with the topic
    first, *others = (reader._consumer._client.cluster._partitions[unique] for reader in readers)
    assert all(each is first for each in others)

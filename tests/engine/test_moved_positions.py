"""An operator moves a group's positions with a plain client: they win, whatever was finished above them."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from reflow_kafka import Event, Flow
from reflow_kafka.engine.engine import Engine
from reflow_kafka.lane.inflight import PREFIX, decode
from tests.engine.service import Service
from tests.support.kafka import DEADLINE, Input, Topic, create_topics, produce

pytestmark = pytest.mark.kafka
EVENTS = 30


def asking(name: str, service: Service) -> Flow:
    flow = Flow(name, partitions=1)

    @flow.stage(after=flow.source("read", topic=f"{name}-in"), concurrency=EVENTS)
    async def ask(event: Event[dict[str, int]]) -> dict[str, int]:
        await service.ask(event.value["n"], event.key)
        return event.value

    flow.sink("out", after=ask, topic=f"{name}-out")
    return flow


class Group:
    """The positions of a flow, as Kafka's own tools see and set them."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self._bootstrap = bootstrap
        self._name = name

    async def committed(self) -> OffsetAndMetadata:
        """Where the only lane stands in the input.

        Not by confluent-kafka, which reads beyond the end of what is stored with a position.
        """
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            (found,) = (await admin.list_consumer_group_offsets(self._name)).values()
        finally:
            await admin.close()
        return found

    def move(self, offset: int) -> None:
        """What ``kafka-consumer-groups --reset-offsets --to-offset`` does."""
        partition = TopicPartition(f"{self._name}-in", 0, offset)
        request = [ConsumerGroupTopicPartitions(self._name, [partition])]
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        admin.alter_consumer_group_offsets(request)[self._name].result(DEADLINE)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("to", "warning"), [(4, "somebody moved it"), (0, "somebody else committed it")])
async def test_moved_positions_win(
    to: int,
    warning: str,
    kafka_bootstrap: str,
    unique: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    create_topics(kafka_bootstrap, [f"{unique}-in", f"{unique}-out"], partitions=1)
    produce(kafka_bootstrap, f"{unique}-in", [Input(f"k{n}", {"n": n}) for n in range(EVENTS)])
    output, group = Topic(kafka_bootstrap, f"{unique}-out"), Group(kafka_bootstrap, unique)
    service = Service({0, 9})
    flow = asking(unique, service)
    async with Engine(flow, bootstrap=kafka_bootstrap, data_dir=tmp_path) as engine:
        await asyncio.to_thread(output.wait, EVENTS - 2, DEADLINE)
        engine.abort()
    found = await group.committed()
    assert found.metadata.startswith(PREFIX), "Kafka's tools show what it is"
    mark = decode(found.offset, found.metadata)
    assert mark.position == 0
    assert mark.runs[0] == (1, 9)
    await asyncio.to_thread(group.move, to)
    service.free()
    before = service.calls.copy()
    with caplog.at_level(logging.WARNING):
        async with Engine(asking(unique, service), bootstrap=kafka_bootstrap, data_dir=tmp_path) as engine:
            async with asyncio.timeout(DEADLINE):
                await engine.wait(until_end=True)
    assert set((service.calls - before).elements()) == set(range(to, EVENTS))
    assert warning in caplog.text
    assert (await group.committed()).offset == EVENTS
    output.close()

"""Fixtures for the whole suite, above all a real Kafka."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import settings

from reflow_kafka.devbroker import KAFKA_VERSION, DevBroker, answers, free_port
from reflow_kafka.errors import ReflowError

NO_KAFKA = pytest.StashKey[str]()

settings.register_profile("patient", deadline=None)  # a busy machine is no fault of an example's
settings.load_profile("patient")

# Brokers of tests live for minutes at most: what Java's second compiler does for them it does in vain.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Beside each other, tests that take long come first: else one of them runs alone in the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Skipped Kafka tests are not a detail: say it where nobody overlooks it."""
    if message := config.stash.get(NO_KAFKA, None):
        terminalreporter.section("KAFKA TESTS WERE SKIPPED", sep="!", red=True, bold=True)
        terminalreporter.line(message)


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a real broker: `REFLOW_TEST_BOOTSTRAP`, or one in Docker, or one run by Java."""
    with ExitStack() as stack:
        try:
            bootstrap = stack.enter_context(_broker())
        except ReflowError as error:
            message = f"no Kafka for the tests that need one: {error}"
            if os.environ.get("CI") == "true":
                pytest.fail(message, pytrace=False)
            request.config.stash[NO_KAFKA] = message
            pytest.skip(message)
        asyncio.run(_warm_up(bootstrap))
        yield bootstrap


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A prefix of this test alone for names in Kafka; it is also a valid name for a flow."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    return f"{test or 't'}-{uuid.uuid4().hex[:8]}"


@contextmanager
def _broker() -> Iterator[str]:
    if given := os.environ.get("REFLOW_TEST_BOOTSTRAP"):
        yield given
    elif bootstrap := _start_in_docker(stack := ExitStack()):
        with stack:
            yield bootstrap
    else:
        with DevBroker() as broker:
            yield broker.bootstrap


def _docker_answers() -> bool:
    try:
        asked = subprocess.run(["docker", "version"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def _start_in_docker(stack: ExitStack) -> str | None:
    """The address of a broker that `stack` ends, or None if Docker cannot run one here."""
    if not _docker_answers():
        return None
    from testcontainers.core.container import DockerContainer

    # The broker tells clients its own address, so the port outside has to be known before it starts.
    port = free_port()
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "8",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "8",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    }
    container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}").with_bind_ports(port, port)
    for name, value in settings.items():
        container = container.with_env(name, value)
    stack.callback(container.stop)
    try:
        container.start()
        deadline = time.monotonic() + 60
        while not answers("127.0.0.1", port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer from the broker in Docker on port {port} within 60 s")
            time.sleep(0.1)
    except Exception as error:  # no image, no registry, no room: Java is tried next
        print(f"Docker cannot run Kafka here: {error}")
        stack.close()
        return None
    return f"127.0.0.1:{port}"


async def _warm_up(bootstrap: str) -> None:
    """Make the broker create its coordinators' topics and compile its hot paths before anything is timed."""
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    name = f"warm-up-{uuid.uuid4().hex[:8]}"
    async with asyncio.timeout(60):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
            async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=name) as producer:
                for n in range(20):
                    async with producer.transaction():
                        await producer.send_and_wait(name, b"%d" % n)
                        await producer.send_offsets_to_transaction({TopicPartition(name, 0): n + 1}, name)
            async with AIOKafkaConsumer(
                name, bootstrap_servers=bootstrap, group_id=name, auto_offset_reset="earliest"
            ) as consumer:
                await consumer.committed(TopicPartition(name, 0))
            await admin.delete_topics([name])
        finally:
            await admin.close()

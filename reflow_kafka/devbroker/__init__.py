"""A real Apache Kafka on this machine, for development and tests.

The broker's jars come from Maven Central once and stay in the user's cache directory; Java runs them.
Nothing else is needed, no Docker in particular. Linux and macOS.

    with DevBroker() as broker:
        run(flow, bootstrap=broker.bootstrap)
"""

from __future__ import annotations

from reflow_kafka.devbroker.broker import DevBroker
from reflow_kafka.devbroker.install import KAFKA_VERSION, find_java, kafka_libs
from reflow_kafka.devbroker.ports import answers, free_port

__all__ = ["KAFKA_VERSION", "DevBroker", "answers", "find_java", "free_port", "kafka_libs"]

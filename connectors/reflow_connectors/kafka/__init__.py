"""Kafka topics outside the flow's own Kafka: another cluster, or beside the embedded log."""

from reflow_connectors.kafka.sink import KafkaSink
from reflow_connectors.kafka.source import KafkaSource

__all__ = ["KafkaSink", "KafkaSource"]

"""reflow-kafka: durable, stateful stream processing on Kafka."""

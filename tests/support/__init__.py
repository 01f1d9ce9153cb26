"""What tests that run whole flows share: worker processes, topics of a real Kafka, oracles."""

"""Measurements on a real Kafka: this library, loops written by hand, and other stream processors."""

"""Sending events into running flows, and asking them, from other programs."""

from reflow_kafka.client.client import Client

__all__ = ["Client"]

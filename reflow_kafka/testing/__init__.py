"""Tests of flows without a broker and without waiting: the engine itself, on clocks that the test moves."""

from __future__ import annotations

from reflow_kafka.testing.flow_test import AsyncFlowTest, FlowTest
from reflow_kafka.testing.handler import context
from reflow_kafka.testing.letters import DeadLetter

__all__ = ["AsyncFlowTest", "DeadLetter", "FlowTest", "context"]

"""Aggregations without a handler: `aggregate`."""

from __future__ import annotations

from reflow_kafka.surface.adding import Surface


class Aggregates(Surface):
    """What a flow offers to aggregate events."""

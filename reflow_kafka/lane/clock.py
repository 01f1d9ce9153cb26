"""The time of a stage's events in one lane: what is known of it, and what is told to others."""

from __future__ import annotations

from collections.abc import Mapping

from reflow_kafka.log.api import TopicPartition
from reflow_kafka.timed.watermark import LaneTime
from reflow_kafka.units import LONG_AGO, NEVER


class WorkClock:
    """Of a stage that reads topics of others directly: its own events tell the time."""

    def __init__(self, out_of_orderness: int = 0, watermark: int = LONG_AGO) -> None:
        self.watermark = watermark
        """No event is expected any more that is older (epoch ms)."""
        self._behind = out_of_orderness
        self._shared = watermark

    def saw(self, partition: TopicPartition, timestamp: int) -> None:
        """An event is finished."""
        if timestamp - self._behind > self.watermark:
            self.watermark = timestamp - self._behind

    def update(self, positions: Mapping[TopicPartition, int]) -> None:
        """Everything below these positions is finished."""

    def wake(self, now: int) -> int | None:
        """When by the wall clock (epoch ms) the watermark may move by itself."""
        return None

    def told(self, holds: int) -> LaneTime:
        """What to tell; the stage emits nothing older than `holds`."""
        return LaneTime(watermark=min(self.watermark, holds), clock=self.watermark)

    def share(self) -> None:
        """A commit takes what has been finished so far."""
        self._shared = self.watermark

    def rewind(self) -> None:
        """Return to the last share."""
        self.watermark = self._shared

    def end(self) -> None:
        """The run has come to its end: nothing is expected any more."""
        self.watermark = NEVER

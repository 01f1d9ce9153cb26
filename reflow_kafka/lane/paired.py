"""A timed worker whose events belong together one by one: an event that is given up keeps its place."""

from __future__ import annotations

from reflow_kafka.lane.timed import TimedWorker
from reflow_kafka.log.api import Record, TopicPartition
from reflow_kafka.timed.program import Incoming, Paired


class PairedWorker(TimedWorker):
    """Tells its program of events that are given up, in the step that writes their dead letters."""

    def _failed(self, record: Record, error: Exception, in_handler: bool) -> bool:
        again = super()._failed(record, error, in_handler)
        if not again:
            self._keep_place(self._current, record)
        return again

    def _culprit(self, partition: TopicPartition, record: Record) -> bool:
        found = super()._culprit(partition, record)
        if found:
            self._keep_place(partition, record)
        return found

    def _keep_place(self, partition: TopicPartition, record: Record) -> None:
        if record.key is None:
            return
        assert isinstance(self._program, Paired)
        entry = self._inputs[partition]
        gone = Incoming(record.key, None, record.timestamp, entry.upstream, "", side=entry.side)
        with self._stored:
            acts = list(self._program.gone(gone))
        prepared = self._steps.carry_out(iter(acts), gone, self.clock.watermark)
        self._shelves.accept()
        self._emitter.deliver(prepared)
        self._stirred = True

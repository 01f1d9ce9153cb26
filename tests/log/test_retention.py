from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflow_kafka.log.api import OutRecord, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.local import log as module
from reflow_kafka.log.local.retention import Retention
from reflow_kafka.log.memory import MemoryLog

TP = TopicPartition("f.replies", 0)


@given(st.lists(st.tuples(st.floats(0, 300), st.integers(0, 50)), max_size=60))
def test_nothing_young_goes_and_nothing_stays_for_long(steps: list[tuple[float, int]]) -> None:
    retention = Retention(100)
    now, end, start = 0.0, 0, 0
    seen: list[tuple[float, int]] = []  # when the end was known to be how far
    for wait, written in steps:
        now, end = now + wait, end + written
        seen.append((now, end))
        start = max(start, retention.expired({TP: end}, now).get(TP, 0))
        assert start <= max((e for at, e in seen if at <= now - 100), default=0), "only what is old"
    for later in range(0, 121, 5):
        start = max(start, retention.expired({TP: end}, now + later).get(TP, 0))
    assert start == end, "looked at now and then, all of it is gone in the end"


async def test_replies_go_when_they_are_old_and_edges_when_they_are_consumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "_now", lambda: now)
    log, edge = MemoryLog(), TopicPartition("f.a.b", 0)
    await log.start()
    await log.ensure_topics(
        [TopicSpec(TP.topic, 1, TopicKind.REPLIES), TopicSpec(edge.topic, 1, TopicKind.EDGE)]
    )
    for tp in (TP, edge):
        await log.publish(*tp, [OutRecord(None, b"1", 1), OutRecord(None, b"2", 1)])
    await log.trim({edge: 1})
    now = 3599.0
    await log.trim({})
    await log.publish(*TP, [OutRecord(None, b"3", 1)])
    assert await log.start_offsets([TP, edge]) == {TP: 0, edge: 1}
    now = 3600.0
    await log.trim({})
    assert await log.start_offsets([TP, edge]) == {TP: 2, edge: 1}
    await log.stop()

"""Following the membership."""

from __future__ import annotations

import asyncio

from reflow_kafka import Flow
from reflow_kafka.engine.engine import Engine
from reflow_kafka.log.api import MemberOptions, TopicKind, TopicSpec
from reflow_kafka.log.local import LocalMembership
from reflow_kafka.log.local.membership import LocalGroup
from reflow_kafka.log.memory import MemoryLog
from reflow_kafka.state.memory import MemoryBackend


class PerTask(LocalMembership):
    """Tells each task what is news to it, as the membership on Kafka does: all, to one that asks first."""

    def __init__(self, group: LocalGroup, options: MemberOptions) -> None:
        super().__init__(group, options)
        self.told: set[asyncio.Task[object]] = set()
        self.calls = 0

    async def changed(self) -> None:
        self.calls += 1
        task = asyncio.current_task()
        assert task is not None
        if task in self.told:
            await super().changed()
        self.told.add(task)


class Log(MemoryLog):
    member: PerTask

    def membership(self, options: MemberOptions) -> PerTask:
        self.member = PerTask(LocalGroup(), options)
        return self.member


async def test_a_membership_without_news_keeps_nobody_busy() -> None:
    log = Log()
    await log.start()
    await log.ensure_topics([TopicSpec("in", 1, TopicKind.EXTERNAL)])
    flow = Flow("quiet", partitions=1)
    flow.sink("out", after=flow.source("readings", topic="in"), topic="out")
    async with Engine(flow, log=log, state=MemoryBackend()):
        await asyncio.sleep(0.2)
        assert log.member.calls < 10

"""Fixtures for tests on a real broker."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reflow_kafka.log.kafka.log import KafkaLog


@pytest.fixture
async def log(kafka_bootstrap: str) -> AsyncIterator[KafkaLog]:
    """A started log; afterwards nothing of it may be left, and nothing may have been reported to the loop."""
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))

    log = KafkaLog(kafka_bootstrap)
    await log.start()
    yield log
    await log.stop()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert reported == []
    assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()

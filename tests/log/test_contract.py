"""The contract, run on every log; and what the logs of one process promise beyond it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reflow_kafka.log.api import Log
from reflow_kafka.log.embedded import EmbeddedLog
from reflow_kafka.log.memory import MemoryLog
from tests.log.contract import LogContract


@pytest.fixture(params=["memory", "embedded"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    log: Log
    log = MemoryLog() if request.param == "memory" else EmbeddedLog(tmp_path / "data")
    await log.start()
    yield log
    await log.stop()


class TestLog(LogContract):
    pass

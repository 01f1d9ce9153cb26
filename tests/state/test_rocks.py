from __future__ import annotations

from pathlib import Path

import pytest

from reflow_kafka.state.rocks import RocksBackend
from tests.state.contract import BackendContract


class TestRocks(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> RocksBackend:
        return RocksBackend(tmp_path)

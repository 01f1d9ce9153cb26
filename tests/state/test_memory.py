from __future__ import annotations

import pytest

from reflow_kafka.state.memory import MemoryBackend
from reflow_kafka.state.store import StoreMark
from tests.state.contract import BackendContract


class TestMemory(BackendContract):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()


def test_content_can_be_dropped() -> None:
    for backend in (MemoryBackend(), MemoryBackend(keep=False)):
        stores = backend.open("flow", 0, ["one"])
        stores.write({"one": [(b"a", b"1")]}, StoreMark("i", {"one": 1}, 0))
        stores.close()
        backend.drop("flow", 0)
        assert backend.open("flow", 0, ["one"]).get("one", b"a") is None


def test_without_keep_content_goes_with_its_lane() -> None:
    backend = MemoryBackend(keep=False)
    stores = backend.open("flow", 0, ["one"])
    stores.write({"one": [(b"a", b"1")]}, StoreMark("i", {"one": 1}, 0))
    stores.close()
    assert backend.open("flow", 0, ["one"]).mark() is None


def test_stores_in_use_are_not_waited_for() -> None:
    backend = MemoryBackend()
    first = backend.open("flow", 0, ["one"])
    first.write({"one": [(b"a", b"1")]}, StoreMark("i", {"one": 1}, 0))
    second = backend.open("flow", 0, ["one"])
    assert second.mark() is None
    assert first.get("one", b"a") == b"1"

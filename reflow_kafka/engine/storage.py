"""Where an engine keeps what it has: its log, and the local state of its lanes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from reflow_kafka.log.api import Log
from reflow_kafka.security import Security
from reflow_kafka.state.store import StateBackend

COMMAND_PATIENCE: Final = 3.0
"""Seconds for which a command (`produce`, `consume`) may have the embedded log open at the engine's start."""


async def open_log(
    bootstrap: str | None, security: Security | None, data_dir: Path, stack: AsyncExitStack
) -> Log:
    """Kafka at `bootstrap`, or without it the embedded log; the stack stops it."""
    log: Log
    if bootstrap is not None:
        from reflow_kafka.log.kafka.log import KafkaLog

        log = KafkaLog(bootstrap, security=security)
    else:
        from reflow_kafka.log.embedded import EmbeddedLog

        log = EmbeddedLog(data_dir, patience=COMMAND_PATIENCE)
    await log.start()
    stack.push_async_callback(log.stop)
    return log


def open_state(data_dir: Path, stack: AsyncExitStack) -> StateBackend:
    """RocksDB in `data_dir`; the stack closes it."""
    from reflow_kafka.state.rocks import RocksBackend

    backend = RocksBackend(data_dir)
    stack.callback(backend.close)
    return backend

"""The embedded log itself: the semantics of a local log over RocksDB, open to other processes by a socket."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from reflow_kafka.log.api import TopicPartition
from reflow_kafka.log.embedded.compaction import TOMBSTONE_RETENTION, Compactor
from reflow_kafka.log.embedded.lock import DirectoryLock, InUse
from reflow_kafka.log.embedded.server import LogServer
from reflow_kafka.log.embedded.storage import RocksStorage
from reflow_kafka.log.local import Contents, Faults, LocalLog
from reflow_kafka.log.local.records import MAX_BATCH_BYTES, MAX_RECORD_BYTES


class EmbeddedStorage(RocksStorage):
    """The storage in a data directory: locked while it is open, compacted now and then."""

    def __init__(self, data_dir: Path, *, tombstone_retention: float) -> None:
        super().__init__(data_dir / "log")
        self.compactor = Compactor(self, tombstone_retention=tombstone_retention)
        self._lock = DirectoryLock(data_dir)

    def open(self) -> Contents:
        """Lock the directory and open the database."""
        self._lock.acquire()
        try:
            return super().open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the database and unlock the directory."""
        super().close()
        self.compactor.forget()
        self._lock.release()

    async def maintain(self, stable: dict[TopicPartition, int]) -> None:
        """Compact what is due."""
        self.note()
        await self.compactor.run(stable)


class EmbeddedLog(LocalLog):
    """A durable log in a directory, for one process.

    A commit that returned survives ``kill -9`` of the process. It is not forced to the disk, so a loss of
    power may undo the last moments; what then is left is a state that the log once had.

    Args:
        data_dir: directory of the log; created if missing.
        max_batch_bytes: how much a builder collects.
        max_record_bytes: larger records are refused.
        tombstone_retention: seconds for which a deletion stays in compacted topics.
        serve: whether other processes can reach the log while it is open here.
        faults: lets tests make things go wrong.
    """

    name = "embedded"

    def __init__(
        self,
        data_dir: Path,
        *,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_record_bytes: int = MAX_RECORD_BYTES,
        tombstone_retention: float = TOMBSTONE_RETENTION,
        serve: bool = True,
        patience: float = 0.0,
        faults: Faults | None = None,
    ) -> None:
        super().__init__(
            EmbeddedStorage(data_dir, tombstone_retention=tombstone_retention),
            max_batch_bytes=max_batch_bytes,
            max_record_bytes=max_record_bytes,
            faults=faults,
        )
        self._server = LogServer(self, data_dir) if serve else None
        self._patience = patience

    async def start(self) -> None:
        """Open the log; while a command holds it for a moment, wait for as long as `patience` says.

        Raises:
            UsageError: another process has the directory open, or it cannot be used.
            LogError: the database cannot be opened.
        """
        give_up = time.monotonic() + self._patience
        while True:
            try:
                await super().start()
                break
            except InUse:
                if time.monotonic() >= give_up:
                    raise
                await asyncio.sleep(0.05)
        if self._server is not None:
            await self._server.start()

    async def stop(self) -> None:
        """Close the log, if this was its last user."""
        if self._server is not None and self._users == 1:
            await self._server.stop()
        await super().stop()

"""A file as a stream of bytes, plain or gzip, that notices when it is not the file it was."""

from __future__ import annotations

import gzip
import os
import threading
import zlib
from pathlib import Path

from reflow_kafka.errors import DataLoss, ReflowError, UsageError

CHUNK = 1 << 20


class ByteStream:
    """Reads a file from an offset; of a ``.gz`` file, offsets count decompressed bytes.

    Its methods block, and are called in threads: one at a time, which a lock sees to, because a thread may
    still be reading when its caller has been cancelled and closes the stream.
    """

    def __init__(self, path: Path, *, resumed: bool) -> None:
        self.offset = 0
        self._path = path
        self._lock = threading.Lock()
        self._error: Exception | None = None
        try:
            self._raw = path.open("rb", buffering=0)
        except FileNotFoundError:
            if resumed:
                raise DataLoss(f"{path} has vanished, but has not been read to its end") from None
            raise UsageError(f"there is no file {path}") from None
        self._gzip = gzip.GzipFile(fileobj=self._raw, mode="rb") if path.suffix == ".gz" else None

    def seek(self, offset: int) -> None:
        """Go on reading there.

        Raises:
            DataLoss: the file does not reach that far.
        """
        with self._lock:
            if self._gzip is not None:
                try:
                    reached = self._gzip.seek(offset)
                except (EOFError, OSError, zlib.error) as error:
                    raise self._broken(error) from error
            else:
                reached = min(offset, os.fstat(self._raw.fileno()).st_size)
                self._raw.seek(reached)
            if reached < offset:
                raise DataLoss(
                    f"{self._path} has {reached} bytes, but was read up to byte {offset}:"
                    " it shrank or was replaced"
                )
            self.offset = offset

    def read(self) -> bytes:
        """The next piece, ``b""`` at the end of the file."""
        with self._lock:
            data = self._raw.read(CHUNK) if self._gzip is None else self._unzip(self._gzip)
            self.offset += len(data)
            if not data and self._gzip is None:
                size = os.fstat(self._raw.fileno()).st_size
                if size < self.offset:
                    raise DataLoss(
                        f"{self._path} shrank to {size} bytes, but was read up to byte {self.offset}"
                    )
            return data

    def check_followed(self) -> None:
        """Raise DataLoss if the name now stands for another file than the one being read."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            raise DataLoss(f"{self._path} has vanished while it was followed") from None
        with self._lock:
            mine = os.fstat(self._raw.fileno())
        if (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino):
            raise DataLoss(f"{self._path} was replaced by another file while it was followed")

    def close(self) -> None:
        """Close the file, once nobody reads any more."""
        with self._lock:
            if self._gzip is not None:
                self._gzip.close()
            self._raw.close()

    def _unzip(self, file: gzip.GzipFile) -> bytes:
        """About a chunk. What a broken file still gives is delivered before its error."""
        if self._error is not None:
            raise self._broken(self._error) from self._error
        parts: list[bytes] = []
        size = 0
        while size < CHUNK:
            try:
                part = file.read1(CHUNK)
            except (EOFError, OSError, zlib.error) as error:
                if not parts:
                    raise self._broken(error) from error
                self._error = error
                break
            if not part:
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _broken(self, error: Exception) -> ReflowError:
        return ReflowError(
            f"{self._path} is no complete gzip file, from byte {self.offset} of its content: {error}"
        )

"""Local state in RocksDB: a directory per lane, a column family per store, one memory budget per engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

import msgspec
from rocksdict import Options, Rdict, RdictIter, ReadOptions, WriteBatch

from reflow_kafka.errors import StateError
from reflow_kafka.rocksfiles import lacking, log_fault, manifest_fault, manifest_note
from reflow_kafka.state.directory import Directory, LaneDirectories
from reflow_kafka.state.ordered import after
from reflow_kafka.state.store import Changes, LaneStores, StoreMark
from reflow_kafka.state.tuning import MIB, Tuning

log = logging.getLogger(__name__)

_MARK: Final = b"mark"  # in the default column family, which holds nothing else
_STORE: Final = "store."  # before the names of stores, so that none can be called "default"
_TOUCH_EVERY: Final = 60.0

_encode_mark = msgspec.json.Encoder().encode
_decode_mark = msgspec.json.Decoder(StoreMark).decode

_BROKEN: Final = ("Corruption", "IO error")
_LOCKED: Final = ("lock hold by current process", "While lock file")


class RocksBackend:
    """Keeps the state of lanes below ``<data_dir>/<flow>/lane-<p>``; see `StateBackend`.

    Block cache and write buffers are shared by all lanes, so that memory does not grow with their number.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        cache_bytes: int = 64 * MIB,
        write_buffer_bytes: int = 64 * MIB,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._tuning = Tuning(cache_bytes, write_buffer_bytes)
        self._directories = LaneDirectories(data_dir, clock)
        self._directories.sweep()
        self._used: dict[tuple[str, int], Path] = {}

    def open(self, flow: str, lane: int, stores: Iterable[str]) -> LaneStores:
        """Open the lane's most recent usable state. What is corrupt is set aside: it opens empty then.

        Raises:
            StateError: the disk is full, not writable, or broken.
        """
        names = list(stores)
        self._directories.sweep(flow)
        busy: set[Path] = set()
        while True:
            held = self._directories.take(flow, lane, busy)
            try:
                opened = RocksStores(held, names, self._tuning.options, self._clock)
            except Exception as e:
                message = str(e)
                if any(text in message for text in _LOCKED):
                    # Held without our own lock: by another program, or by an iterator somebody kept.
                    held.release()
                    busy.add(held.path)
                elif held.fresh or lacking(message):
                    held.release()
                    raise StateError(f"cannot open {held.path}: {lacking(message) or message}") from e
                else:
                    self._directories.set_aside(held, message)
                continue
            self._used[flow, lane] = held.path
            return opened

    def set_aside(self, flow: str, lane: int, reason: str) -> None:
        """Rename the directory that this engine used last for the lane; it goes after a day."""
        path = self._used.pop((flow, lane), None)
        held = self._directories.hold(path) if path else self._directories.take(flow, lane)
        if held is not None:
            self._directories.set_aside(held, reason)

    def kept(self, flow: str) -> frozenset[int]:
        """Lanes that have a directory."""
        return self._directories.lanes(flow)

    def close(self) -> None:
        """Nothing to do: cache and buffers go with the last lane."""


class RocksStores:
    """The stores of one lane in one RocksDB; see `LaneStores`."""

    def __init__(
        self, held: Directory, names: list[str], options: Callable[[], Options], clock: Callable[[], float]
    ) -> None:
        self._held = held
        self._clock = clock
        self._touched = clock()
        self._scans: WeakSet[_Scan] = WeakSet()
        self._families: dict[str, Rdict] = {}
        self._handles: dict[str, Any] = {}
        path = str(held.path)
        if fault := held.damaged or log_fault(held.path) or manifest_fault(held.path, held.note):
            raise _Damaged(fault)
        present = set(Rdict.list_cf(path)) if (held.path / "CURRENT").exists() else set()
        families = {"default", *present, *(_STORE + name for name in names)}
        self._db: Rdict | None = Rdict(path, options(), {family: options() for family in families})
        try:
            data = self._db.get(_MARK)
            self._mark: StoreMark | None = None if data is None else _decode_mark(data)
            self._forget_others(self._db, names, present - {"default"}, options)
            self._families = {name: self._db.get_column_family(_STORE + name) for name in names}
            self._handles = {name: self._db.get_column_family_handle(_STORE + name) for name in names}
            held.touch(self._touched, manifest_note(held.path))
        except BaseException:
            self._drop()
            raise

    def _forget_others(
        self, db: Rdict, names: list[str], present: set[str], options: Callable[[], Options]
    ) -> None:
        """Empty every store that the mark gives no position: what it holds is of no known age.

        Stores that the flow no longer has lose their position first, so that dying in between does no harm.
        """
        positions = self._mark.positions if self._mark is not None else {}
        if missing := {_STORE + name for name in positions} - present:
            raise _Damaged(f"there should be {', '.join(sorted(missing))}, too")
        if self._mark is not None and not positions.keys() <= set(names):
            positions = {name: at for name, at in positions.items() if name in names}
            self._mark = replace(self._mark, positions=positions)
            db[_MARK] = _encode_mark(self._mark)
        for family in present - {_STORE + name for name in positions}:
            db.drop_column_family(family)
            if family.removeprefix(_STORE) in names:
                db.create_column_family(family, options())

    def mark(self) -> StoreMark | None:
        """What is known about the content."""
        return self._mark

    def get(self, store: str, key: bytes) -> bytes | None:
        """The value of a key.

        Raises:
            StateError: the store is closed, or the disk is broken.
        """
        try:
            value: bytes | None = self._families[store].get(key)
        except Exception as e:
            raise self._failed(e, store) from e
        return value

    def scan(self, store: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys that start with `prefix`, in byte order, as they are now: later writes are not seen."""
        return self.range(store, prefix, after(prefix))

    def range(self, store: str, start: bytes, end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys from `start` to before `end` (empty: to the last), as `scan` gives them."""
        try:
            reading = ReadOptions()
            if end:
                reading.set_iterate_upper_bound(end)
            rows = self._families[store].iter(reading)
            rows.seek(start)
        except Exception as e:
            raise self._failed(e, store) from e
        scan = _Scan(self, store, rows, reading)
        self._scans.add(scan)
        return scan

    def write(self, changes: Changes, mark: StoreMark) -> None:
        """Apply changes and mark in one atomic step; see `LaneStores.write`."""
        if not changes.keys() <= mark.positions.keys():
            raise ValueError(f"no position for {sorted(changes.keys() - mark.positions.keys())}")
        try:
            batch = WriteBatch(raw_mode=True)
            put, delete = batch.put, batch.delete
            for store, pairs in changes.items():
                handle = self._handles[store]
                for key, value in pairs:
                    if value is None:
                        delete(key, handle)
                    else:
                        put(key, value, handle)
            put(_MARK, _encode_mark(mark))
            self._open_db().write(batch)
        except Exception as e:
            raise self._failed(e, ", ".join(changes)) from e
        self._mark = mark
        if (now := self._clock()) - self._touched > _TOUCH_EVERY:
            self._touched = now
            self._touch(now)

    def close(self) -> None:
        """Close; the content stays. Scans that are still open end with an error."""
        if self._db is not None:
            self._drop()
            self._touch(self._clock())
            self._held.release()

    def _touch(self, now: float) -> None:
        try:
            self._held.touch(now, manifest_note(self._held.path))
        except OSError:  # a full disk is told by the next write, not by a note
            log.warning("cannot note that %s is in use", self._held.path, exc_info=True)

    def _drop(self) -> None:
        """Close RocksDB: its lock goes only with the last object that refers to it."""
        for scan in list(self._scans):
            scan.drop()
        self._scans.clear()
        opened, self._db = [*self._families.values(), self._open_db()], None
        self._families.clear()
        self._handles.clear()
        for each in opened:
            self._flush(each)

    def _flush(self, opened: Rdict) -> None:
        """Close one; what a full disk does not take of it stays in the write-ahead log."""
        try:
            opened.close()
        except Exception as e:
            message = lacking(str(e)) or str(e)
            log.warning("%s was closed with its last changes in the log only: %s", self._held.path, message)

    def _open_db(self) -> Rdict:
        if self._db is None:
            raise StateError("the store is closed")
        return self._db

    def _failed(self, error: Exception, stores: str) -> Exception:
        """What to raise for an error of RocksDB; a corrupt directory is not used again."""
        if self._db is None:
            return StateError(f"{self._held.path} ({stores}): the store is closed")
        if type(error) is not Exception:  # RocksDB's are plain ones: this is the caller's
            return error
        message = str(error)
        cause = lacking(message)
        if cause is None and message.startswith(_BROKEN):
            self._held.damage(message)
        return StateError(f"{self._held.path} ({stores}): {cause or message}")


class _Scan:
    """An iterator that can be taken away: RocksDB stays locked as long as one exists."""

    def __init__(self, stores: RocksStores, store: str, rows: RdictIter, reading: ReadOptions) -> None:
        self._stores = stores
        self._store = store
        self._rows: RdictIter | None = rows
        # The upper bound lies in the options, and rocksdict's iterator does not keep them: without this
        # reference it compares with freed memory and ends anywhere.
        self._reading = reading

    def __iter__(self) -> _Scan:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        rows = self._rows
        try:
            if rows is None:
                raise StateError("the store was closed during a scan")
            if rows.valid():
                pair: tuple[bytes, bytes] = rows.key(), rows.value()
                rows.next()
                return pair
            # An unreadable block ends an iterator like the end of the data does.
            rows.status()
        except Exception as e:
            raise self._stores._failed(e, self._store) from e
        raise StopIteration

    def drop(self) -> None:
        self._rows = None


class _Damaged(Exception):
    """The directory was found to be unusable earlier."""

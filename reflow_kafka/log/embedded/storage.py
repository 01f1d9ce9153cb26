"""Where the embedded log keeps its batches: one RocksDB, one write per change."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from rocksdict import DBCompressionType, DBRecoveryMode, Options, Rdict, RdictIter, WriteBatch

from reflow_kafka.errors import LogError
from reflow_kafka.log.api import CommittedPosition, TopicKind, TopicPartition, TopicSpec
from reflow_kafka.log.embedded.layout import (
    BATCH,
    OFFSET,
    PARTITION,
    Position,
    Topic,
    decode_batch,
    encode_batch,
    end_of,
)
from reflow_kafka.log.embedded.note import Note, damage
from reflow_kafka.log.local import Change, Contents, LocalBatch
from reflow_kafka.rocksfiles import lacking

log = logging.getLogger(__name__)


class RocksStorage:
    """A `Storage` on RocksDB in `path`; what must be found there again is noted beside it.

    Every change is in the write-ahead log, that is, with the operating system, when `write` returns: killing
    the process loses nothing. It is not forced to the disk: losing power may lose the last moments, but never
    a part of a change. What is damaged is refused, as far as it shows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_suffix(".note")
        self._db: Rdict | None = None
        self._numbers: dict[str, int] = {}

    # --- life

    def open(self) -> Contents:
        """Open the database and read all but the batches.

        Raises:
            LogError: it is damaged, or the disk is, or the machine lacks something.
        """
        try:
            if fault := damage(self.path, Note.read(self._note)):
                raise self._damaged(fault)
            self._db = Rdict(str(self.path), _options())
            contents = self._contents()
            self.note()
        except LogError:
            raise
        except Exception as error:
            if cause := lacking(str(error)):
                raise LogError(f"cannot open the embedded log in {self.path}: {cause}") from error
            raise self._damaged(str(error) or repr(error)) from error
        return contents

    def note(self) -> None:
        """Note what the files are now."""
        try:
            Note.of(self.path).write(self._note)
        except OSError as error:  # (a full disk is told by the next write)
            log.warning("cannot note the state of %s: %s", self.path, error)

    def _damaged(self, why: str) -> LogError:
        return LogError(
            f"the embedded log in {self.path} is damaged or cannot be read: {why}: restore it from a copy "
            f"together with {self._note} (remove that one if the copy has none), or remove {self.path} and "
            f"{self._note} to start anew, without its events"
        )

    def _contents(self) -> Contents:
        contents = Contents()
        names: dict[int, str] = {}
        for key, value in self.scan(b"T"):
            topic, name = msgspec.msgpack.decode(value, type=Topic), key[1:].decode()
            self._numbers[name] = topic.number
            names[topic.number] = name
            contents.topics[name] = TopicSpec(name, topic.partitions, TopicKind(topic.kind))
        for prefix, offsets in ((b"S", contents.starts), (b"E", contents.ends)):
            for key, value in self.scan(prefix):
                _, number, partition = PARTITION.unpack(key)
                offsets[TopicPartition(names[number], partition)] = OFFSET.unpack(value)[0]
        for key, value in self.scan(b"P"):
            _, number, partition = PARTITION.unpack_from(key)
            held = contents.positions.setdefault(key[PARTITION.size :].decode(), {})
            position = msgspec.msgpack.decode(value, type=Position)
            tp = TopicPartition(names[number], partition)
            held[tp] = CommittedPosition(position.offset, position.metadata)
        return contents

    def close(self) -> None:
        """Close the database. No iterator outlives its function, which would keep RocksDB's own lock."""
        if self._db is not None:
            self._db.close()
            self._db = None
            self.note()

    @property
    def db(self) -> Rdict:
        """The open database."""
        if self._db is None:
            raise LogError("the embedded log is closed")
        return self._db

    # --- changes

    def write(self, change: Change) -> None:
        """Keep a change: one write batch."""
        batch = WriteBatch(raw_mode=True)
        for spec in change.topics:
            number = self._numbers.setdefault(spec.name, len(self._numbers))
            topic = Topic(number, spec.partitions, spec.kind.value)
            batch.put(b"T" + spec.name.encode(), msgspec.msgpack.encode(topic))
        for tp, records in change.batches:
            batch.put(self.batch_key(tp, records.base), encode_batch(records))
        for tp, end in change.ends.items():
            batch.put(self.key(b"E", tp), OFFSET.pack(end))
        for tp, position in change.positions.items():
            value = msgspec.msgpack.encode(Position(position.offset, position.metadata))
            batch.put(self.key(b"P", tp) + change.flow.encode(), value)
        for tp, start in change.starts.items():
            batch.put(self.key(b"S", tp), OFFSET.pack(start))
            batch.delete_range(self.batch_key(tp, 0), self._first_kept(tp, start, change))
        self.commit(batch)
        if change.topics:  # from now on there is something to be missed
            self.note()

    def commit(self, batch: WriteBatch) -> None:
        """Write a write batch."""
        try:
            self.db.write(batch)
        except Exception as error:
            cause = lacking(str(error)) or error
            raise LogError(f"the embedded log in {self.path} cannot be written: {cause}") from error

    def _first_kept(self, tp: TopicPartition, start: int, change: Change) -> bytes:
        """The key of the batch that `start` falls into, or of `start` itself if there is none."""
        if start >= change.ends.get(tp, start + 1):
            return self.batch_key(tp, start)
        cursor = self.db.iter()
        cursor.seek_for_prev(key := self.batch_key(tp, start))
        found = _key_in(cursor, self.key(b"B", tp))
        return found or key

    # --- reading

    def next_batch(self, partition: TopicPartition, offset: int, limit: int) -> LocalBatch | None:
        """The first batch with an end above `offset` and a base below `limit`.

        Raises:
            LogError: it cannot be read.
        """
        if offset >= limit:
            return None
        try:
            return self._next_batch(partition, offset, limit)
        except LogError:
            raise
        except Exception as error:
            raise LogError(
                f"{partition.topic}[{partition.partition}] cannot be read from offset {offset} on: {error}; "
                f"the embedded log in {self.path} is damaged"
            ) from error

    def _next_batch(self, partition: TopicPartition, offset: int, limit: int) -> LocalBatch | None:
        key = self.batch_key(partition, offset)
        # Mostly one batch begins where the last one ended: then there is nothing to search for. Batches are
        # not kept as objects when written: they would grow cold, and to free them then costs more than to
        # decode again (W4 of the benchmarks: 165 against 190 thousand events per CPU second).
        value = self.db.get(key)
        if value is not None:
            return decode_batch(offset, value)
        return self._search(partition, offset, limit)

    def _search(self, tp: TopicPartition, offset: int, limit: int) -> LocalBatch | None:
        cursor = self.db.iter()
        prefix = self.key(b"B", tp)
        cursor.seek_for_prev(self.batch_key(tp, offset))
        found = _key_in(cursor, prefix)
        if found is None or end_of(cursor.value()) <= offset:
            cursor.seek(self.batch_key(tp, offset + 1))
            found = _key_in(cursor, prefix)
        if found is None:
            return None
        base: int = BATCH.unpack(found)[3]
        return decode_batch(base, cursor.value()) if base < limit else None

    def scan(self, prefix: bytes, start: bytes = b"") -> list[tuple[bytes, bytes]]:
        """All keys with this prefix, from `start` on. Only for what is small."""
        cursor = self.db.iter()
        cursor.seek(start or prefix)
        found = []
        while (key := _key_in(cursor, prefix)) is not None:
            found.append((key, cursor.value()))
            cursor.next()
        cursor.status()  # an unreadable block ends an iterator like the end of the data does
        return found

    # --- keys

    def key(self, kind: bytes, tp: TopicPartition) -> bytes:
        """The key of something there is once per partition."""
        return PARTITION.pack(kind, self._numbers[tp[0]], tp[1])

    def batch_key(self, tp: TopicPartition, base: int) -> bytes:
        """The key of the batch at `base`."""
        return BATCH.pack(b"B", self._numbers[tp[0]], tp[1], base)


def _key_in(cursor: RdictIter, prefix: bytes) -> bytes | None:
    """The key under the cursor if it has this prefix."""
    if not cursor.valid():
        return None
    key: bytes = cursor.key()
    return key if key.startswith(prefix) else None


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    # The last record may be torn. By default all records behind a damaged one are left out without a word.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    # Most of an edge is trimmed before it sinks to the bottom: only what stays is compressed.
    options.set_compression_type(DBCompressionType.none())
    options.set_bottommost_compression_type(DBCompressionType.lz4())
    # Batches are written once, read soon and deleted in ranges: large buffers spare most of the rewriting.
    options.set_write_buffer_size(32 * 1024 * 1024)
    options.set_max_write_buffer_number(4)
    # A stalled write would hold the interpreter lock, and with it the whole process.
    options.set_level_zero_slowdown_writes_trigger(40)
    options.set_level_zero_stop_writes_trigger(80)
    options.set_max_total_wal_size(256 * 1024 * 1024)
    options.set_keep_log_file_num(2)
    return options

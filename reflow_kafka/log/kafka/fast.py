"""Shorter ways through aiokafka for what is done once per record, or in vain, and nothing else.

* `shorten_reading`: records of a fetch come as the C extension makes them, a batch at a time, instead of one
  by one through a generator and a dataclass: 0.65 → 0.15 µs per record, a fifth of all that W1 of the
  benchmarks costs per event.
* `shorten_writing`: a record goes straight to the C extension's builder: 0.17 → 0.12 µs per record. It has
  slots: to look up attributes of an object whose class was exchanged costs more than is saved otherwise.

A reader that finds nothing for a while also asks less often: an idle lane takes 0.3 instead of 0.46 ms of CPU
per second, and a quarter of the requests.

Both change single objects, never the library. At import they are tried on a batch made here; if the library
behaves in any other way than expected they do nothing, and everything takes the public path.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import logging
import weakref
from bisect import bisect_left
from functools import partial
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

logger = logging.getLogger("reflow_kafka.log.kafka")

_offset_of = attrgetter("offset")
_NO_HEADERS: Final[list[Any]] = []
IDLE_WAIT: Final = 2000
"""Milliseconds for which a broker may wait for records on behalf of a reader that has had none for long."""

# aiokafka has few annotations.
_Records: Any = PartitionRecords
_Builder: Any = BatchBuilder


def shorten_reading(consumer: Any) -> None:
    """Let a started consumer return records as they are unpacked."""
    if USABLE:
        fetcher = consumer._fetcher
        fetcher.__class__ = _BatchFetcher
        fetcher._usual = fetcher._fetch_max_wait_ms


def shorten_writing(builder: Any) -> Any:
    """A builder like this new one, with a shorter `append`, whose arguments may be given by position."""
    return (_DirectBuilder if USABLE else _UsualBuilder)(builder)


class _UsualBuilder(_Builder):  # type: ignore[misc]
    """The library's own."""

    def __init__(self, builder: Any) -> None:
        for name, value in vars(builder).items():
            setattr(self, name, value)

    def append(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Any = _NO_HEADERS
    ) -> Any:
        return super().append(timestamp=timestamp, key=key, value=value, headers=headers)


class _DirectBuilder(_UsualBuilder):
    """No serialisers, no copies of arguments; a builder is closed only by being full, or to be sent."""

    __slots__ = ("_buffer", "_builder", "_closed", "_relative_offset")
    _closed: bool
    _relative_offset: int

    def append(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Any = _NO_HEADERS
    ) -> Any:
        if self._closed:
            return None
        count = self._relative_offset
        added = self._builder.append(count, timestamp, key, value, headers)
        if added is None:
            self._closed = True
            return None
        self._relative_offset = count + 1
        return added


class _BatchFetcher(Fetcher):
    """aiokafka's fetcher, whose results are unpacked batch by batch, and which asks less often when idle."""

    _fetch_max_wait_ms: int
    _usual: int
    """How long a broker may wait for records before it answers, in ms …"""
    _patience = 0
    """… and how long when nothing has come lately."""

    def _get_actions_per_node(self, assignment: Any) -> Any:
        # Records that wait to be taken keep their partitions out of the next request, and until that is
        # answered nothing is asked for them: so it may be a long one only if it asks for all of them.
        self._fetch_max_wait_ms = self._usual if self._records else max(self._usual, self._patience)
        return super()._get_actions_per_node(assignment)

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> Any:
        news = await super()._proc_fetch_request(assignment, node_id, request)
        self._patience = 0 if news else min(2 * max(self._usual, self._patience), IDLE_WAIT)
        for result in self._records.values():
            # The library asks for the very class, so it is the one object that is changed.
            if type(result) is FetchResult and type(result._partition_records) is PartitionRecords:
                records: Any = result._partition_records
                records.__class__ = _BatchRecords
                records._records_iterator = None  # it refers to the records: a cycle
                records.batch = None
                result.getall = partial(_getall, weakref.proxy(result))  # type: ignore[method-assign]
        return news


def _getall(result: Any, max_records: int | None = None) -> list[Any]:
    """`FetchResult.getall`."""
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return []
    records: list[Any]
    records, more = result._partition_records.take(max_records)
    result._update_position()
    if not more:
        result._partition_records = None
    return records


class _BatchRecords(_Records):  # type: ignore[misc]
    """What a fetch found in one partition; `take` is `_unpack_records` for many records at once."""

    next_fetch_offset: int
    _records: Any
    batch: Any
    """The one that is being unpacked."""
    unpacked: Any
    """The rest of its records."""

    def take(self, limit: int | None) -> tuple[list[Any], bool]:
        """The next records, at most `limit`, and whether there may be more."""
        taken: list[Any] = []
        try:
            while limit is None or len(taken) < limit:
                if self.batch is None and not self._open_batch():
                    return taken, False
                taken += self._unpack(None if limit is None else limit - len(taken))
        except BaseException:
            self._records = self.batch = None  # nothing behind it: all of it is fetched again
            raise
        return taken, True

    def _unpack(self, limit: int | None) -> list[Any]:
        records = list(islice(self.unpacked, limit))
        if limit is None or len(records) < limit:
            # Not the last record's offset plus one: compaction may have removed what came behind it.
            after, self.batch = self.batch.next_offset, None
        else:
            after = records[-1].offset + 1
        if records and records[0].offset < self.next_fetch_offset:  # a batch is fetched as a whole
            del records[: bisect_left(records, self.next_fetch_offset, key=_offset_of)]
        self.next_fetch_offset = max(self.next_fetch_offset, after)
        return records

    def _open_batch(self) -> bool:
        """Go on to the next batch with records to be seen; whether there is one."""
        while self._records is not None and self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if self._is_visible(batch):
                self.batch = batch
                self.unpacked = chain(batch)  # which may be iterated over only once
                return True
            self.next_fetch_offset = batch.next_offset
        return False

    def _is_visible(self, batch: Any) -> bool:
        if self._isolation_level == READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return False
        return not batch.is_control_batch


_METHODS: Final[dict[Any, tuple[str, ...]]] = {
    Fetcher: ("_proc_fetch_request", "_get_actions_per_node"),
    FetchResult: ("check_assignment", "has_more", "_update_position", "getall"),
}


def _find_fault() -> str | None:
    """What is not as expected in this version of the library; None if all is."""
    try:
        builder = _DirectBuilder(_Builder(1 << 16, 0, is_transactional=1))
        for i in range(3):
            builder.append(i, b"k%d" % i, b"v", [("h", b"x")] if i else [])
        builder._set_producer_state(7, 0, 0)
        data = bytes(builder._build())
        arguments = (TopicPartition("t", 0), MemoryRecords(data), None, 1, None, None, True, READ_COMMITTED)
        wanted = [_content(record) for record in PartitionRecords(*arguments)]
        records = _Records(arguments[0], MemoryRecords(data), *arguments[2:])
        records.__class__ = _BatchRecords
        records.batch = None
        first, more = records.take(1)
        rest, end = records.take(10)
        found = [_content(record) for record in first + rest]
        if len(wanted) != 2 or found != wanted or not more or end or records.next_fetch_offset != 3:
            return f"read {found}, wanted {wanted}"
        for kind, methods in _METHODS.items():
            for method in methods:
                getattr(kind, method)
    except Exception as error:
        return repr(error)
    return None


def _content(record: Any) -> tuple[Any, ...]:
    return record.offset, record.timestamp, record.key, record.value, list(record.headers)


_fault = _find_fault()
USABLE: Final = _fault is None
"""Whether the library is as expected."""
if not USABLE:
    logger.warning("reading and writing take longer than they could with this aiokafka: %s", _fault)

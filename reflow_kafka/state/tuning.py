"""How RocksDB is set up: small values, points read and written, many stores within one memory budget."""

from __future__ import annotations

from typing import Final

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    WriteBufferManager,
)

MIB: Final = 1024 * 1024


class Tuning:
    """The memory that all stores of a process share, and the options that make them share it."""

    def __init__(self, cache_bytes: int, write_buffer_bytes: int) -> None:
        self._cache = Cache(cache_bytes)
        # Stalling would stop the whole process, because writes hold the GIL: the budget is a soft one.
        self._buffers = WriteBufferManager(write_buffer_bytes, False)
        self._write_buffer = max(MIB, write_buffer_bytes // 4)

    def options(self) -> Options:
        """Options for a database or a column family."""
        table = BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_bloom_filter(10, False)
        # Indexes and filters count against the cache. They are cut into small blocks: one for a million keys
        # would be larger than a shard of the cache, and be read from disk for every single get.
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        table.set_index_type(BlockBasedIndexType.two_level_index_search())
        table.set_partition_filters(True)
        table.set_pin_top_level_index_and_filter(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_block_based_table_factory(table)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_write_buffer_manager(self._buffers)
        options.set_write_buffer_size(self._write_buffer)
        # The default arena, an eighth of the write buffer, is charged to every store however little it holds.
        options.set_arena_block_size(64 * 1024)
        options.set_max_write_buffer_number(6)
        options.set_memtable_prefix_bloom_ratio(0.02)
        options.set_memtable_whole_key_filtering(True)
        # Marks and data stay together even if a write-ahead log is lost: all stores are flushed as one.
        options.set_atomic_flush(True)
        # A stalled write holds the GIL: rather let level 0 grow, reads have bloom filters.
        options.set_level_zero_file_num_compaction_trigger(4)
        options.set_level_zero_slowdown_writes_trigger(64)
        options.set_level_zero_stop_writes_trigger(256)
        options.set_soft_pending_compaction_bytes_limit(0)
        options.set_hard_pending_compaction_bytes_limit(0)
        options.set_max_background_jobs(4)
        # Many lanes share the process' file descriptors and its disk.
        options.set_max_open_files(128)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(MIB)
        options.set_stats_dump_period_sec(0)
        options.set_stats_persist_period_sec(0)
        options.set_skip_stats_update_on_db_open(True)
        return options

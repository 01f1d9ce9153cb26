"""`reflow-kafka consume`: a topic of either log as JSON lines."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reflow_kafka.cli.program import log_options, topic
from reflow_kafka.errors import OffsetOutOfRange, UsageError

if TYPE_CHECKING:
    from reflow_kafka.log.access import Access
    from reflow_kafka.log.api import Reader, Record, TopicPartition
    from reflow_kafka.security import Security


@click.command()
@topic
@log_options
@click.option(
    "--from-beginning/--from-end",
    default=True,
    show_default=True,
    show_envvar=True,
    help="Where to begin.",
)
@click.option(
    "--until-end/--follow",
    default=True,
    show_default=True,
    show_envvar=True,
    help="Stop at what was the end at the start, or wait for more until Ctrl-C.",
)
@click.option("--max-events", type=click.IntRange(1), show_envvar=True, help="Stop after so many events.")
@click.option(
    "--envelope",
    is_flag=True,
    show_envvar=True,
    help='Lines are {"key", "value", "partition", "offset", "timestamp", "headers"} instead of the value.',
)
def consume(
    topic: str,
    bootstrap: str | None,
    security: Security | None,
    data_dir: Path,
    from_beginning: bool,
    until_end: bool,
    max_events: int | None,
    envelope: bool,
) -> None:
    """Write the events of TOPIC to standard output, one JSON line each, in order within a partition.

    Only what is committed is shown. Nothing is remembered: it joins no group.
    """
    if until_end and not from_beginning:
        raise click.UsageError("--from-end has nothing to read without --follow.")
    if bootstrap is None and not os.path.exists(data_dir):
        raise UsageError(
            f"there is no embedded log in {data_dir}: give its --data-dir, or --bootstrap for Kafka"
        )
    try:
        asyncio.run(
            _consume(topic, bootstrap, security, data_dir, from_beginning, until_end, max_events, envelope)
        )
    except KeyboardInterrupt:
        if until_end:
            raise


async def _consume(
    topic: str,
    bootstrap: str | None,
    security: Security | None,
    data_dir: Path,
    from_beginning: bool,
    until_end: bool,
    max_events: int | None,
    envelope: bool,
) -> None:
    from reflow_kafka.cli.records import envelope_line, plain_line
    from reflow_kafka.log.access import count_of, open_access
    from reflow_kafka.log.api import TopicPartition

    out = sys.stdout.buffer
    async with open_access(bootstrap, data_dir, security=security) as access:
        partitions = [TopicPartition(topic, number) for number in range(await count_of(access, topic))]
        ends = await access.end_offsets(partitions)
        starts = await access.start_offsets(partitions) if from_beginning else ends
        reader = access.reader()
        try:
            reader.assign(starts)
            async for page in _pages(access, reader, starts, ends if until_end else None):
                for tp, record in page[:max_events]:
                    line = envelope_line(record, tp.partition) if envelope else plain_line(record)
                    out.write(line + b"\n")
                out.flush()
                if max_events is not None and (max_events := max_events - len(page)) <= 0:
                    return
        finally:
            await reader.close()


async def _pages(
    access: Access,
    reader: Reader,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int] | None,
) -> AsyncIterator[list[tuple[TopicPartition, Record]]]:
    """What is read at a time, up to `ends` if they are given."""
    unfinished = [tp for tp in starts if ends is None or starts[tp] < ends[tp]]
    while unfinished:
        try:
            fetched = await reader.fetch(unfinished)
        except OffsetOutOfRange as error:  # trimmed meanwhile: what is left begins further on
            for tp, start in (await access.start_offsets(list(error.positions))).items():
                reader.seek(tp, start)
            fetched = {}
        yield [
            (tp, record)
            for tp, records in fetched.items()
            for record in records
            if ends is None or record.offset < ends[tp]
        ]
        if ends is not None:
            unfinished = [tp for tp in unfinished if reader.position(tp) < ends[tp]]

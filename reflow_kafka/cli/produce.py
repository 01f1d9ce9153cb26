"""`reflow-kafka produce`: JSON lines into a topic of either log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from reflow_kafka.cli.program import log_options, topic
from reflow_kafka.definition.check import MAX_PARTITIONS
from reflow_kafka.errors import UsageError

if TYPE_CHECKING:
    from reflow_kafka.security import Security

_CHUNK = 1 << 20


@click.command()
@topic
@click.argument("file", type=click.File("rb"), default="-")
@log_options
@click.option("--key", metavar="FIELD", show_envvar=True, help="Field of the value that is the event's key.")
@click.option(
    "--envelope",
    is_flag=True,
    show_envvar=True,
    help='Lines are {"key", "value", "timestamp", "headers"}; only value is required.',
)
@click.option(
    "--create",
    type=click.IntRange(1, MAX_PARTITIONS),
    metavar="PARTITIONS",
    show_envvar=True,
    help="Create the topic with so many partitions if it does not exist.",
)
def produce(
    topic: str,
    file: BinaryIO,
    bootstrap: str | None,
    security: Security | None,
    data_dir: Path,
    key: str | None,
    envelope: bool,
    create: int | None,
) -> None:
    """Write the JSON lines of FILE (standard input by default) to TOPIC, one event per line.

    A key decides the partition as in Kafka's own clients; events without key are spread.
    """
    if envelope and key is not None:
        raise click.UsageError("--key and --envelope exclude each other: an envelope holds its key.")
    sent = asyncio.run(_produce(topic, file, bootstrap, security, data_dir, key, envelope, create))
    click.echo(f"{_events(sent)} written to {topic}", err=True)


async def _produce(
    topic: str,
    file: BinaryIO,
    bootstrap: str | None,
    security: Security | None,
    data_dir: Path,
    key: str | None,
    envelope: bool,
    create: int | None,
) -> int:
    from reflow_kafka.cli.records import parser, told
    from reflow_kafka.log.access import open_access
    from reflow_kafka.log.api import OutRecord, TopicKind, TopicSpec
    from reflow_kafka.serde.keys import partition_of

    parse = parser(envelope=envelope, key=key)
    lines = sent = 0
    async with open_access(bootstrap, data_dir, security=security) as access:
        if create is not None:
            await access.ensure_topics([TopicSpec(topic, create, TopicKind.EXTERNAL)])
        count = (await access.partition_counts([topic]))[topic]
        if count is None:
            raise UsageError(f"there is no topic {topic!r}: --create PARTITIONS makes it")
        async for chunk in _chunks(file):
            batches: defaultdict[int, list[OutRecord]] = defaultdict(list)
            failure: UsageError | None = None
            for line in chunk:
                lines += 1
                if not line.strip():
                    continue
                try:
                    record = parse(line.strip())
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    failure = told(lines, error)
                    break
                # Without key: in turns, so that all partitions get the same.
                place = lines % count if record.key is None else partition_of(record.key, count)
                batches[place].append(record)
            for partition, records in batches.items():
                await access.publish(topic, partition, records)
                sent += len(records)
            if failure is not None:
                raise UsageError(f"{failure}; {_events(sent)} before it written")
    return sent


def _events(count: int) -> str:
    return f"{count:,} event{'' if count == 1 else 's'}"


async def _chunks(file: BinaryIO) -> AsyncIterator[list[bytes]]:
    """The lines as they come: what somebody types is written at once, a file in large pieces."""
    read = getattr(file, "read1", file.read)
    rest = b""
    while data := await asyncio.to_thread(read, _CHUNK):
        *lines, rest = (rest + data).split(b"\n")
        yield lines
    yield [rest]

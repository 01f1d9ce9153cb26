"""`reflow-kafka topics`: create the topics of flows and verify those that are there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reflow_kafka.cli.program import load_flows, log_options, targets

if TYPE_CHECKING:
    from reflow_kafka.flow import Flow
    from reflow_kafka.log.api import Log
    from reflow_kafka.security import Security


@dataclass(frozen=True, slots=True)
class Row:
    """A topic as it is after the command."""

    flow: str
    topic: str
    kind: str
    partitions: int
    created: bool


@click.command()
@targets
@log_options
@click.option(
    "--json",
    "as_json",
    envvar="REFLOW_TOPICS_JSON",
    is_flag=True,
    show_envvar=True,
    help="One JSON object per topic.",
)
def topics(
    targets: tuple[str, ...],
    app_dir: Path,
    bootstrap: str | None,
    security: Security | None,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Create the topics that flows need and verify those that are there.

    A worker does the same when it starts; this command is for doing it beforehand, with other rights perhaps.
    """
    from reflow_kafka.observe.logging import configure

    configure("WARNING")
    rows = asyncio.run(create_topics(load_flows(targets, app_dir), bootstrap, data_dir, security=security))
    if as_json:
        for row in rows:
            click.echo(json.dumps(asdict(row)))
    else:
        click.echo(_table(rows))


async def create_topics(
    flows: Sequence[Flow],
    bootstrap: str | None,
    data_dir: Path,
    *,
    security: Security | None = None,
    drop_edges: Collection[str] = (),
) -> list[Row]:
    """Create and verify the topics of flows, as an engine does when it starts."""
    log = _open(bootstrap, data_dir, security)
    await log.start()
    try:
        return [row for flow in flows for row in await _create(flow, log, drop_edges)]
    finally:
        await log.stop()


def _open(bootstrap: str | None, data_dir: Path, security: Security | None) -> Log:
    if bootstrap is not None:
        from reflow_kafka.log.kafka.log import KafkaLog

        return KafkaLog(bootstrap, security=security)
    from reflow_kafka.log.embedded import EmbeddedLog

    return EmbeddedLog(data_dir, serve=False)


async def _create(flow: Flow, log: Log, drop_edges: Collection[str]) -> list[Row]:
    from reflow_kafka.engine.preparation import prepare
    from reflow_kafka.topology.plan import external_topics
    from reflow_kafka.topology.planner import make_plan
    from reflow_kafka.topology.topics import topic_specs

    spec = flow.spec()
    planned = make_plan(spec, await log.partition_counts(external_topics(spec)))
    before = await log.partition_counts([topic.name for topic in topic_specs(planned)])
    topics = topic_specs(await prepare(spec, log, drop_edges=drop_edges))
    after = await log.partition_counts([topic.name for topic in topics])
    return [
        Row(
            flow=spec.name,
            topic=topic.name,
            kind=topic.kind.value,
            partitions=after[topic.name] or topic.partitions,
            created=before.get(topic.name) is None,
        )
        for topic in topics
    ]


def _table(rows: Sequence[Row]) -> str:
    cells = [("FLOW", "TOPIC", "KIND", "PARTITIONS", "")]
    cells += [(r.flow, r.topic, r.kind, str(r.partitions), "created" if r.created else "") for r in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)
